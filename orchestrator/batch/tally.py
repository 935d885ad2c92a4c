"""What a run has come to so far, and how it is told: a bar on a terminal, a line a minute in a log."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from typing import TextIO

BAR = 24
BAR_S, LOG_S = 0.2, 60.0
"""How often a bar is drawn anew; how often a log gets a line."""
RATE_S = 30.0
"""The rate that the rest is estimated by is that of about the last half minute."""


@dataclass(slots=True)
class Tally:
    """Pairs of item and arm. What counts as done is on the disk."""

    total: int
    """That are wanted."""
    done: int = 0
    failed: int = 0
    """Of those that are done."""
    spent_usd: float = 0.0
    unpriced: int = 0
    """Of those that are done: what they cost is not known."""
    here: int = 0
    """Done by this run, not by one before it."""
    failures: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By arm and code."""

    def add(self, arm: str, outcome: str, cost_usd: float | None, *, here: bool) -> None:
        """One more is done."""
        self.done += 1
        self.here += here
        if outcome != "ok":
            self.failed += 1
            self.failures[arm, outcome] += 1
        if cost_usd is None:
            self.unpriced += 1
        else:
            self.spent_usd += cost_usd


class Rate:
    """How many a second of late: a moving average, so that what was at first does not count for ever."""

    def __init__(self, now_s: float) -> None:
        self._at_s = self._since_s = now_s
        self._done = 0
        self.per_s = 0.0

    def update(self, now_s: float, done: int) -> None:
        """`done` since the beginning."""
        past_s = now_s - self._at_s
        if past_s <= 0:
            return
        span_s = min(RATE_S, now_s - self._since_s)
        share = min(1.0, past_s / span_s)
        self.per_s += share * ((done - self._done) / past_s - self.per_s)
        self._at_s, self._done = now_s, done


def told(name: str, tally: Tally, per_s: float) -> str:
    """One line: `gsm8k 1234/3960 31 %, 52.3/s, 3 failed, 0.42 USD, 0:52 left`."""
    share = tally.done / tally.total if tally.total else 1.0
    parts = [f"{name} {tally.done}/{tally.total} {share:.0%}", f"{per_s:.1f}/s", f"{tally.failed} failed"]
    if tally.spent_usd or not tally.unpriced:
        more = f" and {tally.unpriced} of unknown cost" if tally.unpriced else ""
        parts.append(f"{tally.spent_usd:.4g} USD{more}")
    if tally.done < tally.total:
        parts.append(f"{_clock(tally.total - tally.done, per_s)} left")
    return ", ".join(parts)


def _clock(rest: int, per_s: float) -> str:
    seconds = rest / per_s if per_s > 0 else inf
    if seconds >= 360_000:
        return "?"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


class Progress:
    """Tells how a run goes on. On a terminal, one line that is drawn over; else a line a minute, and a last one."""

    def __init__(self, name: str, tally: Tally, out: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self.tally = tally
        self._name = name
        self._out = out
        self._clock = clock
        self._terminal = out.isatty()
        self.every_s = BAR_S if self._terminal else LOG_S
        self._rate = Rate(clock())
        self._began_s = self._said_s = clock()

    def look(self) -> None:
        """Says something, if it is time to. To be called every fraction of a second."""
        now_s = self._clock()
        if now_s - self._said_s >= self.every_s:
            self._said_s = now_s
            self._rate.update(now_s, self.tally.here)
            self._say(self._rate.per_s, "\r" if self._terminal else "\n")

    def end(self) -> None:
        """The last line, whose rate is that of all of the run."""
        self._say(self.tally.here / max(1e-9, self._clock() - self._began_s), "\n")

    def _say(self, per_s: float, end: str) -> None:
        line = told(self._name, self.tally, per_s)
        if self._terminal:
            share = self.tally.done / self.tally.total if self.tally.total else 1.0
            line = f"\x1b[2K[{'█' * int(BAR * share):<{BAR}}] {line}"
        self._out.write(line + end)
        self._out.flush()
