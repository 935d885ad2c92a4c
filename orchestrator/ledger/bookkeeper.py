"""Who alone writes to the ledger's database: for all coordinators, in one process.

The database is called in threads, one that writes and one that reads, so that a long question holds up nobody. What has come
while a transaction was on its way goes into the next one together: a disk syncs once for all coordinators.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain, compress
from math import inf
from typing import Any, TypeVar

from orchestrator.budgets.accounts import Answer, Ask
from orchestrator.budgets.alerts import Alerts
from orchestrator.budgets.lending import Balances, Lending
from orchestrator.config import operations
from orchestrator.config.operations import Ledger
from orchestrator.errors import LedgerFailed
from orchestrator.ledger.asking import Asking
from orchestrator.ledger.records import Batch, KeyRow, Posted
from orchestrator.ledger.spend import spend
from orchestrator.ledger.store import Store
from orchestrator.types import Json

LOOK_S = 5.0
"""How often it looks for writers that are gone, and for keys that another process has changed."""
GONE_S = 30.0
"""A writer that was not heard of for so long is dead: what it had leased is spent."""
FORGET_S = 3_600.0
"""How often old records are deleted."""
PAUSE_S = 0.05
"""Between two pieces of that: what comes in is written meanwhile."""
DAY_S = 86_400.0

_log = logging.getLogger("orchestrator.ledger")
_T = TypeVar("_T")


class Bookkeeper:
    """Over one store. Its methods run on one event loop, and raise LedgerFailed.

    `forfeited(writer, {account: units})` is told of each dead writer that had leased something.
    """

    def __init__(
        self,
        store: Store,
        retention_days: int,
        *,
        alerts: operations.Alerts | None = None,
        forfeited: Callable[[str, Mapping[str, int]], None] | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.store = store
        self.retention_days = retention_days
        self._clock = clock
        # Silence is told by a clock that nobody sets, and that sleeps with the machine: by the other, one that wakes up would
        # bury everybody.
        self._monotonic = monotonic
        self._begun_s = monotonic()
        self._writer = ThreadPoolExecutor(1, "ledger-writer")
        self._reader = ThreadPoolExecutor(1, "ledger-reader")
        self._waiting: list[tuple[Batch, asyncio.Future[None]]] = []
        self._writing: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._heard: dict[str, float] = {}
        """Writer -> when it was last heard of, by that clock."""
        self._forfeited = forfeited
        self.alerts = Alerts(alerts or operations.Alerts(), partial(self.writing, store.note_alert))
        self._lending = Lending(self._grant)
        self._restoring = asyncio.Lock()
        self._restored = False
        self._keys_version: int | None = None
        self._forgotten_s = -inf
        self._said = False

    def start(self) -> None:
        """Begins to look after the database: writers that are gone, records that are old."""
        self._watching = asyncio.ensure_future(self._watch())

    async def aclose(self) -> None:
        """Writes what has come, and closes the database."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait((self._watching,))
        if self._writing is not None:
            await asyncio.wait((self._writing,))
        await self.alerts.aclose()
        # A thread that still reads keeps its connection: it comes to its end first.
        await asyncio.to_thread(self._reader.shutdown)
        await self.writing(self.store.close)
        self._writer.shutdown()

    async def post(self, batch: Batch) -> Posted:
        """Returns when the batch is on disk; at once for sequence 0, which only says that its writer is there."""
        self._heard[batch.writer] = self._monotonic()
        if batch.sequence:
            written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((batch, written))
            if self._writing is None or self._writing.done():
                self._writing = asyncio.ensure_future(self._write())
            await written
        accounts = self._lending.accounts
        given = [
            await self.alerts.look(account, *accounts.standing(account))
            for account in batch.spent
            if account in accounts
        ]
        return Posted(batch.sequence, await self.keys_version(), tuple(chain.from_iterable(given)))

    async def _write(self) -> None:
        while self._waiting:
            waiting, self._waiting = self._waiting, []
            problem = await self._written([batch for batch, _ in waiting])
            for batch, written in waiting:
                # Of several that failed together, one alone may be the reason.
                apart = problem is not None and not problem.passes and len(waiting) > 1
                alone = await self._written([batch]) if apart else problem
                if not written.done():
                    written.set_result(None) if alone is None else written.set_exception(alone)

    async def _written(self, batches: Sequence[Batch]) -> LedgerFailed | None:
        """What kept them from being written."""
        try:
            await self._restore()
            written = await self.writing(self.store.write_all, batches, self._clock())
        except LedgerFailed as error:
            return error
        # Nothing may come between the disk and the accounts: what is read from there later has it already.
        for batch in compress(batches, written):
            if batch.spent or batch.returned:
                self._lending.settled(batch.writer, batch.spent, batch.returned)
        if not all(written):
            # This process may have done so before, or another one since the accounts were read.
            self._restored = False
        return None

    async def lease(self, ask: Ask, wait_s: float) -> Answer:
        """Leases a part of a budget (`orchestrator.budgets.purse.Bank`)."""
        self._heard[ask.writer] = self._monotonic()
        await self._restore()
        return await self._lending.lease(ask, wait_s)

    async def budgets(self) -> list[Json]:
        """Each budget that was asked about or paid into: `account`, `limit`, `spent`, `leased` and `left`, in units."""
        await self._restore()
        return self._lending.accounts.rows()

    async def _restore(self) -> None:
        """Takes over what was spent and leased before this process, before anything changes; and again where it is not known
        what has become of a change."""
        async with self._restoring:
            if not self._restored:
                self._restored = True
                try:
                    self.alerts.restore(await self.writing(self.store.alerts))
                    await self._refresh()
                except BaseException:
                    self._restored = False
                    raise

    async def _refresh(self) -> None:
        """How accounts stand, by the database. It is read where it is written, so that nothing is missed in between."""
        spent, leases = await self.writing(self.store.balances)
        leased: dict[str, dict[str, int]] = {account: {} for account in spent}
        for (writer, account), units in leases.items():
            leased.setdefault(account, {})[writer] = units
        self._lending.refresh({account: (spent.get(account, 0), of) for account, of in leased.items()})

    async def _grant(self, leases: Sequence[tuple[str, str, int]], limits: Mapping[str, int]) -> Balances:
        try:
            return await self.writing(self.store.grant, leases, self._clock(), limits)
        except LedgerFailed:
            # What was handed in is still leased there, or all of it was written, and the answer lost.
            self._restored = False
            raise

    async def writing(self, work: Callable[..., _T], *arguments: Any) -> _T:
        """Runs a method of the store that writes: one after the other."""
        return await asyncio.get_running_loop().run_in_executor(self._writer, work, *arguments)

    async def reading(self, work: Callable[..., _T], *arguments: Any) -> _T:
        """Runs one that reads, beside those that write."""
        return await asyncio.get_running_loop().run_in_executor(self._reader, work, *arguments)

    async def spend(self, asked: Asking) -> Json:
        """What was spent (`orchestrator.ledger.spend`)."""
        return await self.reading(spend, self.store, asked)

    async def keys(self) -> tuple[KeyRow, ...]:
        """All callers' keys that the database holds."""
        return await self.reading(self.store.keys)

    async def put_key(self, row: KeyRow) -> None:
        """Adds a key, or replaces the one of its name."""
        await self.writing(self.store.put_key, row)
        self._keys_version = await self.writing(self.store.keys_version)

    async def revoke_key(self, name: str, at_s: float) -> bool:
        """Revokes a key. False: there is none that could be."""
        revoked = await self.writing(self.store.revoke_key, name, at_s)
        self._keys_version = await self.writing(self.store.keys_version)
        return revoked

    async def keys_version(self) -> int:
        """Grows with each change of the keys; what another process has changed is known a few seconds later."""
        if self._keys_version is None:
            self._keys_version = await self.reading(self.store.keys_version)
        return self._keys_version

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self.look()
                self._said = False
            except LedgerFailed as error:
                # Who has something to write is told as well, and says so.
                if not self._said:
                    _log.warning("the ledger cannot be looked after: %s", error)
                self._said = True

    async def look(self) -> None:
        """Looks after the database once: see `start`."""
        self._keys_version = await self.reading(self.store.keys_version)
        now_s = self._clock()
        if late := await self.reading(self.store.unseen, now_s - GONE_S / 2):
            # What a process has heard stands in the database only where somebody may ask: another ledger's process, that
            # shares the database, and knows only what stands there.
            if heard := [name for name in late if self._silent_s(name) <= GONE_S / 2]:
                await self.writing(self.store.seen, heard, now_s)
            # A ledger that comes back has not heard of anybody: they are given the time to come back as well.
            if self._monotonic() - self._begun_s > GONE_S:
                await self._bury(await self.reading(self.store.unseen, now_s - GONE_S))
        if self._lending.accounts.writers() - self._heard.keys():
            # Who posts to another ledger's process may have spent and given back what it had leased.
            await self._refresh()
        if self._monotonic() - self._forgotten_s > FORGET_S:
            self._forgotten_s = self._monotonic()
            while await self.writing(self.store.forget, now_s - self.retention_days * DAY_S):
                await asyncio.sleep(PAUSE_S)

    def _silent_s(self, writer: str) -> float:
        """For how long a writer was not heard of here."""
        return self._monotonic() - self._heard.get(writer, -inf)

    async def _bury(self, gone: Sequence[str]) -> None:
        for writer in gone:
            if self._silent_s(writer) > GONE_S:
                self._heard.pop(writer, None)
                lost = await self.writing(self.store.forfeit, writer)
                _log.warning("a coordinator is gone: what it had leased counts as spent (%d accounts)", len(lost))
                self._lending.forfeit(writer)
                if self._forfeited is not None:
                    self._forfeited(writer, lost)


class LocalDesk:
    """`orchestrator.ledger.keeping.Desk` with the bookkeeper in this process."""

    def __init__(self, settings: Ledger) -> None:
        self._bookkeeper = Bookkeeper(Store(settings.url), settings.retention_days, alerts=settings.alerts)
        self._bookkeeper.start()
        self.post = self._bookkeeper.post
        self.spend = self._bookkeeper.spend
        self.lease = self._bookkeeper.lease
        self.budgets = self._bookkeeper.budgets
        self.keys = self._bookkeeper.keys
        self.put_key = self._bookkeeper.put_key
        self.revoke_key = self._bookkeeper.revoke_key
        self.keys_version = self._bookkeeper.keys_version
        self.aclose = self._bookkeeper.aclose

    def configure(self, settings: Ledger) -> None:
        """See `Desk.configure`."""
        self._bookkeeper.retention_days = settings.retention_days
        self._bookkeeper.alerts.rules = settings.alerts
