"""What every driver has to make of the same routes. Candidates are simulated models that say in their names what they do."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.config.settings import Strategy
from orchestrator.routes import Candidate, Route
from orchestrator.strategies import STRATEGIES
from orchestrator.types import FailureKind, Reply
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
    def route(self) -> Route:
        models = (*self.models, *(one.removeprefix("sim/") for one in self.strategy.helpers))
        return Route("tier:t", self.strategy, tuple(Candidate("sim", model) for model in models))

    @property
    def whole(self) -> bool:
        """Whether it decides by whole answers, however it is asked."""
        return self.strategy.commit == "complete" or self.strategy.name in ("consensus", "cascade")


def script(model: str, *, stream: bool) -> Script:
    """What a simulated model does, for the driver in virtual time."""
    if model == ILL:
        return fails(0.001, FailureKind.MALFORMED)
    if model.startswith("error-"):
        return fails(0.001, FailureKind.SERVER_ERROR)
    after_s = float(model.split("+", maxsplit=1)[0].removeprefix("latency-"))
    if "+say-" in model:
        choice = {"message": {"content": model.rpartition("+say-")[2]}, "finish_reason": "stop"}
        return Script(((after_s, Reply({"choices": [choice]}, model)),))
    return streams(after_s, after_s + 0.01, model) if stream else answers(after_s, model)


DOWN = "error-500"
A1, A2, B, STUCK_A = "latency-0.05+say-a", "latency-0.1+say-a", "latency-0.01+say-b", "latency-30+say-a"
_VOTE = Strategy("consensus", quorum=2)
_UP = Strategy("cascade", escalate=f"sim/{QUICK}+say-c", on_disagreement="escalate")
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
    Scenario("consensus stops with the second that agrees", _VOTE, (A1, B, A2, STUCK_A), A1, (A1, B, A2, STUCK_A)),
    Scenario("consensus without answers", _VOTE, (DOWN, DOWN), None, (DOWN, DOWN), FailureKind.ALL_FAILED),
    Scenario("cascade spares the third", _UP, (A1, A2, STUCK), A1, (A1, A2)),
    Scenario("cascade escalates", _UP, (A1, B), f"{QUICK}+say-c", (A1, B, f"{QUICK}+say-c")),
    Scenario("hedge answers a failure", _HEDGE, (DOWN, QUICK), QUICK, (DOWN, QUICK)),
)
assert {scenario.strategy.name for scenario in SCENARIOS} == set(STRATEGIES), "a strategy without a scenario"
