"""Asking: a window is kept full of what a schedule says, and what comes becomes lines, scored.

Whoever runs it takes the lines: a run of one process (`orchestrator.batch.runner`), or a worker of many (`actors.worker`).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from math import inf
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from orchestrator.asks import Ask
from orchestrator.batch.grading import OPINIONS
from orchestrator.batch.items import judging
from orchestrator.batch.lines import Came, cost_of, failure_of, line_of, text_of
from orchestrator.batch.schedule import PATIENCE_S, Pair, Schedule, is_later, wait_s
from orchestrator.batch.scoring import Opinion, Scorer
from orchestrator.money import on_grid
from orchestrator.types import Json

STOP_S = 1.5
"""How long what is in flight may take when a run is told to stop: `ray job stop` kills 3 s after it has asked."""

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


class _Flight(NamedTuple):
    """What is in flight: a pair, or a judge's opinion that somebody waits for."""

    pair: Pair | None
    asked_s: float
    opinion: asyncio.Future[Came] | None = None


class Asker(Generic[H]):
    """Asks what a schedule says. `write` takes the line of each pair that is done."""

    def __init__(
        self,
        schedule: Schedule,
        window: Window[H],
        write: Callable[[Json], None],
        *,
        concurrency: int,
        began_at: float,
        scorer: Scorer | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.stopping = asyncio.Event()
        """Set: nothing more is begun, and what is in flight has `STOP_S`."""
        self._schedule = schedule
        self._window = window
        self._write = write
        self._concurrency = concurrency
        self._began_at = began_at
        self._scorer = scorer
        self._clock = clock
        self._wall = wall
        self._rng = random.Random(0)  # noqa: S311 - jitter
        self._flying: dict[H, _Flight] = {}
        self._judging: set[asyncio.Task[None]] = set()
        self._moved = asyncio.Event()
        """Something has happened beside the window: told to stop, a judge was asked, or has come to an end."""

    def stop(self) -> None:
        """Tells it to stop: whatever is in flight then has `STOP_S`."""
        self.stopping.set()
        self._moved.set()

    def wake(self) -> None:
        """The schedule may have something that it had not."""
        self._moved.set()

    async def end(self) -> None:
        """Gives up what `ask` has left in flight."""
        for task in self._judging:
            task.cancel()
        if self._judging:
            await asyncio.wait(self._judging)
        for flight in self._flying:
            self._window.stop(flight)
        self._flying.clear()

    async def ask(self) -> None:
        """Keeps the window full. Returns when all is done, there is no money for the rest, or it was told to stop."""
        until_s = inf
        ready: asyncio.Future[Sequence[H]] | None = None
        try:
            while True:
                self._moved.clear()
                now_s = self._clock()
                if self.stopping.is_set():
                    until_s = min(until_s, now_s + STOP_S)
                else:
                    self._fill(now_s)
                if now_s >= until_s or self._is_over():
                    return
                if ready is None and self._flying:
                    ready = asyncio.ensure_future(self._window.ready())
                moved = asyncio.ensure_future(self._moved.wait())
                # What is due and was not begun waits for a place: for an answer, that is, and for no time.
                wake_s = min(until_s, inf if self.stopping.is_set() else self._schedule.wake_s(now_s))
                waits: set[asyncio.Future[Any]] = {moved} if ready is None else {moved, ready}
                timeout_s = None if wake_s == inf else wake_s - now_s
                await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
                moved.cancel()
                if ready is not None and ready.done():
                    flights, ready = ready.result(), None
                    for flight in flights:
                        await self._came(flight)
        finally:
            if ready is not None:
                ready.cancel()
                await asyncio.wait([ready])

    def _is_over(self) -> bool:
        """Whether nothing is in flight any more, and nothing could still be asked."""
        if self._flying or self._judging:
            return False
        return self.stopping.is_set() or self._schedule.out_of_money or self._schedule.is_over()

    def _fill(self, now_s: float) -> None:
        while len(self._flying) < self._concurrency and (pair := self._schedule.next(now_s)) is not None:
            self._flying[self._window.start(pair.asked.ask)] = _Flight(pair, self._clock())

    async def _came(self, handle: H) -> None:
        came = await self._window.outcome(handle)
        pair, asked_s, opinion = self._flying.pop(handle)
        if pair is None:
            if opinion is not None and not opinion.done():
                opinion.set_result(came)
            return
        now_s = self._clock()
        purse = self._schedule.purse
        cost = cost_of(came)
        pair.spend(cost, purse.settle(pair.worst_usd, cost))
        failure = failure_of(came)
        if failure is not None and is_later(failure) and now_s - pair.first_s < PATIENCE_S:
            # A run that was told to stop leaves it to the next one: it is not written down.
            purse.free(OPINIONS * pair.opinion_usd)
            self._schedule.again(pair, now_s + wait_s(failure, pair.asks, self._rng.random()))
            return
        at = self._wall()
        line = line_of(
            pair,
            came,
            at=at,
            start_s=at - (now_s - asked_s) - self._began_at,
            seen_s=now_s - asked_s,
            budgeted=purse.budget_usd != inf,
        )
        scorer = self._scorer if line["outcome"] == "ok" else None
        if scorer is not None and scorer.judge is not None:
            task = asyncio.ensure_future(self._judge(scorer, pair, line))
            self._judging.add(task)
            task.add_done_callback(self._judged)
            return
        purse.free(OPINIONS * pair.opinion_usd)
        if scorer is not None:
            cut = line.get("finish_reason") == "length"
            line["score"] = scorer.score(line["text"], line["expected"], cut=cut)._asdict()
        self._write(line)

    async def _judge(self, scorer: Scorer, pair: Pair, line: Json) -> None:
        messages = pair.asked.ask.request.body.get("messages") or ()
        cut = line.get("finish_reason") == "length"
        asked = 0

        async def ask(selector: str, messages: Sequence[Json]) -> Opinion:
            nonlocal asked
            asked += 1
            return await self._opinion(pair, selector, messages)

        scored = await scorer.judged(messages, line["text"], line["expected"], ask, cut=cut)
        purse = self._schedule.purse
        # Where there is nothing to be judged, nobody was asked.
        purse.free((OPINIONS - asked) * pair.opinion_usd)
        line["score"] = scored._asdict()
        if purse.budget_usd != inf and (pair.cost_usd is None or (asked and scored.cost_usd is None)):
            line["charged_usd"] = on_grid(pair.charged_usd)
        self._write(line)

    def _judged(self, task: asyncio.Task[None]) -> None:
        self._judging.discard(task)
        self._moved.set()

    async def _opinion(self, pair: Pair, selector: str, messages: Sequence[Json]) -> Opinion:
        """What a judge answers, asked again where it is not to be reached for a while."""
        first_s, asks, purse = self._clock(), 0, self._schedule.purse
        cost: float | None = 0.0
        while True:
            asks += 1
            opinion: asyncio.Future[Came] = asyncio.get_running_loop().create_future()
            self._flying[self._window.start(judging(selector, messages))] = _Flight(None, self._clock(), opinion)
            self._moved.set()
            came = await opinion
            failure, said = failure_of(came), cost_of(came)
            later = failure is not None and is_later(failure) and self._clock() - first_s < PATIENCE_S
            if not later or said != 0.0:
                pair.charged_usd += purse.settle(pair.opinion_usd, said)
                cost = None if cost is None or said is None else cost + said
                # What was set aside was for one that is billed.
                later = later and purse.take(pair.opinion_usd)
            if failure is None or not later:
                return Opinion(text_of(came), cost)
            await asyncio.sleep(wait_s(failure, asks, self._rng.random()))
