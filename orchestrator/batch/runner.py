"""A run: the window is kept full, what comes is scored, written down and made durable, until all is done or it is told to
stop.

One loop decides, and a second one makes durable: neither waits for the other. A place in the window is free as soon as an
answer has come; a pair counts as done when its line is on the disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from orchestrator.batch.asking import Asker, Window
from orchestrator.batch.folder import SYNC_LINES, SYNC_S, Folder
from orchestrator.batch.lines import paid_usd
from orchestrator.batch.schedule import Schedule
from orchestrator.batch.scoring import Scorer
from orchestrator.batch.tally import Progress
from orchestrator.types import Json

LOOK_S = 0.2
"""How often the progress is looked at."""

H = TypeVar("H")


class Runner(Generic[H]):
    """One run over a folder that is open."""

    def __init__(
        self,
        schedule: Schedule,
        window: Window[H],
        folder: Folder,
        progress: Progress,
        *,
        concurrency: int,
        began_at: float,
        scorer: Scorer | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.asker = Asker(
            schedule,
            window,
            self._write,
            concurrency=concurrency,
            began_at=began_at,
            scorer=scorer,
            clock=clock,
            wall=wall,
        )
        self._folder = folder
        self._progress = progress
        self._unsynced: list[tuple[str, str, float | None]] = []
        self._full = asyncio.Event()
        """A group of lines is complete."""
        self._writing = asyncio.Lock()

    async def run(self) -> None:
        """Returns when all is done, there is no money for the rest, or its asker was told to stop; whatever came is durable
        then.

        Raises Unwritable where the results cannot be.
        """
        tasks = [asyncio.ensure_future(one) for one in (self.asker.ask(), self._keep_durable(), self._look())]
        try:
            # The others go on until they are cancelled, or something is wrong.
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await self.asker.end()
            await self._sync()

    def _write(self, line: Json) -> None:
        self._folder.append(line)
        self._unsynced.append((line["arm"], line["outcome"], paid_usd(line)))
        if self._folder.pending >= SYNC_LINES:
            self._full.set()

    async def _keep_durable(self) -> None:
        while True:
            # Not `wait_for`: cancelled in the moment in which a group is complete, that of Python 3.11 forgets about it.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SYNC_S):
                    await self._full.wait()
            self._full.clear()
            # What has been begun is brought to its end, also where this is cancelled.
            await asyncio.shield(self._sync())

    async def _sync(self) -> None:
        async with self._writing:
            if self._folder.pending:
                done, self._unsynced = self._unsynced, []
                await asyncio.to_thread(self._folder.take_pending())
                for arm, outcome, cost in done:
                    self._progress.tally.add(arm, outcome, cost, here=True)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            self._progress.look()
