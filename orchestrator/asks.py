"""What the edges ask of a coordinator, and what they get."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from orchestrator.callers import Caller
from orchestrator.types import Failure, Finish, Json, Reply, Request


class Gone(Exception):
    """The caller went away: what a sink raises."""


class Ask(NamedTuple):
    """One request of a caller."""

    selector: str
    request: Request
    override: dict[str, Any] | None
    """The request's own choice: its `orchestrator` object, with OpenRouter's `models` as `fallbacks` and its `provider`."""
    request_id: str
    user: str | None = None
    """Who it is for: the key's own user, else what the request says."""
    caller: Caller | None = None
    """Whose key came with it; None: there are no keys, or it comes from within the cluster."""


@dataclass(frozen=True, slots=True)
class Answer:
    """How it went. `report` is the `orchestrator` object of contract §3; provider and model are the winner's."""

    outcome: Reply | Finish | Failure
    report: Json
    strategy: str
    provider: str | None = None
    model: str | None = None
    cost_usd: float | None = None
    """Of the winner's attempt alone; None: no price is known. That of the whole stands in the report."""


class Reloaded(NamedTuple):
    """What came of reading the configuration anew."""

    version: int
    """That is in use from then on."""
    problems: tuple[str, ...]
    """That kept the file from being taken over."""
    user_problems: tuple[str, ...] = ()
    """Those of users' files: the experiments in them are what they were."""


class Sink(Protocol):
    """Where a streamed answer goes. Both raise Gone where the caller has left."""

    async def open(self, provider: str, model: str, strategy: str, report: Json) -> None:
        """Called once, before the first chunk."""
        ...

    async def send(self, chunks: Sequence[bytes]) -> None:
        """Chunks as JSON, in order; returns when the caller can take more."""
        ...
