"""What the HTTP application stands on: coordinators, and what is above them."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from orchestrator.asks import Answer, Ask, Reloaded, Sink
from orchestrator.callers import Caller
from orchestrator.config.operations import CallerKey
from orchestrator.config.settings import Server
from orchestrator.counters import Counters
from orchestrator.ledger.asking import Asking
from orchestrator.types import Json


class Coordinating(Protocol):
    """What the application needs of a coordinator."""

    @property
    def server(self) -> Server: ...
    @property
    def callers(self) -> tuple[CallerKey, ...]: ...
    def hold(self) -> AbstractContextManager[None]: ...
    async def answer(self, ask: Ask) -> Answer: ...
    async def stream(self, ask: Ask, sink: Sink) -> Answer: ...
    def rollout(self, user: str) -> Json: ...
    async def models(self, caller: Caller | None = None) -> list[Json]: ...
    async def model(self, name: str, caller: Caller | None = None) -> Json | None: ...
    async def pools(self) -> list[Json]: ...
    async def ready(self) -> tuple[bool, Json]: ...


class Admin(Protocol):
    """What stands above coordinators."""

    @property
    def draining(self) -> bool:
        """Whether the application is being stopped: what is in flight goes on, nothing else is begun."""
        ...

    async def config(self) -> Json:
        """The configuration in use, without keys, and what is wrong with its file as it is now."""
        ...

    async def counters(self) -> Counters:
        """What was counted in all processes, as it is now. Raises Refused."""
        ...

    async def reload(self) -> Reloaded:
        """Has the file read now."""
        ...

    async def spend(self, asked: Asking) -> Json | None:
        """What was spent; None: there is no ledger. Raises LedgerFailed."""
        ...

    async def budgets(self) -> list[Json] | None:
        """How each budget stands; None: there is no ledger. Raises LedgerFailed."""
        ...
