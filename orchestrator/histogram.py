"""Histograms as plain numbers: what one process has seen, to be added up with what others have.

The buckets are few, since each is a time series for each model, and closest where people look: quantiles are interpolated
within a bucket, so an error is at most its width.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

LATENCY_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1, 1.5, 2.5, 4, 6, 10, 15, 30, 60, 120)
"""Models take 5 ms (one of this machine, or a cache) to 2 minutes (long reasoning); steps of about 1.5 where chats are."""
OVERHEAD_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0015, 0.002, 0.003, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
"""A request's own way takes a fraction of a millisecond in one process and 1 to 3 ms over Ray; what is over 10 ms was in
a queue, or waited to be retried."""
TOKENS_PER_S = (1, 2, 5, 10, 20, 30, 40, 50, 60, 80, 100, 150, 200, 300, 500, 1000, 2000)
"""From a large model on a CPU to the fastest accelerators; a person reads about 5 tokens a second."""
MAX_LABELS = 300
"""Combinations of labels of one histogram: each is 20 time series. What comes beyond is counted as `other`."""

Labels = tuple[str, ...]


class Histogram:
    """Observations by their labels. Only grows."""

    __slots__ = ("bounds", "cells")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        """Upper bounds of the buckets, which belong to them; one without a bound follows."""
        self.cells: dict[Labels, list[float]] = {}
        """By labels: how many fell into each bucket, then the sum of all observations."""

    def observe(self, value: float, labels: Labels = ()) -> None:
        """One observation."""
        cell = self.cells.get(labels) or self._cell(labels)
        cell[bisect_left(self.bounds, value)] += 1
        cell[-1] += value

    def _cell(self, labels: Labels) -> list[float]:
        if len(self.cells) >= MAX_LABELS:
            # The provider, which comes first, is known by the configuration; models are named by callers.
            labels = (*labels[:1], *("other" for _ in labels[1:]))
        return self.cells.setdefault(labels, [0.0] * (len(self.bounds) + 2))

    def add(self, other: Histogram, sign: int = 1) -> None:
        """Adds another one of the same bounds; with a sign of -1, takes it away."""
        for labels, theirs in other.cells.items():
            ours = self.cells.setdefault(labels, [0.0] * len(theirs))
            for index, value in enumerate(theirs):
                ours[index] += sign * value
