"""A run: the window is kept full, what comes is written down and made durable, until all is done or it is told to stop.

One loop decides, and a second one makes durable: neither waits for the other. A place in the window is free as soon as an
answer has come; a pair counts as done when its line is on the disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Sequence
from math import inf
from typing import Generic, Protocol, TypeVar

from orchestrator.asks import Ask
from orchestrator.batch.folder import SYNC_LINES, SYNC_S, Folder
from orchestrator.batch.lines import Came, cost_of, failure_of, line_of
from orchestrator.batch.schedule import PATIENCE_S, Pair, Schedule, is_later, wait_s
from orchestrator.batch.tally import Progress
from orchestrator.types import Json

STOP_S = 1.5
"""How long what is in flight may take when a run is told to stop: `ray job stop` kills 3 s after it has asked."""
LOOK_S = 0.2
"""How often the progress is looked at."""

H = TypeVar("H")


class Window(Protocol[H]):
    """What is in flight."""

    def start(self, ask: Ask) -> H:
        """Asks; returns at once."""
        ...

    async def ready(self) -> Sequence[H]:
        """Waits until some of what was started is answered; which. Each comes once."""
        ...

    async def outcome(self, flight: H) -> Came:
        """What came of one that is ready; raises nothing."""
        ...

    def stop(self, flight: H) -> None:
        """Nobody waits for it any more: what it caused is to end, upstream too."""
        ...


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
        finish: Callable[[Json], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.stopping = asyncio.Event()
        """Set: nothing more is begun, and what is in flight has `STOP_S`."""
        self._schedule = schedule
        self._window = window
        self._folder = folder
        self._progress = progress
        self._concurrency = concurrency
        self._began_at = began_at
        self._finish = finish
        """Adds to a line what is found out here, such as its score."""
        self._clock = clock
        self._wall = wall
        self._rng = random.Random(0)  # noqa: S311 - jitter
        self._flying: dict[H, tuple[Pair, float]] = {}
        self._unsynced: list[tuple[str, str, float | None]] = []
        self._full = asyncio.Event()
        """A group of lines is complete."""
        self._writing = asyncio.Lock()

    async def run(self) -> None:
        """Returns when all is done, there is no money for the rest, or it was told to stop; whatever came is durable then.

        Raises OSError where the results cannot be written.
        """
        tasks = [asyncio.ensure_future(self._keep_durable()), asyncio.ensure_future(self._look())]
        asking = asyncio.ensure_future(self._ask())
        try:
            await asyncio.wait([asking, *tasks], return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()
            await asking
        finally:
            for task in (asking, *tasks):
                task.cancel()
            await asyncio.wait([asking, *tasks])
            for flight in self._flying:
                self._window.stop(flight)
        await self._sync()

    async def _ask(self) -> None:
        """Keeps the window full."""
        stopped = asyncio.ensure_future(self.stopping.wait())
        ready: asyncio.Future[Sequence[H]] | None = None
        until_s = inf
        try:
            while True:
                now_s = self._clock()
                if not self.stopping.is_set():
                    self._fill(now_s)
                elif until_s == inf:
                    until_s = now_s + STOP_S
                if now_s >= until_s or (not self._flying and (self.stopping.is_set() or self._is_over())):
                    return
                if ready is None and self._flying:
                    ready = asyncio.ensure_future(self._window.ready())
                waits = {one for one in (ready, None if self.stopping.is_set() else stopped) if one is not None}
                wake_s = min(until_s, inf if self.stopping.is_set() else self._schedule.wake_s())
                # Nothing is due at once that could not be begun: the window is full, and an answer is what there is to wait
                # for.
                timeout_s = None if wake_s == inf else max(0.01, wake_s - now_s)
                await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
                if ready is not None and ready.done():
                    for flight in ready.result():
                        await self._came(flight)
                    ready = None
        finally:
            stopped.cancel()
            if ready is not None:
                ready.cancel()
                await asyncio.wait([ready])

    def _is_over(self) -> bool:
        """With nothing in flight: whether there is nothing that could still be asked."""
        return self._schedule.out_of_money or self._schedule.wake_s() == inf

    def _fill(self, now_s: float) -> None:
        while len(self._flying) < self._concurrency and (pair := self._schedule.next(now_s)) is not None:
            self._flying[self._window.start(pair.asked.ask)] = (pair, self._clock())

    async def _came(self, flight: H) -> None:
        pair, asked_s = self._flying.pop(flight)
        came = await self._window.outcome(flight)
        now_s = self._clock()
        purse = self._schedule.purse
        counted = purse.settle(pair.worst_usd, cost_of(came))
        failure = failure_of(came)
        if failure is not None and is_later(failure) and now_s - pair.first_s < PATIENCE_S:
            if not self.stopping.is_set():
                self._schedule.again(pair, now_s + wait_s(failure, pair.asks, self._rng.random()))
            # Told to stop, it is not written down: it will be asked when the run goes on.
            return
        at = self._wall()
        line = line_of(
            pair,
            came,
            at=at,
            start_s=at - (now_s - asked_s) - self._began_at,
            seen_s=now_s - asked_s,
            counted_usd=None if purse.budget_usd == inf else counted,
        )
        self._finish(line)
        self._folder.append(line)
        self._unsynced.append((pair.arm, line["outcome"], line["cost_usd"]))
        if self._folder.pending >= SYNC_LINES:
            self._full.set()

    async def _keep_durable(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._full.wait(), SYNC_S)
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
