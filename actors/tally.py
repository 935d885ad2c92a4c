"""What coordinators have counted, added up by whoever they bring it to, and what becomes of the sum when that one dies.

Prometheus takes a counter that falls for one that was reset to 0, and what it then shows for new. So a sum may fall to 0, and
never to what only some coordinators have counted so far: a coordinator brings what it has counted beside what of it has been
added up before, and who did not know it counts the difference alone.
"""

from __future__ import annotations

import pickle
from collections.abc import Set
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

from orchestrator.counters import Counters, total


class Brought(NamedTuple):
    """The counters of a coordinator, pickled in one piece: Ray would take classes of ours by cloudpickle."""

    now: bytes
    before: bytes
    """As they were when they were last taken by somebody: a tally knows those of coordinators that it has met."""


NOTHING = pickle.dumps(Counters(), 5)


@dataclass(slots=True)
class _Coordinator:
    asked_s: float
    now: bytes
    base: bytes
    """What does not count here: a former tally had it."""

    def counted(self) -> Counters:
        counters: Counters = pickle.loads(self.now)  # noqa: S301 - from our own coordinator, by Ray
        counters.add(pickle.loads(self.base), -1)  # noqa: S301
        return counters


class Tally:
    """The sum over all coordinators, also those that are gone. Only grows."""

    def __init__(self) -> None:
        self._coordinators: dict[str, _Coordinator] = {}
        self._former = Counters()
        """Of coordinators that are gone."""

    def take(self, coordinator: str, now_s: float, brought: Brought) -> None:
        """A coordinator asked for something, and brought what it has counted."""
        known = self._coordinators.get(coordinator)
        base = brought.before if known is None else known.base
        self._coordinators[coordinator] = _Coordinator(now_s, brought.now, base)

    @property
    def coordinators(self) -> Set[str]:
        """Those that are there."""
        return self._coordinators.keys()

    def asked(self, coordinator: str) -> float:
        """When one last brought something; minus infinity: never."""
        known = self._coordinators.get(coordinator)
        return -inf if known is None else known.asked_s

    def bury(self, before_s: float) -> None:
        """Those that have not asked since then are gone; what they had counted stays."""
        for name in [name for name, one in self._coordinators.items() if one.asked_s < before_s]:
            self._former.add(self._coordinators.pop(name).counted())

    def total(self) -> Counters:
        """The sum."""
        return total([self._former, *(one.counted() for one in self._coordinators.values())])
