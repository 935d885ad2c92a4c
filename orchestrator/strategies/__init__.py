"""Strategies: a route and a request become a plan.

To add a strategy: one module with a function that returns a `Plan`, and one line in `STRATEGIES`. The contract suite
(tests/contract) picks every entry up by itself and runs it on all three drivers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Protocol, TypedDict

from orchestrator.config.settings import Strategy
from orchestrator.routes import Candidate, Route
from orchestrator.strategies.ladder import ladder
from orchestrator.strategies.nested import nested
from orchestrator.strategies.plan import Plan
from orchestrator.types import FailureKind, Request


class Hedging(Protocol):
    """What hedges need to know of the world."""

    def may_hedge(self, route: Route, /) -> bool:
        """Asked before a hedge of this route is started, and charged to its budget; a no means waiting for what runs."""
        ...

    def after_s(self, route: Route, /, *, stream: bool) -> float:
        """How long the first member may be silent, where that is a share of its calls."""
        ...


class Freely:
    """No budget, and nothing known: for plans on their own."""

    def may_hedge(self, _route: Route) -> bool:
        """See `Hedging`."""
        return True

    def after_s(self, _route: Route, *, stream: bool) -> float:  # noqa: ARG002 - the interface
        """See `Hedging`."""
        return TYPICAL_S


TYPICAL_S = 2.0
"""How long a model of which nothing is known may be silent before a hedge is started by its percentile."""


class _Options(TypedDict):
    resume: bool
    around: frozenset[FailureKind]


Make = Callable[[Route, Sequence[str], Request, Hedging], Plan]


def _options(strategy: Strategy) -> _Options:
    around = frozenset({FailureKind.CONTENT_POLICY} if strategy.content_filter == "fallback" else ())
    return {"resume": strategy.resume == "auto", "around": around}


def _first(route: Route, names: Sequence[str], request: Request, _hedging: Hedging) -> Plan:
    return ladder(names[:1], request, **_options(route.strategy))


def _fallback(route: Route, names: Sequence[str], request: Request, _hedging: Hedging) -> Plan:
    return ladder(names, request, **_options(route.strategy))


def _race(route: Route, names: Sequence[str], request: Request, _hedging: Hedging) -> Plan:
    # A race for the whole answer has no use for first tokens; the edge makes a stream of the answer if one is asked.
    whole = route.strategy.commit == "complete"
    asked = request._replace(stream=False) if whole else request
    return ladder(names, asked, stagger_s=0, **_options(route.strategy))


def _hedge(route: Route, names: Sequence[str], request: Request, hedging: Hedging) -> Plan:
    after_s = route.strategy.after_s
    if after_s is None:
        after_s = hedging.after_s(route, stream=request.stream)
    return ladder(
        names,
        request,
        stagger_s=after_s,
        may_hedge=lambda _at_s: hedging.may_hedge(route),
        **_options(route.strategy),
    )


STRATEGIES: dict[str, Make] = {"first": _first, "fallback": _fallback, "race": _race, "hedge": _hedge}


def plan(route: Route, request: Request, hedging: Hedging | None = None) -> Plan:
    """The plan that answers `request` by `route`."""
    hedging = hedging or Freely()
    if route.strategy.params:
        # Defaults: what the request, or a tier around this one, has set stays.
        request = request._replace(body={**route.strategy.params, **request.body})
    parent = STRATEGIES[route.strategy.name](
        route,
        [member.selector if isinstance(member, Route) else str(member) for member in route.members],
        request,
        hedging,
    )
    if all(isinstance(member, Candidate) for member in route.members):
        return parent
    widths = [len(tuple(member.leaves())) if isinstance(member, Route) else 1 for member in route.members]
    return nested(
        parent,
        [_child(member, hedging) if isinstance(member, Route) else None for member in route.members],
        [0, *accumulate(widths[:-1])],
    )


def _child(route: Route, hedging: Hedging) -> Callable[[Request], Plan]:
    return lambda request: plan(route, request, hedging)
