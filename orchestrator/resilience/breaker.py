"""The breaker of one model, or of a whole account: closed, open, or half open with a single probe.

It opens after `failures` failures within `window_s`, if they are at least `ratio` of the calls since the first of them: five
failures among five thousand calls say nothing of the next one. It refuses for `cooldown_s`, then lets one call through to
see: that call's success closes it, its failure opens it again, its cancellation lets another try (Nygard, Release It!,
chapter 5).
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import Literal

from orchestrator.config import settings

State = Literal["closed", "open", "half_open"]


class Breaker:
    """One breaker. Times are given, in seconds of any one clock."""

    __slots__ = ("_failures", "_probing", "_settings", "_successes", "_until_s")

    def __init__(self, breaker: settings.Breaker) -> None:
        self._settings = breaker
        self._failures: deque[tuple[float, int]] = deque(maxlen=breaker.failures)
        """When each of the last ones was, and how many successes there had been by then."""
        self._successes = 0
        self._until_s: float | None = None
        """Open (or waiting for a probe) since this is set; refuses until then."""
        self._probing = False

    def ready_s(self, now_s: float) -> float:
        """When a call may pass: `now_s` or earlier is now, infinity while a probe is under way."""
        if self._until_s is None:
            return now_s
        return inf if self._probing and now_s >= self._until_s else self._until_s

    def state(self, now_s: float) -> State:
        """For people."""
        if self._until_s is None:
            return "closed"
        return "half_open" if now_s >= self._until_s else "open"

    def begin(self) -> bool:
        """A call passes. Says whether it is the probe, which `end` wants to know."""
        self._probing = self._until_s is not None
        return self._probing

    def end(self, now_s: float, healthy: bool | None, *, probe: bool) -> None:
        """A call ended; `healthy` None: it says nothing (cancelled, or not the provider's doing)."""
        if probe:
            self._probing = False
        if healthy is None:
            return
        if healthy:
            self._successes += 1
            # Only a probe closes: a straggler from before says nothing about now.
            if probe:
                self.well()
            return
        self._failures.append((now_s, self._successes))
        if probe or (self._until_s is None and self._too_many(now_s)):
            self.open(now_s)

    def _too_many(self, now_s: float) -> bool:
        count = len(self._failures)
        since_s, before = self._failures[0]
        if count < self._settings.failures or now_s - since_s > self._settings.window_s:
            return False
        return count >= self._settings.ratio * (count + self._successes - before)

    def well(self) -> None:
        """A probe was answered: closes. A call that is under way as the probe goes on, and closes nothing more."""
        self._until_s = None
        self._failures.clear()

    def ill(self, now_s: float) -> None:
        """A probe from outside failed: an open breaker stays open for another cooldown, a closed one counts it."""
        self.end(now_s, healthy=False, probe=self._until_s is not None)

    def open(self, now_s: float) -> None:
        """Opens at once."""
        self._until_s = now_s + self._settings.cooldown_s
        self._probing = False
