"""The ledger of a process while configurations come and go: it may appear, disappear, and be another one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from orchestrator.accounting import Allowance, Asked, Ended
from orchestrator.budgets.accounts import Answer, Ask
from orchestrator.budgets.payments import shown
from orchestrator.budgets.purse import Purse
from orchestrator.config.operations import Ledger
from orchestrator.lasting import Lasting
from orchestrator.ledger.asking import Asking
from orchestrator.ledger.recorder import Recorder
from orchestrator.ledger.records import Batch, KeyRow, Posted
from orchestrator.types import Json


class Desk(Protocol):
    """One ledger as a coordinator reaches it. All but `configure` raise LedgerFailed."""

    def configure(self, settings: Ledger) -> None:
        """Goes on by these settings, whose database is the same."""
        ...

    async def post(self, batch: Batch) -> Posted:
        """Returns when the batch is on disk."""
        ...

    async def spend(self, asked: Asking) -> Json:
        """What was spent."""
        ...

    async def lease(self, ask: Ask, wait_s: float) -> Answer:
        """Leases a part of a budget (`orchestrator.budgets.purse.Bank`)."""
        ...

    async def budgets(self) -> list[Json]:
        """How each budget stands, in units."""
        ...

    async def keys(self) -> tuple[KeyRow, ...]:
        """Callers' keys: see `orchestrator.keyring.KeyBook`."""
        ...

    async def put_key(self, row: KeyRow) -> None:
        """The same."""
        ...

    async def revoke_key(self, name: str, at_s: float) -> bool:
        """The same."""
        ...

    async def keys_version(self) -> int:
        """The same."""
        ...

    async def aclose(self) -> None:
        """Nothing more is asked of it."""
        ...


class Keeping:
    """An `Allowing` and an `Observer` that is there from the beginning, and keeps books where a configuration says so."""

    def __init__(self, lasting: Lasting, desk: Callable[[Ledger], Desk]) -> None:
        """Takes its place among those who keep account. `desk` makes one without waiting for anything."""
        self.recorder: Recorder | None = None
        """None: nothing is recorded."""
        self._purse: Purse | None = None
        self._settings: Ledger | None = None
        self._desk: Desk | None = None
        self._make = desk
        self._counters = lasting.counters
        self._closing: set[asyncio.Task[None]] = set()
        lasting.limiting += (_Required(self),)
        lasting.allowing += (self,)
        lasting.observers += (self,)

    def follow(self, settings: Ledger | None) -> None:
        """From now on this is the ledger. What the one before it has not acknowledged yet still goes there."""
        if settings == self._settings:
            return
        before, self._settings = self._settings, settings
        if before is not None and settings is not None and before.url == settings.url:
            assert self._desk is not None
            assert self.recorder is not None
            self._desk.configure(settings)
            self.recorder.required, self.recorder.store_text = settings.required, settings.store_text
            return
        self._leave()
        if settings is not None:
            self._desk = self._make(settings)
            self.recorder = Recorder(
                self._desk.post,
                counters=self._counters,
                required=settings.required,
                store_text=settings.store_text,
            )
            self._purse = Purse(self._desk, self.recorder.writer, self.recorder.settle)
            self.recorder.settled = self._purse.acknowledged
            self.recorder.start()

    def _leave(self) -> None:
        recorder, desk, purse = self.recorder, self._desk, self._purse
        self.recorder = self._desk = self._purse = None
        if recorder is not None and desk is not None and purse is not None:
            task = asyncio.ensure_future(_close(purse, recorder, desk))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    @property
    def desk(self) -> Desk | None:
        """The ledger that there is now."""
        return self._desk

    async def allow(self, asked: Asked) -> Allowance | None:
        """Reserves what the request may cost in its budgets. Raises Denied."""
        return None if self._purse is None else await self._purse.allow(asked)

    def ended(self, ended: Ended) -> None:
        """See `Recorder.ended`."""
        if self.recorder is not None:
            self.recorder.ended(ended)

    async def spend(self, asked: Asking) -> Json | None:
        """What was spent, and how the recorder is; None: there is no ledger. Raises LedgerFailed."""
        if self._desk is None or self.recorder is None:
            return None
        return {**await self._desk.spend(asked), **self.recorder.state()}

    async def budgets(self) -> list[Json] | None:
        """How each budget stands, in US dollars; None: there is no ledger. Raises LedgerFailed."""
        return None if self._desk is None else [shown(row) for row in await self._desk.budgets()]

    async def flush(self, limit_s: float) -> None:
        """Gives back what is leased, and waits until what has been noted is on disk, for so long."""
        if self.recorder is not None and self._purse is not None:
            self._purse.give_back()
            await self.recorder.flush(limit_s)

    async def aclose(self) -> None:
        """Posts what there is, within a few seconds, and ends."""
        self._leave()
        await asyncio.gather(*self._closing)


class _Required:
    """An `Allowing` of all requests, those among them that the cache answers: they are recorded as well."""

    def __init__(self, keeping: Keeping) -> None:
        self._keeping = keeping

    async def allow(self, _: Asked) -> None:
        """Raises Denied while a required ledger is away."""
        if self._keeping.recorder is not None:
            self._keeping.recorder.check()


async def _close(purse: Purse, recorder: Recorder, desk: Desk) -> None:
    await purse.aclose()
    await recorder.aclose()
    await desk.aclose()
