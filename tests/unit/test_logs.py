"""Log lines: as text and JSON, with the request that they are about; and how warnings get to a terminal, or nowhere."""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from actors.terminal import Terminal
from orchestrator import current, logs
from orchestrator.callers import Caller
from orchestrator.config.load import load_mapping
from orchestrator.config.operations import Logs
from orchestrator.types import Failure, FailureKind
from tests.unit.test_counters import attempt, ended

_log = logging.getLogger("orchestrator.somewhere")


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Iterator[StringIO]:
    """Standard error; the loggers are what they were afterwards."""
    out = StringIO()
    monkeypatch.setattr(sys, "__stderr__", out)
    monkeypatch.delenv(logs.SOCKET, raising=False)
    logger, lines = logging.getLogger("orchestrator"), logging.getLogger("orchestrator.requests")
    before = (logger.handlers, logger.propagate, logger.level, lines.level)
    yield out
    for handler in logger.handlers:
        handler.close()
    logger.handlers, logger.propagate = before[0], before[1]
    logger.setLevel(before[2])
    lines.setLevel(before[3])


def test_json_lines(written: StringIO) -> None:
    """One object a line, whatever is in it; with the request's id where there is a request."""
    logs.configure(Logs("json"), "pool sim")
    with current.request("abc"):
        _log.warning("a \n line of %s", '"x"')
    try:
        raise ValueError("no")
    except ValueError:
        _log.exception("broken")
    first, second = map(json.loads, written.getvalue().splitlines())
    assert ("warning", "orchestrator.somewhere", 'a \n line of "x"', "pool sim", os.getpid(), "abc") == tuple(
        first[name] for name in ("level", "logger", "message", "process", "pid", "request_id")
    )
    assert first["time"].endswith("Z")
    assert "request_id" not in second
    assert second["exception"].endswith("ValueError: no")


def test_text_lines(written: StringIO) -> None:
    """For people: when, how bad, who, what."""
    logs.configure(Logs(), "control")
    with current.request("abc"):
        _log.info("it is %d", 3)
    try:
        raise ValueError("no")
    except ValueError:
        _log.exception("broken")
    line, broken, *_, last = written.getvalue().splitlines()
    assert line.endswith("Z INFO orchestrator.somewhere [control] it is 3 (request abc)")
    assert broken.endswith("ERROR orchestrator.somewhere [control] broken")
    assert "ValueError: no" == last


def test_the_level_changes_live(written: StringIO) -> None:
    """Each configuration takes the place of the one before it; a line is written once."""
    for level in ("info", "error", "warning"):
        logs.configure(Logs(level=level), "x")
        _log.warning("at %s", level)
    assert ["at info", "at warning"] == [line.partition("] ")[2] for line in written.getvalue().splitlines()]


def test_a_line_for_each_request(written: StringIO) -> None:
    """Where it is asked for, whatever the level; it has no text of the conversation and no key."""
    lines = logs.RequestLines()
    for wanted, level in ((False, "info"), (True, "error")):
        config = load_mapping(
            {"providers": {"sim": {"simulate": {}}}, "logs": {"format": "json", "level": level, "requests": wanted}}, {}
        )
        logs.configure(config.logs, "coordinator")
        one = ended(
            attempt(), attempt("cancelled", latency_s=None), user="john", outcome=Failure(FailureKind.CUT, "cut")
        )
        asked = one.asked._replace(config=config, ask=one.asked.ask._replace(caller=Caller("key-1")))
        report = {**one.report, "winner": "sim/a", "cost_usd": 0.5}
        lines.ended(one._replace(asked=asked, report=report))
    line = json.loads(written.getvalue())
    assert {
        "level": "info", "logger": "orchestrator.requests", "request_id": "id", "selector": "tier:fast", "strategy": "race",
        "user": "john", "key": "key-1", "outcome": "stream_cut", "winner": "sim/a", "seconds": 0.25, "cost_usd": 0.5,
        "attempts": ["sim/a ok 0.200", "sim/a cancelled 0.000"],
    } == {name: value for name, value in line.items() if name not in ("time", "message", "process", "pid")}  # fmt: skip
    assert "tier:fast: stream_cut in 0.250 s, sim/a ok 0.200, sim/a cancelled 0.000" == line["message"]


@pytest.fixture
def path() -> Iterator[str]:
    # A socket's path has at most 107 characters.
    with tempfile.TemporaryDirectory(prefix="orch-", dir="/tmp") as folder:
        yield f"{folder}/l"


def test_warnings_reach_the_terminal(written: StringIO, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing below; nothing in them controls it."""
    monkeypatch.setenv(logs.SOCKET, path)
    shown = StringIO()
    terminal = Terminal(path, shown)
    logs.configure(Logs(), "control")
    _log.info("nothing to see")
    _log.warning("look \x1b[2J here\n\tand there")
    terminal.close()
    assert "nothing to see" in written.getvalue()
    (said,) = shown.getvalue().split("\n\n")
    assert said.endswith("WARNING orchestrator.somewhere [control] look ?[2J here\n\tand there\n")


def test_nobody_waits_for_a_terminal(written: StringIO, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is not there, does not read, or has gone: the line is in standard error, at once."""
    monkeypatch.setenv(logs.SOCKET, path)
    logs.configure(Logs(), "control")
    _log.warning("nobody")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
        deaf.bind(path)
        began_s = time.monotonic()
        for number in range(2_000):
            _log.warning("deaf %d", number)
        assert time.monotonic() - began_s < 5
    _log.warning("gone")
    Path(path).unlink()
    terminal = Terminal(path, StringIO())
    _log.warning("somebody again")
    terminal.close()
    assert 2_003 == len(written.getvalue().splitlines())


def test_a_terminal_that_cannot_be_written_to_is_tried_again(path: str) -> None:
    """It may be there for the next line."""

    class Broken(StringIO):
        tries = 0

        def write(self, text: str, /) -> int:
            self.tries += 1
            if self.tries == 1:
                raise BrokenPipeError
            return super().write(text)

    out: Any = Broken()
    terminal = Terminal(path, out)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        for line in (b"one", b"two"):
            sender.sendto(line, path)
    terminal.close()
    assert "two\n" == out.getvalue()
