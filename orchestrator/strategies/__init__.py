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
from orchestrator.strategies.judged import Judged, Synthesized
from orchestrator.strategies.ladder import ladder
from orchestrator.strategies.nested import nested
from orchestrator.strategies.panel import Cascade, Panel
from orchestrator.strategies.plan import Plan
from orchestrator.strategies.split import choose
from orchestrator.types import Failure, FailureKind, Finish, Json, Reply, Request


class World(Protocol):
    """What plans need to know of the world when they are made."""

    def asked(self, route: Route, /) -> None:
        """Told when a request has come to this route, a hedge: what its budget grows by."""
        ...

    def may_hedge(self, route: Route, /) -> bool:
        """Asked before a hedge of this route is started, and charged to its budget; a no means waiting for what runs."""
        ...

    def after_s(self, route: Route, /, *, stream: bool) -> float:
        """How long the first member may be silent, where that is a share of its calls."""
        ...

    def order(self, route: Route, /) -> Sequence[int] | None:
        """In which order the members of a balancing route are asked; None: as they stand."""
        ...

    def arm(self, route: Route, /) -> str:
        """The arm of a split that is asked."""
        ...

    def arm_ended(self, route: Route, outcome: Reply | Finish | Failure, /) -> None:
        """Told what came of it; not told of an arm that was stopped because another member of a tier around it won."""
        ...


class Freely:
    """No budget, and nothing known: for plans on their own."""

    def asked(self, _route: Route) -> None:
        """See `World`."""

    def may_hedge(self, _route: Route) -> bool:
        """See `World`."""
        return True

    def after_s(self, _route: Route, *, stream: bool) -> float:  # noqa: ARG002 - the interface
        """See `World`."""
        return TYPICAL_S

    def order(self, _route: Route) -> Sequence[int] | None:
        """See `World`."""
        return None

    def arm(self, route: Route) -> str:
        """See `World`: that of nobody in particular."""
        return choose(route.strategy.arms, route.strategy.seed, "")

    def arm_ended(self, _route: Route, _outcome: Reply | Finish | Failure) -> None:
        """See `World`."""


TYPICAL_S = 2.0
"""How long a model of which nothing is known may be silent before a hedge is started by its percentile."""


_TWINS = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}


class _Options(TypedDict):
    resume: bool
    around: frozenset[FailureKind]


Make = Callable[[Route, Sequence[str], Request, World], Plan]


def _options(strategy: Strategy) -> _Options:
    around = frozenset({FailureKind.CONTENT_POLICY} if strategy.content_filter == "fallback" else ())
    return {"resume": strategy.resume == "auto", "around": around}


def _first(route: Route, names: Sequence[str], request: Request, _world: World) -> Plan:
    return ladder(names[:1], request, **_options(route.strategy))


def _fallback(route: Route, names: Sequence[str], request: Request, _world: World) -> Plan:
    return ladder(names, request, **_options(route.strategy))


def _race(route: Route, names: Sequence[str], request: Request, _world: World) -> Plan:
    # A race for the whole answer has no use for first tokens; the edge makes a stream of the answer if one is asked.
    whole = route.strategy.commit == "complete"
    asked = request._replace(stream=False) if whole else request
    return ladder(names, asked, stagger_s=0, **_options(route.strategy))


def _hedge(route: Route, names: Sequence[str], request: Request, world: World) -> Plan:
    world.asked(route)
    after_s = route.strategy.after_s
    if after_s is None:
        after_s = world.after_s(route, stream=request.stream)
    return ladder(
        names,
        request,
        stagger_s=after_s,
        may_hedge=lambda _at_s: world.may_hedge(route),
        **_options(route.strategy),
    )


def _balance(route: Route, names: Sequence[str], request: Request, world: World) -> Plan:
    return ladder(names, request, order=world.order(route), **_options(route.strategy))


def _spill(route: Route, names: Sequence[str], request: Request, _world: World) -> Plan:
    return ladder(names, request, max_wait_s=route.strategy.max_wait_s, **_options(route.strategy))


_DECIDED_BY: dict[str, type[Panel]] = {"majority": Panel, "weighted": Panel, "judge": Judged, "synthesize": Synthesized}


def _consensus(route: Route, names: Sequence[str], request: Request, _world: World) -> Plan:
    return _DECIDED_BY[route.strategy.method](names, request, route.strategy).run()


def _cascade(route: Route, names: Sequence[str], request: Request, _world: World) -> Plan:
    return Cascade(names, request, route.strategy).run()


def _split(route: Route, names: Sequence[str], request: Request, world: World) -> Plan:
    # Another arm's answer would count for the one that was chosen: nobody else is asked, whatever comes of it.
    chosen = [*route.strategy.arms].index(world.arm(route))
    verdict = yield from ladder(names, request, order=(chosen,), **_options(route.strategy))
    world.arm_ended(route, verdict.outcome)
    return verdict


STRATEGIES: dict[str, Make] = {
    "first": _first,
    "fallback": _fallback,
    "race": _race,
    "hedge": _hedge,
    "balance": _balance,
    "consensus": _consensus,
    "cascade": _cascade,
    "split": _split,
    "spill": _spill,
}


def plan(route: Route, request: Request, world: World | None = None) -> Plan:
    """The plan that answers `request` by `route`."""
    world = world or Freely()
    if route.strategy.params or route.strategy.override:
        request = request._replace(body=with_params(route.strategy, request.body))
    parent = STRATEGIES[route.strategy.name](route, route.names, request, world)
    if all(isinstance(member, Candidate) for member in route.members):
        return parent
    widths = [len(tuple(member.leaves())) if isinstance(member, Route) else 1 for member in route.members]
    return nested(
        parent,
        [_child(member, world) if isinstance(member, Route) else None for member in route.members],
        [0, *accumulate(widths[:-1])],
    )


def with_params(strategy: Strategy, body: Json) -> Json:
    """A body with what a tier sets: defaults, over which what the request or a tier around this one has set wins, and what
    wins over that. The two names of one parameter count as one."""
    override = strategy.override
    kept = {name: value for name, value in body.items() if _TWINS.get(name) not in override}
    params = {name: value for name, value in strategy.params.items() if _TWINS.get(name) not in {**body, **override}}
    return {**params, **kept, **override}


def _child(route: Route, world: World) -> Callable[[Request], Plan]:
    return lambda request: plan(route, request, world)
