"""The sum over coordinators, when they and the control actor come and go. No cluster is started here."""

from __future__ import annotations

import asyncio
import pickle
import time
import warnings
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config.live import Snapshot
from orchestrator.counters import Counters


@pytest.fixture(autouse=True)
def _imported() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own
        import actors.control  # noqa: F401


class One:
    """A coordinator, as far as it counts."""

    def __init__(self, name: str) -> None:
        from actors.tally import NOTHING

        self.name = name
        self.counters = Counters()
        self.taken = NOTHING

    def count(self, number: int = 1) -> None:
        for _ in range(number):
            self.counters.request("m", "first", "ok")

    def bring(self, to: Any, now_s: float = 0.0) -> None:
        from actors.tally import Brought

        now = pickle.dumps(self.counters, 5)
        to.take(self.name, now_s, Brought(now, self.taken))
        self.taken = now


def requests(tally: Any) -> int:
    return sum(tally.total().requests.values())


def test_what_a_coordinator_had_counted_stays_when_it_is_gone() -> None:
    """The sum never falls; one that was only taken for gone is not counted twice when it is back."""
    from actors.tally import Tally

    tally, a, b = Tally(), One("a"), One("b")
    a.count(3)
    b.count(4)
    a.bring(tally, 0)
    b.bring(tally, 50)
    tally.bury(40)
    assert ({"b"}, 50, 7) == (tally.coordinators, tally.asked("b"), requests(tally))
    a.count(2)
    a.bring(tally, 60)
    assert 9 == requests(tally)
    tally.bury(100)
    assert 9 == requests(tally)


def test_a_sum_that_was_lost_begins_at_zero() -> None:
    """It is never what some had counted before: Prometheus would take that for new. What came since counts, once."""
    from actors.tally import Tally

    first, a, b, gone = Tally(), One("a"), One("b"), One("gone")
    for one in (a, b, gone):
        one.count(100)
        one.bring(first)
    a.count(2)  # not brought before it was killed
    second = Tally()
    assert 0 == requests(second)
    a.bring(second)
    assert 2 == requests(second)
    b.count(3)
    for one in (b, a, b):
        one.bring(second)
    assert 5 == requests(second)
    new = One("new")
    new.count(7)
    new.bring(second)
    assert 12 == requests(second)


async def test_who_looks_sees_what_is_counted_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Coordinators that wait for news bring theirs at once; one that does not answer is waited for a second, and counts as
    it last was."""
    from actors.control import FRESH_S, Control
    from actors.tally import Brought

    monkeypatch.setattr("orchestrator.logs.configure", lambda *_: None)  # this process has its own
    path = tmp_path / "config.yaml"
    path.write_text("providers: {sim: {simulate: {}}}")
    control = Control(str(path))
    a, silent = One("a"), One("silent")
    snapshot = await control.next("a", 0)
    assert isinstance(snapshot, Snapshot)

    async def follow() -> None:
        while True:
            now = pickle.dumps(a.counters, 5)
            await control.take("a", Brought(now, a.taken))
            a.taken = now
            await control.next("a", snapshot.version)

    following = asyncio.ensure_future(follow())
    await asyncio.sleep(0.05)
    for number in (1, 2):
        a.count()
        began_s = time.monotonic()
        assert number == sum((await control.counters()).requests.values())
        assert time.monotonic() - began_s < 0.5
    silent.count(5)
    silent.bring(control._tally, time.monotonic())
    a.count()
    began_s = time.monotonic()
    assert 8 == sum((await control.counters()).requests.values())
    assert FRESH_S <= time.monotonic() - began_s < FRESH_S + 0.5
    for task in (following, control._watching):
        task.cancel()
