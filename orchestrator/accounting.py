"""What stands beside a request: who may begin one, and who is told of how it ended.

A coordinator belongs to one configuration; those who keep account outlive it (`orchestrator.lasting`) and are shared by all
coordinators of a process. The order is fixed: the route is known, every `Allowing` of `limiting` is asked in turn, then the
cache, then every one of `allowing`, calls are made, the report is written, allowances are settled, and every `Observer` is
told, whether there was an answer, a failure, or nobody left to hear. So what the cache answers counts as a request, and needs
no budget.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from orchestrator.asks import Ask
from orchestrator.config.settings import Config
from orchestrator.drive import Record
from orchestrator.routes import Route
from orchestrator.tracing import Trace
from orchestrator.types import Failure, Finish, Json, Reply


class Asked(NamedTuple):
    """A request whose route is known and of which nothing has been sent yet."""

    ask: Ask
    route: Route
    config: Config
    """The one that the request began with."""
    at_s: float
    """When it began, in seconds since 1970."""
    trace: Trace | None = None
    """None: it is not traced."""


class Ended(NamedTuple):
    """A request that has come to its end."""

    asked: Asked
    outcome: Reply | Finish | Failure
    """`cancelled` where the caller left before the end."""
    report: Json
    """The `orchestrator` object of contract §3, as the caller got it or would have got it: its costs are what counts."""
    seconds: float
    """From its beginning to its outcome."""
    first_token_s: float | None
    """From its beginning to the first token for the caller; None where it was not streamed, or did not come so far."""
    arm_outcomes: Mapping[str, str]
    """Selector of each split that it went through -> what came of the arm itself."""
    records: Sequence[Record] = ()
    """What happened to each call: what the report's attempts are made of, in the same order."""
    text: str | None = None
    """What was streamed to the caller, where texts are kept (`ledger.store_text`) and it was one text and nothing else."""


class Allowance(Protocol):
    """What a request has been allowed to spend."""

    def settle(self, ended: Ended | None) -> None:
        """Called once, and never blocks. None: the request was not begun after all."""
        ...


class Allowing(Protocol):
    """Who may refuse a request before anybody is called: limits and budgets."""

    async def allow(self, asked: Asked) -> Allowance | None:
        """May wait for a moment. None: nothing is to be settled. Raises Denied."""
        ...


class Observer(Protocol):
    """Who is told of every request."""

    def ended(self, ended: Ended) -> None:
        """Never blocks, never raises."""
        ...
