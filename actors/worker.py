"""One of the workers of a batch whose input is of many files: a stage of Ray Data, which hands it blocks of items.

All blocks that it holds share one window (`orchestrator.batch.feed`), and what leaves is carried away by whichever of them
has its turn: a call carries as many items as it brought, and not its own. So nothing waits for the slowest item of its block,
and at most one block of what is answered is on its way to the disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack
from queue import Empty, SimpleQueue
from typing import Any

import pyarrow as pa
import ray
from ray.exceptions import RayError

from actors.connected import application
from actors.foreman import NEWS_S, Hired, Told
from actors.window import ApplicationWindow
from actors.within import WithinWindow, within
from orchestrator.batch.asking import Asker
from orchestrator.batch.costs import judging_of, worst_of
from orchestrator.batch.feed import Done, Feed
from orchestrator.batch.folder import Unwritable
from orchestrator.batch.items import Wrong
from orchestrator.batch.leases import LentPurse
from orchestrator.batch.lines import paid_usd
from orchestrator.batch.planning import NoPrice
from orchestrator.batch.schedule import Purse, Schedule
from orchestrator.errors import OrchestratorError
from orchestrator.types import Json

CARRIED = 32
"""Items that are handed on at a time, if so many are there."""


class Worker:
    """What Ray Data calls with blocks, of several threads."""

    def __init__(self, foreman: Any) -> None:
        self._foreman = foreman
        self._out: SimpleQueue[Done] = SimpleQueue()
        self._turn = threading.Lock()
        """Of the call that carries away."""
        self._told: list[Told] = []
        self._lending: asyncio.Task[None] | None = None
        self._refused = False
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="asking", daemon=True).start()
        asyncio.run_coroutine_threadsafe(self._begin(), self._loop).result()

    def __call__(self, block: pa.Table) -> Iterator[pa.Table]:
        """A block of items becomes lines of as many."""
        rows = list(zip(block["id"].to_pylist(), block["content"].to_pylist(), strict=True))
        self._loop.call_soon_threadsafe(self._add, rows)
        with self._turn:
            left = len(rows)
            while left:
                carried = [self._out.get()]
                while len(carried) < min(left, CARRIED):
                    try:
                        carried.append(self._out.get_nowait())
                    except Empty:
                        break
                left -= len(carried)
                kept = [(one.item, one.lines) for one in carried if one.lines is not None]
                if kept:
                    ids, lines = zip(*kept, strict=True)
                    yield pa.table({"id": pa.array(ids, pa.string()), "lines": pa.array(lines, pa.binary())})
        # Before its last block counts as done: whoever looks then finds nothing lent but to workers that were lost.
        asyncio.run_coroutine_threadsafe(self._rest(), self._loop).result()

    def _add(self, rows: list[tuple[str, bytes]]) -> None:
        self._feed.add(rows)
        self._asker.wake()

    async def _begin(self) -> None:
        worker = ray.get_runtime_context().get_actor_id()
        hired: Hired = await self._foreman.hire.remote(worker)
        job, self._window = hired
        self._purse = Purse(None) if job.spec.budget_usd is None else LentPurse(self._short, self._window)
        self._feed = Feed(
            job.spec,
            worst_of(job.config),
            self._out.put,
            judging=judging_of(job.config, job.spec),
            chosen=job.chosen,
            had=job.had,
        )
        stack = AsyncExitStack()
        window: ApplicationWindow | WithinWindow
        if job.attached:
            window = ApplicationWindow(await application())
        else:
            window = await stack.enter_async_context(within(job.config))
        self._asker: Asker[Any] = Asker(
            Schedule(self._feed.arms(), self._window, self._purse),
            window,
            self._write,
            concurrency=self._window,
            began_at=job.began_at,
            scorer=job.spec.scorer(),
        )
        self._tasks = [asyncio.ensure_future(one) for one in (self._ask(stack), self._tell(), self._hear())]

    def _write(self, line: Json) -> None:
        self._feed.write(line)
        self._told.append((line["arm"], line["outcome"], paid_usd(line)))

    async def _ask(self, stack: AsyncExitStack) -> None:
        try:
            while not self._asker.stopping.is_set() and not self._refused:
                await self._asker.ask()
                if self._lending is not None:
                    await self._lending
        except NoPrice as error:
            await self._fail(error)
        except Wrong as error:
            await self._fail(Unwritable(str(error)))
        except Exception as error:
            await self._fail(Unwritable(f"{type(error).__name__}: {error}"))
            raise
        finally:
            # First: whatever fails at the end, no block waits for it.
            self._feed.give_up()
            await self._asker.end()
            await self._settle()
            await stack.aclose()

    async def _rest(self) -> None:
        """Keeps no money while there is nothing to be asked."""
        if self._lending is not None:
            await self._lending
        if self._feed.idle:
            await self._settle()

    async def _settle(self) -> None:
        """Gives back what it was lent and has not spent."""
        try:
            if isinstance(self._purse, LentPurse) and (usd := self._purse.empty()):
                await self._foreman.take_back.remote(usd)
        except RayError:
            return  # nobody is there who counts

    async def _fail(self, reason: OrchestratorError) -> None:
        try:
            await self._foreman.fail.remote(reason)
        except RayError:
            return  # nobody is there to be told: the driver says so

    def _short(self, worst_usd: float) -> None:
        if self._lending is None and not self._refused:
            self._lending = asyncio.ensure_future(self._borrow(worst_usd))

    async def _borrow(self, worst_usd: float) -> None:
        assert isinstance(self._purse, LentPurse)
        try:
            usd = await self._foreman.lend.remote(worst_usd, 2 * worst_usd * self._window)
        except RayError:
            usd = 0.0
        self._refused = not usd
        self._purse.add(usd)
        self._lending = None
        self._asker.wake()

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(NEWS_S)
            told, self._told = self._told, []
            try:
                if told:
                    await self._foreman.tell.remote(told)
            except RayError:
                return

    async def _hear(self) -> None:
        # Without who lends and counts, nothing more is begun either.
        with contextlib.suppress(RayError):
            await self._foreman.stopping.remote()
        self._asker.stop()
