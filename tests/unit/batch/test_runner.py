"""A run over a window that answers as it is told to: what is kept full, asked again, judged, stopped, and made durable."""

from __future__ import annotations

import asyncio
import io
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from orchestrator.asks import Ask
from orchestrator.batch import asking, runner, schedule
from orchestrator.batch.asking import Asker
from orchestrator.batch.feed import Done, Feed
from orchestrator.batch.folder import Folder, Unwritable
from orchestrator.batch.items import survey
from orchestrator.batch.lines import Came
from orchestrator.batch.planning import NoPrice, Plan, Wanted, plan_of
from orchestrator.batch.runner import Runner
from orchestrator.batch.schedule import Purse, Schedule
from orchestrator.batch.spec import load_spec
from orchestrator.batch.tally import Progress
from orchestrator.errors import CallFailed, OrchestratorError
from orchestrator.types import Failure, FailureKind, Json
from tests.unit.batch.given import answer, attempt, write_spec

K = FailureKind
JUDGE: Json = {"match": "judge", "judge": "sim/judge"}
Answering = Callable[[Ask, int], Came | float]
"""What comes of the how manieth request; a number: nothing, for so long."""


class Scripted:
    """A `Window`."""

    def __init__(self, answering: Answering, latency_s: float = 0.005) -> None:
        self.asks: list[Ask] = []
        self.peak = 0
        self.stopped: list[int] = []
        self._answering = answering
        self._latency_s = latency_s
        self._out: dict[int, Came] = {}
        self._flying: set[int] = set()
        self._wake = asyncio.Event()

    def start(self, ask: Ask) -> int:
        number = len(self.asks)
        self.asks.append(ask)
        self._flying.add(number)
        self.peak = max(self.peak, len(self._flying))
        came = self._answering(ask, number)
        latency_s = came if isinstance(came, float) else self._latency_s
        asyncio.get_running_loop().call_later(
            latency_s, self._land, number, answer() if isinstance(came, float) else came
        )
        return number

    def _land(self, number: int, came: Came) -> None:
        if number in self._flying:
            self._out[number] = came
            self._wake.set()

    async def ready(self) -> Sequence[int]:
        while not self._out.keys() & self._flying:
            await self._wake.wait()
            self._wake.clear()
        ready = sorted(self._out.keys() & self._flying)
        self._flying -= set(ready)
        return ready

    async def outcome(self, flight: int) -> Came:
        return self._out.pop(flight)

    def stop(self, flight: int) -> None:
        self.stopped.append(flight)


class Run:
    """A run in a folder."""

    def __init__(
        self,
        folder: Path,
        answering: Answering,
        *,
        latency_s: float = 0.005,
        worst: float | None = None,
        opinion: float | None = None,
        **keys: Any,
    ) -> None:
        self.spec = load_spec(write_spec(folder, [{"id": i, "prompt": "x", "answer": 42} for i in range(40)], **keys))
        surveyed = survey(self.spec.input, {}, "sim/a")
        self.folder = Folder(self.spec.output)
        self.folder.open(self.spec, surveyed.sha256, force=False, now_s=time.time())
        self.plan: Plan = plan_of(self.spec, surveyed, self.folder, Wanted())
        judged = None if self.spec.score != JUDGE else lambda *_: opinion
        self.schedule = self.plan.schedule(lambda _: worst, judged)
        self.window = Scripted(answering, latency_s)
        self.progress = Progress("n", self.plan.tally, io.StringIO())
        self.runner: Runner[int] = Runner(
            self.schedule, self.window, self.folder, self.progress, concurrency=self.spec.concurrency, began_at=time.time(),
            scorer=self.spec.scorer(),
        )  # fmt: skip

    async def go(self) -> list[Json]:
        """Runs it to its end; the lines of results."""
        try:
            await asyncio.wait_for(self.runner.run(), 20)
        finally:
            self.folder.close()
        return self.lines()

    def lines(self) -> list[Json]:
        return [json.loads(line) for line in Path(self.spec.output, "results.jsonl").read_text().splitlines()]


def right(_: Ask, __: int) -> Came:
    return answer("The answer is 42.")


async def test_the_window_is_kept_full(tmp_path: Path) -> None:
    """Never more than it holds; each pair has one line, scored where it came."""
    run = Run(tmp_path, right, concurrency=7, arms={"a": "sim/a", "b": "sim/b"}, score={"match": "number"})
    lines = await run.go()
    assert 7 == run.window.peak
    assert {(str(i), arm) for i in range(40) for arm in "ab"} == {(line["item"], line["arm"]) for line in lines}
    assert 80 == len(lines) == run.plan.tally.done == run.plan.tally.here
    assert all(line["score"]["correct"] and line["asks"] == 1 for line in lines)


async def test_a_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """Told to stop, it lets what is in flight come to its end, and begins nothing more."""
    run = Run(tmp_path, right, latency_s=0.05, concurrency=5)
    asyncio.get_running_loop().call_later(0.12, run.runner.asker.stop)
    first = await run.go()
    assert 0 < len(first) < 40
    assert (len(first), 0) == (len(run.window.asks), len(run.window.stopped))
    again = Run(tmp_path, right, concurrency=5)
    assert len(first) == again.plan.tally.done
    lines = await again.go()
    assert first == lines[: len(first)]
    assert sorted(map(str, range(40))) == sorted(line["item"] for line in lines)


async def test_what_takes_too_long_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is cancelled, and left to the next run."""
    monkeypatch.setattr(asking, "STOP_S", 0.1)
    run = Run(tmp_path, lambda _, number: 60.0 if number == 3 else answer(), concurrency=40)
    asyncio.get_running_loop().call_later(0.1, run.runner.asker.stop)
    lines = await run.go()
    assert (39, [3]) == (len(lines), run.window.stopped)


async def test_failures_of_the_moment_are_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others are written down as what they are."""
    monkeypatch.setattr(schedule, "WAIT_S", (0.01, 0.02))

    def moody(_: Ask, number: int) -> Came:
        if number == 0:
            return answer(K.BREAKER_OPEN)
        if number == 1:
            return CallFailed(Failure(K.POOL_LOST, "gone"))
        if number == 2:
            return answer(K.SILENT)
        return OrchestratorError("odd") if number == 3 else answer("fine")

    run = Run(tmp_path, moody, concurrency=40)
    lines = {line["item"]: line for line in await run.go()}
    assert [("ok", 2), ("ok", 2), ("timeout", 1), ("internal_error", 1), ("ok", 1)] == [
        (lines[str(i)]["outcome"], lines[str(i)]["asks"]) for i in range(5)
    ]
    assert (40, 2) == (run.plan.tally.done, run.plan.tally.failed)


async def test_an_outage_is_sat_out_for_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then it is a failure; who told it to stop meanwhile leaves it to the next run."""
    monkeypatch.setattr(schedule, "WAIT_S", (0.02, 0.05))
    monkeypatch.setattr(asking, "PATIENCE_S", 1.0)
    run = Run(tmp_path, lambda _, __: answer(K.BREAKER_OPEN), concurrency=40)
    lines = await run.go()
    assert {"breaker_open"} == {line["outcome"] for line in lines}
    assert min(line["asks"] for line in lines) > 1
    other = Run(tmp_path, lambda _, __: answer(K.BREAKER_OPEN), concurrency=40, output="other")
    asyncio.get_running_loop().call_later(0.1, other.runner.asker.stop)
    assert [] == await other.go()


async def test_the_budget_is_never_exceeded(tmp_path: Path) -> None:
    """It stops where the next request could cost too much; with more money, it goes on."""
    run = Run(tmp_path, lambda _, __: answer(cost_usd=0.5), worst=1.0, concurrency=5, budget_usd=5)
    lines = await run.go()
    assert run.schedule.out_of_money
    assert (9, 4.5) == (len(lines), sum(line["cost_usd"] for line in lines))
    again = Run(tmp_path, lambda _, __: answer(), worst=1.0, concurrency=5, budget_usd=8)
    lines = await again.go()
    # What nobody knows the cost of is charged with its worst case, in the next run, too.
    assert (12, [1.0] * 3) == (len(lines), [line["charged_usd"] for line in lines[9:]])
    assert 7.5 == Run(tmp_path, right, worst=1.0, budget_usd=8).plan.spent_usd


async def test_a_budget_without_prices_is_refused(tmp_path: Path) -> None:
    """Before anything is asked."""
    run = Run(tmp_path, right, budget_usd=5)
    with pytest.raises(
        NoPrice, match=r"budget_usd: cannot be kept: there is no price for all that arm 'a' may ask \(sim/a\)"
    ):
        await run.go()
    assert [] == run.window.asks


async def test_a_judge_is_asked_through_the_same_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice an answer, again where it is away for a moment; nothing is written before it has spoken."""
    monkeypatch.setattr(schedule, "WAIT_S", (0.01, 0.02))
    away: list[int] = []

    def judging(ask: Ask, number: int) -> Came:
        if ask.selector == "sim/judge":
            if len(away) < 3:
                away.append(number)
                return answer(K.PAUSED, [attempt(outcome="paused")])
            return answer('{"verdict": "correct"}', cost_usd=0.01)
        return answer("42") if number else answer(K.SILENT)

    run = Run(tmp_path, judging, concurrency=6, score=JUDGE)
    lines = await run.go()
    assert 40 == len(lines)
    assert 39 == sum(line["score"] is not None for line in lines)
    assert 40 + 2 * 39 + 3 == len(run.window.asks)
    assert {0.02} == {line["score"]["cost_usd"] for line in lines if line["score"]}
    assert round(39 * 0.02, 6) == round(run.schedule.purse.spent_usd, 6)


async def test_a_budget_holds_with_a_judge(tmp_path: Path) -> None:
    """Nothing is asked whose judge could take it over; what a judge costs counts, and counts in the next run."""
    most = 0.0

    def costly(ask: Ask, _: int) -> Came:
        nonlocal most
        purse = run.schedule.purse
        most = max(most, purse.spent_usd + purse.held_usd)
        if ask.selector == "sim/judge":
            return answer('{"correct": true}', cost_usd=0.25)
        return answer("42", cost_usd=0.5)

    run = Run(tmp_path, costly, worst=1.0, opinion=0.5, concurrency=9, score=JUDGE, budget_usd=5)
    lines = await run.go()
    # Each pair comes to 1 and may come to 2.
    assert (4, {0.5}, {0.5}) == (
        len(lines),
        {one["cost_usd"] for one in lines},
        {one["score"]["cost_usd"] for one in lines},
    )
    assert most <= 5
    assert run.schedule.out_of_money
    assert (4.0, 0.0) == (run.schedule.purse.spent_usd, run.schedule.purse.held_usd)
    again = Run(tmp_path, costly, worst=1.0, opinion=0.5, concurrency=9, score=JUDGE, budget_usd=7)
    assert (4.0, 4.0) == (again.plan.spent_usd, again.plan.tally.spent_usd)
    run = again
    assert 6 == len(await run.go())


async def test_a_judge_that_is_not_asked_costs_nothing(tmp_path: Path) -> None:
    """Where there is no answer, or nothing to judge it by."""

    def failing(_: Ask, number: int) -> Came:
        return answer(K.MALFORMED, cost_usd=0.5) if number % 2 else answer("", cost_usd=0.5)

    run = Run(tmp_path, failing, worst=1.0, opinion=2.0, concurrency=3, score=JUDGE, budget_usd=25)
    assert 40 == len(await run.go())
    assert (20.0, 0.0) == (run.schedule.purse.spent_usd, run.schedule.purse.held_usd)


async def test_what_nobody_knows_of_a_judge_is_charged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its worst case; a try that may have been billed is made again only where there is money for it."""
    monkeypatch.setattr(schedule, "WAIT_S", (0.01, 0.02))
    billed = [attempt(outcome="server_error", cost_is_estimate=True)]

    def unknown(ask: Ask, number: int) -> Came:
        if ask.selector != "sim/judge":
            return answer("42", cost_usd=0.5)
        return answer(K.PAUSED, billed) if number in (1, 2, 3) else answer('{"correct": true}')

    keys: Json = {"worst": 1.0, "opinion": 0.5, "concurrency": 1, "score": JUDGE}
    run = Run(tmp_path, unknown, **keys, budget_usd=2.5)
    (line,) = await run.go()
    # Both of its opinions twice: 0.5 of the answer, 1 of what failed, and there was enough for them again.
    assert (0.5, 2.5, None) == (line["cost_usd"], line["charged_usd"], line["score"]["cost_usd"])
    assert 5 == len(run.window.asks)
    assert 2.5 == Run(tmp_path, unknown, **keys, budget_usd=2.5).plan.spent_usd
    (tmp_path / "short").mkdir()
    run = Run(tmp_path / "short", unknown, **keys, budget_usd=2.0)
    (line,) = await run.go()
    assert (2.0, "the judge gave no verdict") == (line["charged_usd"], line["score"]["why"])
    assert 4 == len(run.window.asks)


async def test_a_judge_without_a_price_is_refused(tmp_path: Path) -> None:
    """As an arm is; without a budget it is nobody's concern."""
    run = Run(tmp_path, right, worst=1.0, score=JUDGE, budget_usd=5)
    with pytest.raises(NoPrice, match=r"no price for all that the judge may ask \(sim/judge\)"):
        await run.go()
    assert [] == run.window.asks
    (tmp_path / "free").mkdir()
    assert 40 == len(await Run(tmp_path / "free", right, score=JUDGE).go())


async def test_who_waits_for_a_judge_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the next run, where this one is told to stop."""
    monkeypatch.setattr(asking, "STOP_S", 0.1)
    run = Run(
        tmp_path, lambda ask, _: 60.0 if ask.selector == "sim/judge" else answer("42"), concurrency=6, score=JUDGE
    )
    asyncio.get_running_loop().call_later(0.1, run.runner.asker.stop)
    assert [] == await run.go()
    assert run.window.stopped


async def test_a_judges_late_answer_concerns_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waited for it has been told to stop."""
    monkeypatch.setattr(asking, "STOP_S", 0.3)
    run = Run(
        tmp_path, lambda ask, _: 0.05 if ask.selector == "sim/judge" else answer("42"), concurrency=4, score=JUDGE
    )

    def leave() -> None:
        for task in run.runner.asker._judging:
            task.cancel()
        run.runner.asker.stop()

    asyncio.get_running_loop().call_later(0.03, leave)
    assert len(await run.go()) < 40


async def test_a_full_disk_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the caller's to say so; nothing that was asked stays in flight."""
    run = Run(tmp_path, lambda _, number: 60.0 if number > 4 else answer(), concurrency=10)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(Unwritable, match=r"results\.jsonl cannot be written: No space left"):
        await run.go()
    assert [5, 6, 7, 8, 9, 10, 11, 12, 13, 14] == run.window.stopped


async def test_a_group_that_is_complete_at_the_end_holds_up_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last answer completes a group, and ends the run, in one moment."""
    monkeypatch.setattr(runner, "SYNC_LINES", 1)
    assert 40 == len(await Run(tmp_path, right, concurrency=1, latency_s=0.0).go())


async def test_lines_are_durable_in_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As soon as there are so many, or half a second has passed."""
    monkeypatch.setattr(runner, "SYNC_LINES", 10)
    monkeypatch.setattr(runner, "SYNC_S", 0.2)
    run = Run(tmp_path, lambda _, number: 1.5 if number >= 25 else answer(), concurrency=40)
    task = asyncio.ensure_future(run.go())
    while run.plan.tally.done < 25:
        await asyncio.sleep(0.01)
    assert 25 == len(run.lines())
    run.runner.asker.stop()
    await task


async def test_who_has_more_wakes_who_asks(tmp_path: Path) -> None:
    """A schedule that is fed has nothing for a while: it is asked again when it is told to."""
    spec = load_spec(write_spec(tmp_path, concurrency=2))
    gone: list[Done] = []
    feed = Feed(spec, lambda _: 0.0, gone.append)
    asker: Asker[int] = Asker(
        Schedule(feed.arms(), 2, Purse(None)), Scripted(right), feed.write, concurrency=2, began_at=time.time()
    )
    asking_on = asyncio.ensure_future(asker.ask())
    for count in (3, 2):
        await asyncio.sleep(0)
        feed.add((f"{count}-{at}", b'{"id": "%d-%d", "prompt": "x"}' % (count, at)) for at in range(count))
        asker.wake()
        async with asyncio.timeout(10):
            while len(gone) < count:
                await asyncio.sleep(0.001)
        assert count == len(gone)
        gone.clear()
    asker.stop()
    await asyncio.wait_for(asking_on, 10)
