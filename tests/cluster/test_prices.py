"""How the control actor brings prices up to date; the object itself, without a cluster."""

from __future__ import annotations

import asyncio
import os
import time
import warnings
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config.load import load
from orchestrator.pricing import cache
from orchestrator.pricing.openrouter import URL_VARIABLE
from orchestrator.pricing.table import table
from tests.unit.pricing.listing import Listing, listing

Watched = Callable[[str], Any]


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Listing]:
    with listing() as running:
        monkeypatch.setenv(URL_VARIABLE, running.url)
        monkeypatch.setenv("OPENROUTER_API_KEY", "k")
        yield running


@pytest.fixture
async def watched(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Watched]:
    """Makes what watches a file; it looks often."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own
        from actors import control
    monkeypatch.setattr(control, "REFRESH_LOOK_S", 0.02)
    monkeypatch.setattr(control, "LOOK_S", 0.02)
    # An actor has its process to itself; the tests' own goes on logging as it did.
    monkeypatch.setattr("orchestrator.logs.configure", lambda *_: None)
    made: list[control.Control] = []

    def one(path: str) -> control.Control:
        made.append(control.Control(path))
        return made[-1]

    yield one
    for each in made:
        each._watching.cancel()
        each._refreshing.cancel()
        await asyncio.gather(each._watching, each._refreshing, return_exceptions=True)


def written(tmp_path: Path, section: str) -> str:
    path = tmp_path / "c.yaml"
    path.write_text(f"providers: {{openrouter: {{}}}}\n{section}")
    return str(path)


def input_usd(control: Any) -> float | None:
    price = control._live.snapshot.config.prices.of("openrouter", "openai/gpt-4o-mini")
    return None if price is None else price.input_per_mtok_usd


async def until(true: Callable[[], bool]) -> None:
    for _ in range(500):
        if true():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come to that within 5 s")


async def test_prices_are_fetched_and_become_a_snapshot(server: Listing, watched: Watched, tmp_path: Path) -> None:
    """Where the configuration wants it and there are none; then not before it is time."""
    control = watched(written(tmp_path, "pricing: {refresh_h: 24}"))
    version = control._live.snapshot.version
    assert None is input_usd(control)
    await until(lambda: input_usd(control) == 0.15)
    assert control._live.snapshot.version > version
    await asyncio.sleep(0.2)
    assert 1 == server.asked


async def test_a_fresh_file_is_not_fetched_at_the_start(server: Listing, watched: Watched, tmp_path: Path) -> None:
    """One that is too old is."""
    path = written(tmp_path, "pricing: {refresh_h: 24}")
    file = load(path).prices.cache
    cache.write(file, table(), time.time() - 3600, fetched=True)
    control = watched(path)
    await asyncio.sleep(0.2)
    assert 0 == server.asked
    cache.write(file, table(), time.time() - 48 * 3600, fetched=True)
    await until(lambda: input_usd(control) == 0.15)
    assert 1 == server.asked


@pytest.mark.parametrize("section", ["", "pricing: {refresh_h: 0}"])
async def test_the_network_is_not_asked_unless_it_is_wanted(
    section: str, server: Listing, watched: Watched, tmp_path: Path
) -> None:
    """Neither without the section, nor where it says never; a file that somebody else writes is taken over all the same."""
    path = written(tmp_path, section)
    control = watched(path)
    await asyncio.sleep(0.2)
    assert (0, None) == (server.asked, input_usd(control))
    cache.write(
        load(path).prices.cache, {"openrouter": {"openai/gpt-4o-mini": table()["openai"]["gpt-4o"]}}, 1.0, fetched=True
    )
    await until(lambda: input_usd(control) == 2.5)
    assert 0 == server.asked


async def test_a_failure_is_said_once_and_changes_nothing(
    server: Listing, watched: Watched, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The former prices stay, and it is tried again a minute later; also where it is our own mistake."""
    path = written(tmp_path, "pricing: {refresh_h: 0.001}")
    file = load(path).prices.cache
    cache.write(
        file, {"openrouter": {"openai/gpt-4o-mini": table()["openai"]["gpt-4o"]}}, time.time() - 5, fetched=True
    )
    before = os.stat(file).st_mtime_ns
    server.answer = 500, [b""]
    control = watched(path)
    await until(lambda: server.asked > 0)
    await asyncio.sleep(0.2)
    assert (1, 2.5, before) == (server.asked, input_usd(control), os.stat(file).st_mtime_ns)
    assert 1 == sum("prices were not fetched" in line for line in caplog.messages)


async def test_a_mistake_of_ours_ends_no_refreshing(
    server: Listing, watched: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged with where it happened, and counts as a failure."""
    from actors import control as module

    def fails(_path: str) -> int:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(module, "refresh", fails)
    control = watched(written(tmp_path, "pricing: {}"))
    await until(lambda: any("ZeroDivisionError: oops" in line for line in caplog.messages))
    assert not control._refreshing.done()
