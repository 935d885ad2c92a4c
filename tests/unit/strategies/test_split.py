"""Which arm a unit is sent to: its share of them, always the same one, and who moves when a weight changes."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.config.settings import Strategy
from orchestrator.routes import Candidate, Route
from orchestrator.strategies import Freely, plan
from orchestrator.strategies.split import choose
from orchestrator.types import Failure, FailureKind, Request
from tests.virtual import answers, cut, fails, run, streams

weights = st.floats(0.001, 1000)
many = st.dictionaries(st.text(max_size=5), weights, min_size=1, max_size=6)
USERS = [f"user-{number}" for number in range(300)]


@pytest.mark.parametrize(
    "arms", [{"a": 90, "b": 10}, {"a": 1, "b": 1, "c": 1}, {"a": 0.001, "b": 0.003}, {"a": 5, "b": 0, "c": 15}]
)
def test_shares_are_those_of_the_weights(arms: dict[str, float]) -> None:
    """Over 20,000 units, within what chance allows: chi square below its 99.9th percentile for two degrees of freedom."""
    units = 20_000
    counts = Counter(choose(arms, "trial", f"user-{number}") for number in range(units))
    expected = {arm: units * weight / sum(arms.values()) for arm, weight in arms.items() if weight}
    assert set(expected) == set(counts)
    assert sum((counts[arm] - expected[arm]) ** 2 / expected[arm] for arm in expected) < 13.8


def test_seeds_are_independent() -> None:
    """Of those whom one split sends to an arm, another with the same arms sends its share there, within 4 sigma."""
    arms = {"a": 1, "b": 1}
    one = [unit for unit in map(str, range(1_600)) if choose(arms, "one", unit) == "a"]
    both = sum(choose(arms, "two", unit) == "a" for unit in one)
    assert abs(both - len(one) / 2) < 2 * len(one) ** 0.5


@given(many, st.text(), st.text())
def test_a_unit_comes_to_the_same_arm(arms: dict[str, float], seed: str, unit: str) -> None:
    """Whatever the order in which the arms stand."""
    assert choose(arms, seed, unit) == choose(dict(reversed(arms.items())), seed, unit)


@given(many, st.text(max_size=5), st.text(max_size=5))
def test_an_arm_of_weight_0_moves_nobody(arms: dict[str, float], seed: str, name: str) -> None:
    """Neither when it is added nor when it is taken away."""
    known = {arm: weight for arm, weight in arms.items() if arm != name}
    if known:
        assert [choose(known, seed, one) for one in USERS] == [choose({**known, name: 0}, seed, one) for one in USERS]


@given(many, st.data(), weights)
def test_a_weight_that_grows_moves_units_to_its_arm_alone(
    arms: dict[str, float], data: st.DataObject, by: float
) -> None:
    """And the other way round: one that shrinks moves units away from its arm alone."""
    grown = data.draw(st.sampled_from(sorted(arms)))
    for unit in USERS:
        before, after = choose(arms, "s", unit), choose({**arms, grown: arms[grown] + by}, "s", unit)
        assert after in (before, grown)


def test_a_seed_and_a_unit_are_not_mixed_up() -> None:
    """`a` + `bc` is another than `ab` + `c`."""
    arms = dict.fromkeys(map(str, range(1_000)), 1.0)
    assert choose(arms, "a", "bc") != choose(arms, "ab", "c")


@pytest.mark.parametrize(
    "script", [fails(1), cut(1, 2), fails(1, FailureKind.POOL_LOST), fails(1, FailureKind.CONTENT_POLICY)]
)
def test_nobody_else_is_asked(script: object) -> None:
    """Whatever comes of the arm that was chosen: an answer of another would count for it."""
    arms = Strategy("split", arms={"a": 0, "b": 1, "c": 0}, content_filter="fallback")
    route = Route("tier:t", arms, tuple(Candidate("x", name) for name in "abc"))
    ran = run(plan(route, Request({}, stream=True)), [streams(1, 2), script, answers(1)])  # type: ignore[list-item]
    assert {1} == set(ran.asked)
    assert isinstance(ran.verdict.outcome, Failure)


def test_the_world_tells_the_arm() -> None:
    """By its name; the plan finds the member."""

    class Telling(Freely):
        def arm(self, route: Route) -> str:
            assert route.selector == "tier:t"
            return "a"

    route = Route("tier:t", Strategy("split", arms={"b": 1, "a": 1}), (Candidate("x", "b"), Candidate("x", "a")))
    assert [1] == run(plan(route, Request({}), Telling()), [fails(1), answers(1)]).asked
