"""Bringing prices up to date: once, when a command asks for it, or on a schedule, within the control actor."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable

from orchestrator.pricing import cache, openrouter
from orchestrator.pricing.book import Prices
from orchestrator.pricing.table import table

STALE = 3.0
"""Prices that are older than so many times `refresh_h` are warned of."""
REFRESH_H = 24.0
"""The same of a file that nothing refreshes by itself."""
JITTER = 0.1
"""A refresh may come later by this share, so that many installations do not ask at once."""
AGAIN_S = (60.0, 300.0, 1800.0, 3600.0)
"""How long after a failure it is tried again; the last one stays."""

_log = logging.getLogger("orchestrator.pricing")


def refresh(path: str, *, offline: bool = False, now_s: float | None = None) -> int:
    """Writes the cache anew, and says how many prices there are. Blocks. Raises NotFetched and OSError; the file is then as
    it was. `offline`: the table alone, without asking anybody."""
    lists = table() if offline else cache.merged(table(), openrouter.fetch(openrouter.url()))
    cache.write(path, lists, time.time() if now_s is None else now_s, fetched=not offline)
    return sum(map(len, lists.values()))


class Schedule:
    """When it is time to fetch, as the cache's age has it: never where `refresh_h` is 0, and at once where there is none."""

    def __init__(self, clock: Callable[[], float] = time.time, rng: random.Random | None = None) -> None:
        self._clock = clock
        self._rng = rng or random.Random()  # noqa: S311 - jitter is no secret
        self._later = 1 + JITTER * self._rng.random()
        self._failures = 0
        self._not_before_s = 0.0
        self._warned_s: float | None = None
        """When the file was written that has been warned of."""

    def due(self, prices: Prices) -> bool:
        """Whether to fetch now. Warns, once for each file, of prices that are stale."""
        now_s = self._clock()
        self._warn(prices, now_s)
        # What lies further ahead than anything is put off was said by a clock that has been put right since.
        waits = now_s < self._not_before_s <= now_s + AGAIN_S[-1] * (1 + JITTER)
        if not prices.refresh_h or not prices.cache or waits:
            return False
        return prices.written_s is None or abs(now_s - prices.written_s) >= prices.refresh_h * 3600 * self._later

    def _warn(self, prices: Prices, now_s: float) -> None:
        old = age_of(prices, now_s)
        if old is not None and self._warned_s != prices.written_s:
            self._warned_s = prices.written_s
            _log.warning("the prices in %s are %s old", prices.cache, old)

    def ended(self, problem: str | None) -> None:
        """What came of it; None: it worked. A failure is logged in one line."""
        if problem is None:
            self._failures = 0
            self._later = 1 + JITTER * self._rng.random()
            # The new file is taken over within a second; until then the age is that of the former.
            self._not_before_s = self._clock() + AGAIN_S[0]
            return
        wait_s = AGAIN_S[min(self._failures, len(AGAIN_S) - 1)] * (1 + JITTER * self._rng.random())
        self._failures += 1
        self._not_before_s = self._clock() + wait_s
        _log.warning("prices were not fetched, those at hand stay: %s", problem)


def age_of(prices: Prices, now_s: float) -> str | None:
    """How old the cache is, for people, where that is worth a warning."""
    if prices.written_s is None:
        return None
    hours = (now_s - prices.written_s) / 3600
    return f"{hours / 24:.1f} days" if hours > STALE * (prices.refresh_h or REFRESH_H) else None
