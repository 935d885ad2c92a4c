"""Who is sent through: the same users in every language, more of them with a larger percentage, and never fewer."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.config.load import load_mapping
from orchestrator.config.settings import Rollout
from orchestrator.rollout import Decision, bucket, decide

DOC = Path(__file__).resolve().parents[2] / "docs" / "rollout.md"
VECTORS = re.findall(r"^\| `(.*)` \| `(.+)` \| (\d+\.\d+) \|$", DOC.read_text(encoding="utf-8"), re.MULTILINE)


def test_the_documented_vectors() -> None:
    """To the last digit; at least one is beyond ASCII, and one has no seed."""
    assert len(VECTORS) >= 5
    assert any(not (seed + user).isascii() for seed, user, _ in VECTORS)
    assert "" in {seed for seed, _, _ in VECTORS}
    for seed, user, expected in VECTORS:
        assert float(expected) == bucket(seed, user)


@pytest.mark.parametrize(
    ("rollout", "use", "reason"),
    [
        (Rollout(percent=0), False, "percent"),
        (Rollout(), True, "percent"),
        (Rollout(percent=0, allow=("ada",)), True, "allow"),
        (Rollout(deny=("ada",)), False, "deny"),
        (Rollout(percent=50, allow=("ada",), deny=("ada",)), False, "deny"),
        (Rollout(allow=("Ada",), percent=0), False, "percent"),
    ],
)
def test_deny_wins_over_allow_and_allow_over_the_percentage(rollout: Rollout, use: bool, reason: str) -> None:
    """By exactly that name."""
    decision = decide(rollout, "ada")
    assert (use, reason) == (decision.use, decision.reason)
    assert Decision("ada", use, decision.reason, rollout.percent, bucket("", "ada"), "") == decision


def test_the_share_is_the_percentage() -> None:
    """Of 20,000 users, within 4 sigma; another seed chooses others."""
    users = [f"user-{number}" for number in range(20_000)]
    for seed in ("spring", "autumn"):
        used = sum(decide(Rollout(percent=10, seed=seed), user).use for user in users)
        assert abs(used - 2_000) < 4 * (20_000 * 0.1 * 0.9) ** 0.5
    both = sum(all(decide(Rollout(percent=10, seed=seed), user).use for seed in ("spring", "autumn")) for user in users)
    assert abs(both - 200) < 4 * 200**0.5


@given(st.text(), st.text(max_size=5), st.floats(0, 100), st.floats(0, 100))
def test_a_larger_percentage_takes_nobody_away(user: str, seed: str, one: float, two: float) -> None:
    """Whoever is in at the smaller one is in at the larger one."""
    smaller, larger = (Rollout(percent=percent, seed=seed) for percent in sorted((one, two)))
    assert decide(smaller, user).use <= decide(larger, user).use


@given(st.text() | st.just("\ud800"), st.text(max_size=5))
def test_buckets_are_below_100(user: str, seed: str) -> None:
    """So that 100 % is everybody, and 0 % nobody."""
    assert 0 <= bucket(seed, user) < 100
    assert decide(Rollout(), user).use
    assert not decide(Rollout(percent=0), user).use


def test_it_stands_in_the_configuration() -> None:
    """Left out, everybody is sent through."""
    sim: dict[str, object] = {"providers": {"sim": {"simulate": {}}}}
    assert Rollout() == load_mapping(sim, {}).rollout
    written = {"percent": 10, "allow": ["john"], "deny": [], "seed": "spring"}
    assert Rollout(10.0, ("john",), (), "spring") == load_mapping({**sim, "rollout": written}, {}).rollout
