"""What every driver has to make of the same routes. Candidates are simulated models that say in their names what they do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from orchestrator.config.settings import Strategy
from orchestrator.routes import Candidate, Route
from orchestrator.strategies import STRATEGIES
from orchestrator.types import FailureKind, Reply
from tests.virtual import Script, answers, fails, streams

QUICK, SLOW, STUCK, ILL = "latency-0.05+rate-0", "latency-0.4+rate-0", "latency-30+rate-0", "error-400"

Member: TypeAlias = "str | tuple[Strategy, tuple[Member, ...]]"
"""A model, or a tier within the tier."""


@dataclass(frozen=True)
class Scenario:
    """A route, and what comes of it: the winner's model (None: a failure of that kind), and who was asked, in order."""

    name: str
    strategy: Strategy
    members: tuple[Member, ...]
    winner: str | None
    asked: tuple[str, ...]
    kind: FailureKind | None = None

    @property
    def expected(self) -> tuple[tuple[str, ...], str | FailureKind | None]:
        """Who is asked, and the winner or the kind of failure."""
        return self.asked, self.winner if self.kind is None else self.kind

    @property
    def route(self) -> Route:
        helpers = tuple(one.removeprefix("sim/") for one in self.strategy.helpers)
        return _route("tier:t", self.strategy, (*self.members, *helpers))

    @property
    def whole(self) -> bool:
        """Whether it decides by whole answers, however it is asked."""
        return self.strategy.commit == "complete" or self.strategy.name in ("consensus", "cascade")

    @property
    def models(self) -> list[str]:
        """The leaves'."""
        return [candidate.model for candidate in self.route.leaves()]


def _route(selector: str, strategy: Strategy, members: tuple[Member, ...]) -> Route:
    inner = [one if isinstance(one, str) else _route(f"{selector}-{at}", *one) for at, one in enumerate(members)]
    return Route(selector, strategy, tuple(Candidate("sim", one) if isinstance(one, str) else one for one in inner))


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
_SPLIT = Strategy("split", arms={"control": 0, "new": 1})
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
    Scenario("spill spares the second", Strategy("spill"), (QUICK, SLOW), QUICK, (QUICK,)),
    Scenario("spill moves on", Strategy("spill", max_wait_s=0), (DOWN, QUICK, SLOW), QUICK, (DOWN, QUICK)),
    Scenario("split asks one arm", _SPLIT, (SLOW, QUICK), QUICK, (QUICK,)),
    Scenario("split fails with its arm", _SPLIT, (QUICK, DOWN), None, (DOWN,), FailureKind.SERVER_ERROR),
    Scenario("an arm falls back by itself", _SPLIT, (SLOW, (_FALLBACK, (DOWN, QUICK))), QUICK, (DOWN, QUICK)),
    Scenario("a split within a split", _SPLIT, (SLOW, (_SPLIT, (STUCK, QUICK))), QUICK, (QUICK,)),
    Scenario("a race of splits", _RACE, ((_SPLIT, (STUCK, SLOW)), (_SPLIT, (STUCK, QUICK))), QUICK, (SLOW, QUICK)),
)
assert {scenario.strategy.name for scenario in SCENARIOS} == set(STRATEGIES), "a strategy without a scenario"
