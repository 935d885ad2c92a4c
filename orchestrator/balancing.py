"""Which of several deployments is asked first: `strategy: balance`.

By latency: the least of `latency * (in flight + 1) / (1 - error rate)^2 + error rate * ERROR_S`. Latency and error rate are
moving averages that forget by time (e-fold in `DECAY_S`), and latency jumps to a sample that is worse, as in Finagle's "peak
EWMA". A deployment that fails fast must not look quick, nor one that has never answered: so an error costs seconds of its
own. One that nobody has asked lately comes first, and a share of the calls (`explore`) goes to another than the best, so that
a deployment which has recovered is noticed.

By in-flight: the less busy of two that are drawn (Mitzenmacher, "The Power of Two Choices", 2001). By weight: drawn by
weight. By cost: the cheapest for the request at hand, of those that answer; one whose price is not known comes after all
others, and behind it those that have lately failed more often than not.

Whoever asked to be left alone (a rate limit, an open breaker) comes last until then. All this is what one coordinator has
seen; several of them learn apart, and each from its own calls.
"""

from __future__ import annotations

import math
import random
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Literal

DECAY_S = 10.0
IDLE_S = 30.0
"""A deployment that was not asked for so long is asked again, whatever was known of it."""
ERROR_S = 5.0
"""What a failure costs beside the time it took: another call, and its latency."""
KEPT = 2_000

_FREE: Mapping[str, float | None] = {}

By = Literal["latency", "cost", "in_flight", "weight"]


@dataclass(slots=True)
class _Known:
    latency_s: float = 0.0
    errors: float = 0.0
    seen_s: float = -math.inf
    in_flight: int = 0
    alone_until_s: float = -math.inf

    def fails(self, now_s: float) -> bool:
        """Whether it has lately failed more often than not; after a while without a call it may be tried again."""
        return self.errors > 0.5 and now_s - self.seen_s <= IDLE_S

    def score(self, now_s: float) -> float:
        if now_s - self.seen_s > IDLE_S:
            return float(self.in_flight)
        return self.latency_s * (self.in_flight + 1) / max(0.05, 1 - self.errors) ** 2 + self.errors * ERROR_S


class Scores:
    """What is known of each deployment, by its name. Times are given, in seconds of any one clock."""

    def __init__(self, rng: random.Random | None = None) -> None:
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._rng = rng or random.Random()  # noqa: S311 - a choice, no secret

    def begin(self, name: str) -> None:
        """It is being asked."""
        self._of(name).in_flight += 1

    def end(self, name: str) -> None:
        """It is no longer."""
        self._of(name).in_flight -= 1

    def learn(self, name: str, now_s: float, seconds: float | None, *, alone_s: float | None = None) -> None:
        """It answered after `seconds`, or failed (None); `alone_s`: how long it asks to be left alone."""
        known = self._of(name)
        weight = math.exp(-max(0.0, now_s - known.seen_s) / DECAY_S)
        # However quickly they follow each other, a sample counts for a tenth.
        weight = min(weight, 0.9)
        known.errors = known.errors * weight + (seconds is None) * (1 - weight)
        if seconds is not None:
            mean_s = known.latency_s * weight + seconds * (1 - weight)
            known.latency_s = max(seconds, mean_s) if seconds > known.latency_s else mean_s
        known.seen_s = now_s
        if alone_s is not None:
            known.alone_until_s = now_s + alone_s

    def order(
        self,
        names: Sequence[str],
        now_s: float,
        *,
        by: By,
        explore: float,
        weights: Mapping[str, float],
        costs: Mapping[str, float | None] = _FREE,
    ) -> list[int]:
        """The places of `names`, whoever is to be asked first in front. `costs`: of asking each."""
        free = [i for i, name in enumerate(names) if self._of(name).alone_until_s <= now_s]
        rest = sorted(set(range(len(names))) - set(free), key=lambda i: self._of(names[i]).alone_until_s)
        if by == "weight":
            # Efraimidis and Spirakis (2006): the largest of u^(1/w) is a draw by weight, without replacement.
            drawn = {i: self._rng.random() ** (1 / w) if (w := weights.get(names[i], 1.0)) > 0 else -1.0 for i in free}
            free.sort(key=lambda i: -drawn[i])
        elif by == "in_flight":
            self._rng.shuffle(free)
            two = sorted(free[:2], key=lambda i: self._of(names[i]).in_flight)
            free = [*two, *sorted(free[2:], key=lambda i: self._of(names[i]).in_flight)]
        elif by == "cost":
            self._rng.shuffle(free)
            dear = {i: inf if (cost := costs.get(names[i])) is None else cost for i in free}
            free.sort(key=lambda i: (self._of(names[i]).fails(now_s), dear[i]))
        else:
            self._rng.shuffle(free)
            free.sort(key=lambda i: self._of(names[i]).score(now_s))
            if len(free) > 1 and self._rng.random() < explore:
                free.insert(0, free.pop(self._rng.randrange(1, len(free))))
        return free + rest

    def _of(self, name: str) -> _Known:
        known = self._known.get(name)
        if known is None:
            known = self._known[name] = _Known()
            if len(self._known) > KEPT:
                idle = next((one for one, state in self._known.items() if not state.in_flight), None)
                if idle is not None:
                    del self._known[idle]
        self._known.move_to_end(name)
        return known
