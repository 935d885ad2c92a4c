"""What every driver has to make of the same routes. Candidates are simulated models that say in their names what they do."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.config.settings import Strategy
from orchestrator.routes import Candidate, Route
from orchestrator.strategies import STRATEGIES
from orchestrator.types import FailureKind
from tests.virtual import Script, answers, fails, streams

QUICK, SLOW, STUCK, ILL = "latency-0.05+rate-0", "latency-0.4+rate-0", "latency-30+rate-0", "error-400"


@dataclass(frozen=True)
class Scenario:
    """A route, and what comes of it: the winner's model (None: a failure of that kind), and who was asked, in order."""

    name: str
    strategy: Strategy
    models: tuple[str, ...]
    winner: str | None
    asked: tuple[str, ...]
    kind: FailureKind | None = None

    @property
    def expected(self) -> tuple[tuple[str, ...], str | FailureKind | None]:
        """Who is asked, and the winner or the kind of failure."""
        return self.asked, self.winner if self.kind is None else self.kind

    @property
    def route(self) -> Route:
        return Route("tier:t", self.strategy, tuple(Candidate("sim", model) for model in self.models))


def script(model: str, *, stream: bool) -> Script:
    """What a simulated model does, for the driver in virtual time."""
    if model == ILL:
        return fails(0.001, FailureKind.MALFORMED)
    if model.startswith("error-"):
        return fails(0.001, FailureKind.SERVER_ERROR)
    after_s = float(model.split("+", maxsplit=1)[0].removeprefix("latency-"))
    return streams(after_s, after_s + 0.01, model) if stream else answers(after_s, model)


DOWN = "error-500"
_FALLBACK, _RACE, _HEDGE = Strategy("fallback"), Strategy("race"), Strategy("hedge", after_s=0.15)
SCENARIOS = (
    Scenario("first asks one", Strategy("first"), (QUICK, SLOW), QUICK, (QUICK,)),
    Scenario("first fails as it is", Strategy("first"), (DOWN, SLOW), None, (DOWN,), FailureKind.SERVER_ERROR),
    Scenario("fallback moves on", _FALLBACK, (DOWN, QUICK, SLOW), QUICK, (DOWN, QUICK)),
    Scenario("fallback runs out", _FALLBACK, (DOWN, DOWN), None, (DOWN, DOWN), FailureKind.ALL_FAILED),
    Scenario("malformed ends it", _FALLBACK, (ILL, QUICK), None, (ILL,), FailureKind.MALFORMED),
    Scenario("race is won by the quickest", _RACE, (STUCK, QUICK, SLOW), QUICK, (STUCK, QUICK, SLOW)),
    Scenario("race survives a failure", _RACE, (DOWN, SLOW), SLOW, (DOWN, SLOW)),
    Scenario("race for the whole", Strategy("race", commit="complete"), (SLOW, QUICK), QUICK, (SLOW, QUICK)),
    Scenario("hedge spares the second", _HEDGE, (QUICK, SLOW), QUICK, (QUICK,)),
    Scenario("hedge asks the second", _HEDGE, (STUCK, QUICK), QUICK, (STUCK, QUICK)),
    Scenario("balance falls back on the others", Strategy("balance"), (DOWN, QUICK), QUICK, (DOWN, QUICK)),
    Scenario("hedge answers a failure", _HEDGE, (DOWN, QUICK), QUICK, (DOWN, QUICK)),
)
assert {scenario.strategy.name for scenario in SCENARIOS} == set(STRATEGIES), "a strategy without a scenario"
