"""Strategies: a route and a request become a plan.

To add a strategy: one module with a function that returns a `Plan`, and one line in `STRATEGIES`. The contract suite
(tests/contract) picks every entry up by itself and runs it on all three drivers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from math import inf
from typing import TypedDict

from orchestrator.config.settings import Strategy
from orchestrator.routes import Candidate, Route
from orchestrator.strategies.ladder import ladder
from orchestrator.strategies.nested import nested
from orchestrator.strategies.plan import Plan
from orchestrator.types import FailureKind, Request

MayHedge = Callable[[float], bool]
"""Asked with the time since the request began before a hedge is started; a no means waiting for what runs."""


class _Options(TypedDict):
    resume: bool
    around: frozenset[FailureKind]


Make = Callable[[Strategy, Sequence[str], Request, MayHedge], Plan]


def _options(strategy: Strategy) -> _Options:
    around = frozenset({FailureKind.CONTENT_POLICY} if strategy.content_filter == "fallback" else ())
    return {"resume": strategy.resume == "auto", "around": around}


def _first(strategy: Strategy, names: Sequence[str], request: Request, _may_hedge: MayHedge) -> Plan:
    return ladder(names[:1], request, **_options(strategy))


def _fallback(strategy: Strategy, names: Sequence[str], request: Request, _may_hedge: MayHedge) -> Plan:
    return ladder(names, request, **_options(strategy))


def _race(strategy: Strategy, names: Sequence[str], request: Request, _may_hedge: MayHedge) -> Plan:
    # A race for the whole answer has no use for first tokens; the edge makes a stream of the answer if one is asked.
    whole = strategy.commit == "complete"
    asked = request._replace(stream=False) if whole else request
    return ladder(names, asked, stagger_s=0, **_options(strategy))


def _hedge(strategy: Strategy, names: Sequence[str], request: Request, may_hedge: MayHedge) -> Plan:
    stagger_s = inf if strategy.after_s is None else strategy.after_s
    return ladder(names, request, stagger_s=stagger_s, may_hedge=may_hedge, **_options(strategy))


STRATEGIES: dict[str, Make] = {"first": _first, "fallback": _fallback, "race": _race, "hedge": _hedge}


def plan(
    route: Route, request: Request, may_hedge: Callable[[Route, float], bool] = lambda _route, _at_s: True
) -> Plan:
    """The plan that answers `request` by `route`. `may_hedge(route, at_s)` charges the hedge budget of that route."""
    if route.strategy.params:
        # Defaults: what the request, or a tier around this one, has set stays.
        request = request._replace(body={**route.strategy.params, **request.body})
    parent = STRATEGIES[route.strategy.name](
        route.strategy,
        [member.selector if isinstance(member, Route) else str(member) for member in route.members],
        request,
        lambda at_s: may_hedge(route, at_s),
    )
    if all(isinstance(member, Candidate) for member in route.members):
        return parent
    widths = [len(tuple(member.leaves())) if isinstance(member, Route) else 1 for member in route.members]
    return nested(
        parent,
        [_child(member, may_hedge) if isinstance(member, Route) else None for member in route.members],
        [0, *accumulate(widths[:-1])],
    )


def _child(route: Route, may_hedge: Callable[[Route, float], bool]) -> Callable[[Request], Plan]:
    return lambda request: plan(route, request, may_hedge)
