"""When prices are fetched, and what is said of old ones."""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.pricing import cache
from orchestrator.pricing.book import Prices
from orchestrator.pricing.openrouter import URL_VARIABLE, NotFetched
from orchestrator.pricing.refresh import AGAIN_S, JITTER, Schedule, refresh
from orchestrator.pricing.table import table
from tests.unit.pricing.listing import Listing, listing

HOUR_S = 3600.0


class Clock:
    now_s = 1_000_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Listing]:
    with listing() as running:
        monkeypatch.setenv(URL_VARIABLE, running.url)
        yield running


def kept(written_s: float | None, refresh_h: float = 24.0) -> Prices:
    return Prices(cache="prices.json", written_s=written_s, refresh_h=refresh_h)


def test_a_refresh_writes_the_file(server: Listing, tmp_path: Path) -> None:
    """What was fetched, merged with the table; offline the table alone, and nobody is asked."""
    path = str(tmp_path / "prices.json")
    count = refresh(path, now_s=7.0)
    found = cache.read(path)
    assert found is not None
    assert (count, 7.0, True) == (sum(map(len, found.lists.values())), found.written_s, found.fetched)
    assert "openrouter" in found.lists
    assert sum(map(len, table().values())) == refresh(path, offline=True)
    found = cache.read(path)
    assert found is not None
    assert (False, 1) == (found.fetched, server.asked)


def test_a_refresh_that_fails_changes_nothing(server: Listing, tmp_path: Path) -> None:
    """The former file stays as it was."""
    path = tmp_path / "prices.json"
    refresh(str(path))
    before = (path.read_bytes(), os.stat(path).st_mtime_ns)
    for answer in ((500, [b"no"]), (200, [b"garbage"])):
        server.answer = answer
        with pytest.raises(NotFetched):
            refresh(str(path))
        assert before == (path.read_bytes(), os.stat(path).st_mtime_ns)


def test_it_is_time_where_there_is_no_file_or_an_old_one() -> None:
    """With a little delay of its own for each installation; never where the configuration wants none, or names no file."""
    clock = Clock()
    schedule = Schedule(clock, random.Random(1))
    assert schedule.due(kept(None))
    assert not schedule.due(kept(clock.now_s - 23 * HOUR_S))
    assert schedule.due(kept(clock.now_s - 24 * HOUR_S * (1 + JITTER)))
    assert not schedule.due(kept(None, 0.0))
    assert not schedule.due(Prices(refresh_h=24.0))
    dues = {Schedule(clock, random.Random(seed)).due(kept(clock.now_s - 25 * HOUR_S)) for seed in range(20)}
    assert {True, False} == dues


def test_a_clock_that_was_a_year_ahead_holds_up_nothing() -> None:
    """What was fetched and tried by it lies in the future: that is no reason to wait until then."""
    clock = Clock()
    schedule = Schedule(clock, random.Random(1))
    clock.now_s += 365 * 24 * HOUR_S
    ahead_s = clock.now_s
    schedule.ended(None)
    clock.now_s -= 365 * 24 * HOUR_S
    assert schedule.due(kept(ahead_s))
    schedule.ended("nobody is there")
    assert not schedule.due(kept(ahead_s))
    assert not Schedule(clock, random.Random(1)).due(kept(clock.now_s + 60))


def test_after_a_failure_it_is_tried_again_later_and_later(caplog: pytest.LogCaptureFixture) -> None:
    """Each is logged in a line; a success ends it, and the new file is given time to be seen."""
    clock = Clock()
    schedule = Schedule(clock, random.Random(1))
    for wait_s in (*AGAIN_S, AGAIN_S[-1]):
        schedule.ended("nobody is there")
        clock.now_s += wait_s - 1
        assert not schedule.due(kept(None))
        clock.now_s += 1 + JITTER * wait_s
        assert schedule.due(kept(None))
    assert 5 == sum("nobody is there" in line for line in caplog.messages)
    schedule.ended(None)
    assert not schedule.due(kept(None))
    clock.now_s += AGAIN_S[0]
    assert schedule.due(kept(None))
    schedule.ended("again")
    clock.now_s += AGAIN_S[0] * (1 + JITTER)
    assert schedule.due(kept(None))


def test_stale_prices_are_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    """For each file: older than three times what was wanted, or than three days where nothing is."""
    caplog.set_level(logging.WARNING)
    clock = Clock()
    schedule = Schedule(clock, random.Random(1))
    for prices in (kept(clock.now_s - 71 * HOUR_S), kept(clock.now_s - 71 * HOUR_S, 0.0), kept(None)):
        schedule.due(prices)
    assert [] == caplog.messages
    old = kept(clock.now_s - 96 * HOUR_S, 0.0)
    for _ in range(3):
        schedule.due(old)
    schedule.due(kept(clock.now_s - 2 * HOUR_S, 0.5))
    assert [
        "the prices in prices.json are 4.0 days old",
        "the prices in prices.json are 0.1 days old",
    ] == caplog.messages
