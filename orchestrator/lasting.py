"""What outlives a configuration, and is shared by all coordinators of a process."""

from __future__ import annotations

from dataclasses import dataclass, field

from orchestrator.accounting import Allowing, Observer
from orchestrator.balancing import Scores
from orchestrator.cache.flights import Flights
from orchestrator.counters import Counters
from orchestrator.telemetry import Telemetry


@dataclass(slots=True)
class Lasting:
    """What stays when one configuration follows another: what was counted and learned, and who keeps account."""

    counters: Counters = field(default_factory=Counters)
    telemetry: Telemetry = field(default_factory=Telemetry)
    scores: Scores = field(default_factory=Scores)
    cache: Flights = field(default_factory=Flights)
    limiting: tuple[Allowing, ...] = ()
    """Asked of every request, in this order: how many there may be."""
    allowing: tuple[Allowing, ...] = ()
    """Asked in this order of requests for which somebody is called: what they may cost."""
    observers: tuple[Observer, ...] = ()
    """Told after the counters, the telemetry and the log."""
