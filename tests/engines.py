"""Stand-in engines (tests/engine.py) as configurations have them, and what they leave behind."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from orchestrator.config.settings import Hosted

SCRIPT = str(Path(__file__).with_name("engine.py"))
LONG_S = 60.0
"""For what takes a second, on a machine that has other things to do."""


def command(*arguments: object) -> list[str]:
    """The command of a stand-in engine."""
    return [sys.executable, SCRIPT, "--host", "{host}", "--port", "{port}", *map(str, arguments)]


def hosted(*arguments: object, **settings: Any) -> Hosted:
    """The settings of one."""
    return Hosted(command=tuple(command(*arguments)), env={"ENGINE_KEY": "{key}"}, **settings)


def provider(*arguments: object, **settings: Any) -> dict[str, Any]:
    """A provider's part of a configuration."""
    return {"command": command(*arguments), "env": {"ENGINE_KEY": "{key}"}, **settings}


async def until(true: Callable[[], object], what: str = "it") -> None:
    """Waits for a condition."""
    deadline_s = time.monotonic() + LONG_S
    while not true():
        assert time.monotonic() < deadline_s, f"{what} did not come within {LONG_S:g} s"
        await asyncio.sleep(0.02)


def among(found: Iterable[psutil.Process], true: Callable[[psutil.Process], bool]) -> list[psutil.Process]:
    """Those of which something is true; none that has ended meanwhile."""
    kept = []
    for process in found:
        with suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE and true(process):
                kept.append(process)
    return kept


def processes(word: str) -> list[psutil.Process]:
    """All that have a word in their command line or, as what an engine starts, in their environment."""

    def has_it(one: psutil.Process) -> bool:
        return word in " ".join(one.cmdline()) or word in " ".join(one.environ().values())

    return among(psutil.process_iter(), has_it)


def servers(word: str) -> list[psutil.Process]:
    """The engines themselves, without launchers and without what they start."""
    return among(processes(word), lambda one: one.cmdline()[1:2] == [SCRIPT])


def calls(log: Path) -> list[dict[str, Any]]:
    """What engines wrote of their calls."""
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
