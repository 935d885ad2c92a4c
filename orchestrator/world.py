"""What a plan may ask of the world while it runs, for one request over one coordinator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from orchestrator.asks import Ask
from orchestrator.balancing import Scores
from orchestrator.config.settings import Config, Strategy
from orchestrator.pricing.cost import cost_of
from orchestrator.resilience.budget import Turns
from orchestrator.resilience.latency import Quantiles
from orchestrator.routes import Candidate, Route
from orchestrator.strategies import TYPICAL_S
from orchestrator.strategies.split import choose
from orchestrator.types import Failure, Finish, Reply, Usage

USUAL_TOKENS = 500
"""How long an answer is taken to be, where a request does not say."""


class Knowing(Protocol):
    """What has to be known for it (`orchestrator.coordinator.Coordinator`)."""

    config: Config
    scores: Scores

    def turns(self, route: Route) -> Turns: ...
    def quantiles(self, candidate: Candidate, *, stream: bool) -> Quantiles | None: ...


class RequestWorld:
    """`orchestrator.strategies.World` of one request."""

    __slots__ = ("_ask", "_begun", "_clock", "_coordinator", "_refused", "arms", "outcomes")

    def __init__(self, coordinator: Knowing, clock: Callable[[], float], ask: Ask) -> None:
        self._coordinator = coordinator
        self._clock = clock
        self._ask = ask
        self.arms: dict[str, str] = {}
        """Selector of a split -> the arm that was asked, the outermost first."""
        self.outcomes: dict[str, str] = {}
        """Selector of a split -> what came of the arm."""
        self._begun: list[str] = []
        self._refused: set[Turns] = set()

    def asked(self, route: Route) -> None:
        """See `World`."""
        self._coordinator.turns(route).budget.deposit(self._clock())

    def may_hedge(self, route: Route) -> bool:
        """See `World`."""
        turns = self._coordinator.turns(route)
        if turns.take(self, self._clock()):
            return True
        self._refused.add(turns)
        return False

    def after_s(self, route: Route, *, stream: bool) -> float:
        """See `World`: of the first candidate, by what its pool knows."""
        first = next(route.leaves())
        share = route.strategy.after_share
        assert share is not None, "a hedge has a delay, or a share"
        known = self._coordinator.quantiles(first, stream=stream)
        if known is not None:
            return known[share]
        return self._coordinator.config.providers[first.provider].options_of(first.model).typical_s or TYPICAL_S

    def order(self, route: Route) -> Sequence[int]:
        """See `World`. A tier among the members counts as its first candidate."""
        strategy = route.strategy
        names = [str(next(one.leaves()) if isinstance(one, Route) else one) for one in route.members]
        # Weights name members as the configuration does.
        named = zip(names, route.names, strict=True)
        weights = {name: strategy.weights[member] for name, member in named if member in strategy.weights}
        costs = self._costs(names) if strategy.by == "cost" else {}
        scores = self._coordinator.scores
        order = scores.order(
            names, self._clock(), by=strategy.by, explore=strategy.explore, weights=weights, costs=costs
        )
        self._begun.append(names[order[0]])
        scores.begin(names[order[0]])
        return order

    def _costs(self, names: Sequence[str]) -> dict[str, float | None]:
        """What each would cost: for the request's input, and the answer that it allows or a usual one."""
        request = self._ask.request
        given = [request.body.get(name) for name in ("max_completion_tokens", "max_tokens")]
        output = next((wanted for wanted in given if isinstance(wanted, int)), USUAL_TOKENS)
        usage = Usage(request.input_tokens, output if request.operation == "chat" else 0)
        found = {name: self._coordinator.config.prices.of(*name.split("/", 1)) for name in names}
        return {name: None if price is None else cost_of(price, usage) for name, price in found.items()}

    def arm(self, route: Route) -> str:
        """See `World`."""
        return self.arms.setdefault(route.selector, arm_of(route.strategy, self._ask))

    def arm_ended(self, route: Route, outcome: Reply | Finish | Failure) -> None:
        """See `World`."""
        self.outcomes[route.selector] = outcome_of(outcome)

    def end(self) -> None:
        """The request has ended."""
        for name in self._begun:
            self._coordinator.scores.end(name)
        for turns in self._refused:
            turns.leave(self)


def arm_of(split: Strategy, ask: Ask) -> str:
    """The arm of a split that a request comes to: always the same for a user."""
    unit = ask.user if split.unit == "user" else None
    return choose(split.arms, split.seed, ask.request_id if unit is None else unit)


def outcome_of(outcome: Reply | Finish | Failure) -> str:
    """Its public name: `ok`, or the kind of failure."""
    return outcome.kind.value if isinstance(outcome, Failure) else "ok"
