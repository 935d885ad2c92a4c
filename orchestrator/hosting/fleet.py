"""How many replicas a local model has, which of them calls go to, and what is said while there is none.

A plain class that is told what happens and when; `orchestrator.hosting.keeper` acts on what it decides.

Scaling follows the calls in flight and in the queue, at `target` a replica: up when more have been needed for `GROW_S`, from
none at once; down to the most that was needed within the last `idle_s`. Replicas have numbers from 0, and the highest goes
first, so that conversations keep their homes. One that goes gets no more calls, and ends when those that it has are done.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf

from orchestrator.config.settings import Hosted
from orchestrator.hosting.status import Demand, Status
from orchestrator.resilience.admission import Absence, Upstream
from orchestrator.types import Failure, FailureKind, Json

GROW_S = 2.0
"""For how long more replicas have to be needed than there are."""
AGAIN_S = 5.0
"""When a caller who was told that a model is starting may ask again."""


@dataclass(slots=True)
class Replica:
    """One of them, as far as is known."""

    since_s: float
    """When it was asked for."""
    status: Status = field(default_factory=Status)
    leaving: bool = False


class Fleet:
    """The replicas of one local model."""

    def __init__(self, name: str, hosted: Hosted, now_s: float) -> None:
        self._name = name
        self._hosted = hosted
        self.replicas: dict[int, Replica] = {}
        self._begun = 0
        self._short_since_s = inf
        """Since when more are needed than there are."""
        self._needed: list[tuple[float, int]] = []
        """How many were needed when, of the last `idle_s`: times ascend, numbers fall."""
        self._need(now_s, hosted.replicas.min)

    def configure(self, hosted: Hosted) -> None:
        """Goes on by other settings."""
        self._hosted = hosted

    def step(self, demand: Demand, now_s: float) -> tuple[int, ...]:
        """Decides how many there have to be. Returns the numbers of those that are to be started now."""
        bounds = self._hosted.replicas
        calls = max(demand.calls, int(demand.begun > self._begun))
        self._begun = demand.begun
        needed = min(bounds.max, max(bounds.min, math.ceil(calls / bounds.target)))
        staying = sorted(
            (number for number, one in self.replicas.items() if not one.leaving),
            key=lambda number: (self.replicas[number].status.state == "failed", number),
        )
        short = needed > len(staying)
        self._short_since_s = min(self._short_since_s, now_s) if short else inf
        # What was needed when there might be more counts for no more than there may be now.
        most = min(bounds.max, self._need(now_s, needed))
        if short and (not staying or now_s - self._short_since_s >= GROW_S or len(staying) < bounds.min):
            self._short_since_s = inf
            return self._grow(needed - len(staying), now_s)
        for number in staying[most:]:
            self.replicas[number].leaving = True
        return ()

    def _need(self, now_s: float, needed: int) -> int:
        """Notes how many are needed now; returns the most that were within `idle_s`."""
        while self._needed and self._needed[-1][1] <= needed:
            self._needed.pop()
        self._needed.append((now_s, needed))
        while self._needed[0][0] < now_s - self._hosted.replicas.idle_s and len(self._needed) > 1:
            self._needed.pop(0)
        return self._needed[0][1]

    def _grow(self, count: int, now_s: float) -> tuple[int, ...]:
        """So many more. One that is leaving and still up is kept instead of starting another."""
        started = []
        for number in range(self._hosted.replicas.max):
            one = self.replicas.get(number)
            if count and one is not None and one.leaving:
                one.leaving, count = False, count - 1
        for number in range(self._hosted.replicas.max):
            if count and number not in self.replicas:
                self.replicas[number] = Replica(now_s)
                started.append(number)
                count -= 1
        return tuple(started)

    def told(self, number: int, status: Status) -> None:
        """A replica says how it is."""
        if number in self.replicas:
            self.replicas[number].status = status

    def leave(self) -> None:
        """All have to go."""
        for one in self.replicas.values():
            one.leaving = True

    def leaving(self) -> dict[int, str]:
        """Those that are to go, and where calls were sent to them."""
        return {number: one.status.base_url for number, one in self.replicas.items() if one.leaving}

    def gone(self, in_flight: Mapping[int, int]) -> tuple[int, ...]:
        """Those that were leaving and have nothing in flight any more: they are forgotten, and are to be stopped now."""
        found = tuple(n for n, one in self.replicas.items() if one.leaving and not in_flight.get(n))
        for number in found:
            del self.replicas[number]
        return found

    def upstreams(self) -> tuple[Upstream, ...]:
        """Where calls may go."""
        return tuple(
            Upstream(one.status.key, one.status.base_url, number)
            for number, one in sorted(self.replicas.items())
            if one.status.state == "up" and not one.leaving
        )

    def absence(self, now_s: float) -> Absence:
        """What calls are told while no replica is up: that they may wait, or why there is no use in it."""
        staying = [one for one in self.replicas.values() if not one.leaving]
        hopeful = [one for one in staying if not self._given_up(one, now_s)]
        if hopeful or not staying:
            failure = Failure(FailureKind.STARTING, "the model is being started", retry_after_s=AGAIN_S)
            return Absence(failure, self._hosted.cold_start_s)
        first = min(staying, key=lambda one: one.status.again_s)
        return Absence(
            Failure(FailureKind.DOWN, f"the model does not come up: {_why(first.status, self._hosted)}",
                    retry_after_s=max(AGAIN_S, first.status.again_s)),
            0.0,
        )  # fmt: skip

    def _given_up(self, one: Replica, now_s: float) -> bool:
        if one.status.state == "placing":
            return now_s - one.since_s > self._hosted.cold_start_s
        return one.status.state == "failed"

    def problem(self, now_s: float) -> str:
        """Why there is none that is up, where there should be; empty: there is one, or nobody has asked for one."""
        staying = [one for one in self.replicas.values() if not one.leaving]
        if not staying or any(one.status.state == "up" for one in staying):
            return ""
        return self.absence(now_s).failure.message

    def shown(self) -> list[Json]:
        """What /admin/pools shows of the replicas. No keys."""
        return [_shown(number, one, self._hosted) for number, one in sorted(self.replicas.items())]


def _why(status: Status, hosted: Hosted) -> str:
    if status.state == "placing":
        return f"no node has {hosted.gpus:g} free GPUs"
    return f"the server {status.reason}"


def _shown(number: int, one: Replica, hosted: Hosted) -> Json:
    status = one.status
    waiting = status.state == "placing"
    return {
        "replica": number,
        "state": "leaving" if one.leaving else status.state,
        "node": status.node,
        "reason": _why(status, hosted) if waiting or status.reason else None,
        "ending": status.ending,
        "restarts": status.restarts,
        "running": status.load.running,
        "waiting": status.load.waiting,
        "cache": status.load.cache,
    }
