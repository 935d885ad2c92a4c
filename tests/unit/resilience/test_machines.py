"""Budget, breaker, limits and retry: machines that are told the time."""

from __future__ import annotations

import random
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.config import settings
from orchestrator.resilience import retry
from orchestrator.resilience.breaker import Breaker
from orchestrator.resilience.budget import Budget, Turns
from orchestrator.resilience.limits import Bucket
from orchestrator.types import Failure, FailureKind


def test_who_was_refused_comes_first() -> None:
    """In the order of the refusals; who leaves is not waited for."""
    turns = Turns(Budget(1.0, 0, floor_per_s=0))
    a, b, c, d = (object() for _ in range(4))
    assert [False, False, False] == [turns.take(one, 0) for one in (a, b, c)]
    turns.budget.deposit(0)
    assert [False, False, True] == [turns.take(one, 0) for one in (d, b, a)]
    turns.leave(b)
    turns.budget.deposit(0)
    assert [False, True] == [turns.take(one, 0) for one in (d, c)]
    turns.budget.deposit(0)
    turns.budget.deposit(0)
    assert [True, True] == [turns.take(one, 0) for one in (object(), d)]


def test_extra_calls_stay_under_their_share() -> None:
    """Beyond the floor, one extra call for each 1/share calls."""
    budget = Budget(0.1, 0.0, floor_per_s=0.0)
    taken = 0
    for _ in range(1000):
        budget.deposit(0.0)
        taken += budget.take(0.0)
    assert taken == pytest.approx(100, abs=1)


def test_a_quiet_system_may_retry() -> None:
    """The floor refills with time."""
    budget = Budget(0.0, 0.0, floor_per_s=1.0)
    assert [budget.take(0.0) for _ in range(11)] == [True] * 10 + [False]
    assert budget.take(1.5)
    assert not budget.take(1.5)


def failing(breaker: Breaker, *times_s: float) -> None:
    for at_s in times_s:
        breaker.end(at_s, False, probe=breaker.begin())


def test_the_breaker_opens_probes_once_and_closes() -> None:
    """Five failures within the window; after the cooldown one probe, whose success closes it."""
    breaker = Breaker(settings.Breaker(failures=3, window_s=10, cooldown_s=5))
    failing(breaker, 0, 1, 2)
    assert (breaker.state(2), breaker.ready_s(2)) == ("open", 7)
    assert breaker.state(7) == "half_open"
    probe = breaker.begin()
    assert probe
    assert breaker.ready_s(7) == inf
    breaker.end(8, True, probe=probe)
    assert breaker.state(8) == "closed"


def test_a_failed_probe_opens_it_again_and_a_cancelled_one_gives_its_place_back() -> None:
    """Only one call at a time finds out."""
    breaker = Breaker(settings.Breaker(failures=1, window_s=10, cooldown_s=5))
    failing(breaker, 0)
    breaker.end(5, None, probe=breaker.begin())
    assert breaker.ready_s(5) <= 5
    breaker.end(6, False, probe=breaker.begin())
    assert breaker.ready_s(6) == 11


@pytest.mark.parametrize(("successes", "state"), [(2, "open"), (3, "open"), (4, "closed"), (400, "closed")])
def test_failures_among_many_successes_do_not_open(successes: int, state: str) -> None:
    """Three failures, with so many successes between the first and the last of them: half of the calls have to fail."""
    breaker = Breaker(settings.Breaker(failures=3, window_s=10, ratio=0.5))
    for _ in range(100):
        breaker.end(0, healthy=True, probe=False)
    breaker.end(1, healthy=False, probe=False)
    breaker.end(1, healthy=False, probe=False)
    for _ in range(successes):
        breaker.end(1, healthy=True, probe=False)
    breaker.end(2, healthy=False, probe=False)
    assert state == breaker.state(2)


def test_failures_far_apart_do_not_open_it() -> None:
    """The window slides."""
    breaker = Breaker(settings.Breaker(failures=2, window_s=10))
    failing(breaker, 0, 11, 22)
    assert breaker.state(22) == "closed"


@given(st.lists(st.tuples(st.floats(0, 2), st.floats(1, 50)), max_size=80), st.floats(10, 600))
def test_a_bucket_never_lets_more_through_than_the_limit_and_a_burst(
    steps: list[tuple[float, float]], limit: float
) -> None:
    """Over any minute, at most the limit, a burst, and the one call that was let through on a full bucket."""
    bucket, now_s, taken = Bucket(limit, 0.0), 0.0, []
    for wait_s, amount in steps:
        now_s += wait_s
        if bucket.ready_s(now_s, amount) <= now_s:
            bucket.take(now_s, amount)
            taken.append((now_s, amount))
    for start_s, _ in taken:
        total = sum(amount for at_s, amount in taken if start_s <= at_s < start_s + 60)
        assert total <= limit + max(1.0, limit * 0.1) + 50 + 1e-6


def test_a_bucket_says_when() -> None:
    """60 a minute with a burst of 6: the seventh waits a second."""
    bucket = Bucket(60, 0.0)
    bucket.take(0.0, 6)
    assert bucket.ready_s(0.0, 1) == pytest.approx(1.0)
    assert Bucket(None, 0.0).ready_s(3.0, 1e9) == 3.0


POLICY = settings.Retry(attempts=3, backoff_s=1, backoff_max_s=3, honour_retry_after_s=5)


@pytest.mark.parametrize(
    ("kind", "retry_after_s", "tries", "expected"),
    [
        (FailureKind.MALFORMED, None, 1, None),
        (FailureKind.SERVER_ERROR, None, 3, None),
        (FailureKind.SERVER_ERROR, 2.0, 1, 2.0),
        (FailureKind.SERVER_ERROR, 6.0, 1, None),
        (FailureKind.RATE_LIMITED, 2.0, 1, 0.0),
        (FailureKind.RATE_LIMITED, 9.0, 1, None),
        (FailureKind.SILENT, None, 1, None),
    ],
)
def test_whether_to_retry(kind: FailureKind, retry_after_s: float | None, tries: int, expected: float | None) -> None:
    """By kind, tries, and what the provider asks for."""
    failure = Failure(kind, "x", retry_after_s=retry_after_s)
    assert retry.wait_s(POLICY, failure, tries, random.Random(1)) == expected


@given(st.integers(1, 2), st.integers())
def test_backoff_is_jittered_under_its_bound(tries: int, seed: int) -> None:
    """Uniform below 1, 2, 3 (the maximum) seconds."""
    waited = retry.wait_s(POLICY, Failure(FailureKind.RESET, "x"), tries, random.Random(seed))
    assert waited is not None
    assert 0 <= waited <= (1, 2)[tries - 1]
    assert retry.backoff_s(POLICY, 9) == 3
