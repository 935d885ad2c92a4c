"""A file that changes: what is taken over, when, and what stays."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from orchestrator.config.live import AGAIN_S, Live
from orchestrator.config.load import load
from orchestrator.config.settings import Config

ONE, TWO = "providers: {one: {simulate: {}}}", "providers: {two: {simulate: {}}}"


class Clock:
    now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "c.yaml"
    path.write_text(ONE)
    return path


def providers(live: Live) -> list[str]:
    assert live.snapshot is not None
    return list(live.snapshot.config.providers)


def test_a_change_is_read_when_it_has_settled(file: Path) -> None:
    """One look sees it, the next one reads it: whoever writes may not be done yet."""
    live = Live(str(file))
    assert live.reload()
    assert [live.look() for _ in range(3)] == [False, False, False]
    file.write_text(TWO)
    assert [live.look(), live.look(), live.look()] == [False, True, False]
    assert ["two"] == providers(live)


def test_a_file_that_is_written_while_it_is_read_is_read_again(file: Path) -> None:
    """Half a file may well be valid."""
    reads: list[str] = []

    def read(path: str) -> Config:
        config = load(path, {})
        reads.append(path)
        if len(reads) == 2:
            file.write_text(TWO + "\n# more")
        return config

    live = Live(str(file), read)
    live.reload()
    file.write_text(TWO)
    assert not live.reload()
    assert ["one"] == providers(live)
    assert [live.look(), live.look()] == [False, True]
    assert ["two"] == providers(live)


def test_a_file_that_says_the_same_is_nothing_new(file: Path) -> None:
    """A comment, a touch: the version stays."""
    live = Live(str(file))
    live.reload()
    before = live.snapshot
    file.write_text(ONE + " # the same")
    assert not live.reload()
    assert before is live.snapshot


def test_the_last_good_one_stays(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A mistake and a missing file change nothing, are logged once, and are over when the file is good again."""
    clock = Clock()
    live = Live(str(file), lambda path: load(path, {}), clock)
    live.reload()
    caplog.set_level(logging.INFO)
    for text, expected in (("providers: {", "is not YAML"), (None, "cannot be read")):
        clock.now_s += 1
        if text is None:
            file.unlink()
        else:
            file.write_text(text)
        assert not any(live.look() for _ in range(4))
        assert expected in live.problems[0]
        assert live.problems_since == clock.now_s
        assert ["one"] == providers(live)
        assert 1 == caplog.text.count(expected)
    file.write_text(ONE)
    assert not any(live.look() for _ in range(3))
    assert ((), None) == (live.problems, live.problems_since)
    assert "is good again" in caplog.text


def test_versions_grow(file: Path) -> None:
    """By the clock, and by one at least: also where the clock stands, or somebody else was ahead."""
    clock = Clock()
    live = Live(str(file), lambda path: load(path, {}), clock)
    live.reload()
    assert live.snapshot is not None
    config, versions = live.snapshot.config, [live.snapshot.version]
    live.publish(config)
    versions.append(live.snapshot.version)
    live.publish(config, 5_000_000)
    versions.append(live.snapshot.version)
    clock.now_s = 2_000
    live.publish(config)
    versions.append(live.snapshot.version)
    assert [1_000_000, 1_000_001, 5_000_000, 5_000_001] == versions


def test_somebody_who_comes_later_is_found(file: Path) -> None:
    """A provider that was left out because nobody listened is looked for again, every half minute."""
    clock, listening = Clock(), False
    file.write_text("providers: {one: {simulate: {}}, ollama: {optional: true}}")
    live = Live(str(file), lambda path: load(path, {}, lambda _: listening), clock)
    live.reload()
    assert ["one"] == providers(live)
    listening = True
    assert not any(live.look() for _ in range(3))
    clock.now_s += AGAIN_S
    assert live.look()
    assert ["one", "ollama"] == providers(live)


def test_a_replaced_file_is_a_change(file: Path, tmp_path: Path) -> None:
    """Editors write a new one and rename it."""
    live = Live(str(file))
    live.reload()
    fresh = tmp_path / "fresh"
    fresh.write_text(TWO)
    os.replace(fresh, file)
    assert [live.look(), live.look()] == [False, True]


def test_nothing_to_begin_with(tmp_path: Path) -> None:
    """No snapshot, and why."""
    live = Live(str(tmp_path / "none.yaml"))
    assert not live.reload()
    assert (None, 1) == (live.snapshot, len(live.problems))
    assert live.problems[0].endswith("none.yaml:1: document: cannot be read: No such file or directory")
