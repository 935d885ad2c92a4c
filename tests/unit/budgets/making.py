"""Requests that pay into budgets, and coordinators over one ledger, without a cluster."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.accounting import Asked, Ended
from orchestrator.asks import Ask
from orchestrator.budgets.accounts import Answer
from orchestrator.budgets.accounts import Ask as Question
from orchestrator.budgets.lending import Lending
from orchestrator.budgets.purse import Purse
from orchestrator.callers import Caller
from orchestrator.config.settings import Budgets, Config, Provider, Retry, Strategy, Tier
from orchestrator.errors import LedgerFailed
from orchestrator.pricing.book import Prices
from orchestrator.pricing.price import Price
from orchestrator.routes import Candidate, Route
from orchestrator.types import Failure, FailureKind, Request

PRICE = Price(input_per_mtok_usd=0.0, output_per_mtok_usd=1.0)
"""A cent for 10,000 tokens that are written."""


def config(budgets: Budgets | None = None, experiments: Mapping[str, Tier] | None = None) -> Config:
    retry = Retry(attempts=1)
    return Config(
        {"p": Provider("p", retry=retry)},
        {},
        budgets=budgets or Budgets(),
        experiments=experiments or {},
        prices=Prices({"p/m": PRICE, "p/free": Price(input_per_mtok_usd=0.0, output_per_mtok_usd=0.0)}),
    )


def asked(
    config: Config,
    *,
    tokens: int = 10_000,
    user: str | None = "john",
    caller: Caller | None = None,
    model: str = "m",
    selector: str | None = None,
    at_s: float = 0.0,
) -> Asked:
    """A request for at most so many tokens: 10,000 are a cent."""
    request = Request({"messages": [], "max_tokens": tokens})
    route = Route(selector or f"p/{model}", Strategy("first"), (Candidate("p", model),))
    return Asked(Ask(route.selector, request, None, "r", user, caller), route, config, at_s)


def ended(asked: Asked, cost_usd: float | None, attempts: Sequence[Mapping[str, Any]] | None = None) -> Ended:
    """How it went, as far as budgets are concerned."""
    if attempts is None:
        attempts = [{"cost_usd": cost_usd, "outcome": "ok"}]
    report = {"cost_usd": cost_usd, "attempts": attempts}
    return Ended(asked, Failure(FailureKind.INTERNAL, ""), report, 0.0, None, {})


class Replica:
    """A coordinator's purse, and what posts its batches."""

    def __init__(self, lending: Lending, name: str, *, every_s: float = 0.03, post_s: float = 0.005) -> None:
        self._spent: Counter[str] = Counter()
        self._returned: Counter[str] = Counter()
        self.purse = Purse(self, name, self._tell, clock=asyncio.get_running_loop().time)
        self.dead = self.closed = False
        self._lending = lending
        self._every_s, self._post_s = every_s, post_s
        self._posting = asyncio.ensure_future(self._post_on())

    async def _post_on(self) -> None:
        while not self.closed:
            await asyncio.sleep(self._every_s)
            await self.post()

    async def post(self) -> None:
        """One batch."""
        spent, self._spent = self._spent, Counter()
        returned, self._returned = self._returned, Counter()
        if spent or returned:
            await asyncio.sleep(self._post_s)
            self._lending.settled(self.purse.writer, +spent, +returned)
            await asyncio.sleep(self._post_s)
            self.purse.acknowledged(+spent, +returned)

    def _tell(self, account: str, *, spent: int = 0, returned: int = 0) -> None:
        self._spent[account] += spent
        self._returned[account] += returned

    async def lease(self, ask: Question, wait_s: float) -> Answer:
        """The line to the ledger, while it lives."""
        if self.dead:
            raise LedgerFailed("dead")
        answer = await self._lending.lease(ask, wait_s)
        if self.dead:
            raise LedgerFailed("dead")
        return answer

    def kill(self) -> None:
        """It tells nothing any more."""
        self.dead = True
        self._posting.cancel()

    async def aclose(self) -> None:
        self.closed = True
        await self.purse.aclose()
        if not self.dead:
            await self._posting
            await self.post()


class Disk:
    """Where leases are written: takes its time, and may be full."""

    def __init__(self, write_s: float = 0.002) -> None:
        self.write_s = write_s
        self.leases: dict[tuple[str, str], int] = {}
        self.writes = 0

    async def write(
        self, changes: Sequence[tuple[str, str, int]], limits: Mapping[str, int]
    ) -> Mapping[str, tuple[int, Mapping[str, int]]]:
        await asyncio.sleep(self.write_s)
        self.writes += 1
        for writer, account, units in changes:
            self.leases[writer, account] = self.leases.get((writer, account), 0) + units
        return {}


def row(lending: Lending) -> dict[str, Any]:
    """Its only account."""
    (found,) = lending.accounts.rows()
    return found
