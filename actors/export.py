"""The same totals by Ray's own metrics: what scrapes a Ray cluster already sees `ray_orchestrator_…` of each node.

Ray's counters are added to, so they are given what has come since the last time. Histograms go as their count and their sum:
Ray's take one observation after the other.
"""

from __future__ import annotations

from typing import Any

from ray.util import metrics as ray_metrics

from orchestrator.counters import Counters
from orchestrator.metrics import totals


class RayExport:
    """Hands the totals of one process over to Ray."""

    def __init__(self) -> None:
        self._given: dict[tuple[str, tuple[str, ...]], float] = {}
        self._metrics: dict[tuple[str, tuple[str, ...]], Any] = {}
        """By name and labels."""

    def update(self, counters: Counters) -> None:
        """Gives Ray what is new."""
        for name, labels, value in totals(counters):
            key = (name, (*labels, *labels.values()))
            new = value - self._given.get(key, 0.0)
            if new > 0:
                self._given[key] = value
                self._metric(name, tuple(labels)).inc(new, dict(labels))

    def _metric(self, name: str, labels: tuple[str, ...]) -> Any:
        metric = self._metrics.get((name, labels))
        if metric is None:
            # Ray ends the names of counters in `_total` by itself.
            metric = ray_metrics.Counter(name.removesuffix("_total"), f"See {name} in /metrics", labels)
            self._metrics[name, labels] = metric
        return metric
