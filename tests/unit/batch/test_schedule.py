"""What is asked next, and whether there is money for it."""

from __future__ import annotations

from math import inf

import pytest

from orchestrator.batch.schedule import Pair, Purse, Schedule, is_later, wait_s
from orchestrator.types import Failure, FailureKind
from tests.unit.batch.given import pair


def schedule(window: int = 4, purse: Purse | None = None, **arms: list[Pair]) -> Schedule:
    return Schedule({arm: iter(pairs) for arm, pairs in arms.items()}, window, purse or Purse(None))


def pairs(arm: str, count: int, worst_usd: float = 0.0) -> list[Pair]:
    return [pair(str(i), arm, worst_usd) for i in range(count)]


def taken(one: Schedule, now_s: float, most: int = 99) -> list[tuple[str, str]]:
    """What is begun now, at most so many."""
    found: list[tuple[str, str]] = []
    while len(found) < most and (next_one := one.next(now_s)) is not None:
        found.append((next_one.arm, next_one.item.id))
    return found


def test_arms_go_side_by_side() -> None:
    """The one that is behind is next; one that is shorter ends sooner."""
    one = schedule(a=pairs("a", 3), b=pairs("b", 1))
    assert [("a", "0"), ("b", "0"), ("a", "1"), ("a", "2")] == taken(one, 0)
    assert one.is_over()


def test_what_has_to_wait_comes_in_its_time_and_before_what_is_new() -> None:
    """And counts how often it was asked."""
    one = schedule(a=pairs("a", 3))
    first, second = one.next(0), one.next(0)
    assert first is not None
    assert second is not None
    one.again(first, 5.0)
    one.again(second, 4.0)
    assert (4.0, 5.0) == (one.wake_s(0), one.wake_s(4.0))
    assert [("a", "1"), ("a", "2")] == taken(one, 4.5)
    assert not one.is_over()
    assert [("a", "0")] == taken(one, 5.0)
    assert (2, 0.0) == (first.asks, first.first_s)
    assert (inf, True) == (one.wake_s(5.0), one.is_over())


def test_an_arm_in_trouble_holds_up_itself_alone() -> None:
    """It begins nothing new once its share of the window waits; the others go on."""
    one = schedule(4, a=pairs("a", 9), b=pairs("b", 4))
    for _ in range(2):
        waiting = next(iter([p for p in [one.next(0), one.next(0)] if p is not None and p.arm == "a"]))
        one.again(waiting, 60.0)
    assert [("b", "2"), ("b", "3")] == taken(one, 1.0)
    assert not one.is_over()
    assert [("a", "0"), ("a", "1"), ("a", "2")] == taken(one, 60.0, 3)


def test_nothing_is_begun_that_could_cost_too_much() -> None:
    """What is in flight counts by its worst case, until it is known better."""
    purse = Purse(10.0, 1.0)
    one = schedule(purse=purse, a=pairs("a", 9, 3.0))
    assert [("a", "0"), ("a", "1"), ("a", "2")] == taken(one, 0)
    assert one.out_of_money
    assert 0.5 == purse.settle(3.0, 0.5)
    assert [] == taken(one, 0)
    assert 0.5 == purse.settle(3.0, 0.5)
    assert [("a", "3")] == taken(one, 0)
    assert 3.0 == purse.settle(3.0, None)
    assert (5.0, 3.0, 10.0) == (purse.spent_usd, purse.held_usd, purse.budget_usd)
    one.next(0)
    assert one.out_of_money


@pytest.mark.parametrize("count", [3, 7, 1000])
def test_a_budget_of_what_all_may_cost_is_enough_for_all(count: int) -> None:
    """As `--dry-run` says it, to the cent: sums of tenths are a hair off in binary. The next one is too much."""
    purse = Purse(round(count * 0.1, 10))
    assert all(purse.take(0.1) for _ in range(count))
    assert not purse.take(1e-9)
    for _ in range(count):
        purse.settle(0.1, None)
    assert not purse.take(1e-9)


def test_without_a_budget_nobody_counts() -> None:
    """Infinity is what there is."""
    assert Purse(None).take(1e9)


@pytest.mark.parametrize(("kind", "expected"), [(FailureKind.BREAKER_OPEN, True), (FailureKind.SILENT, False)])
def test_failures_of_the_moment(kind: FailureKind, expected: bool) -> None:
    """Alone, or as one of several causes."""
    causes = (("a/x", Failure(FailureKind.MALFORMED, "")), ("b/y", Failure(kind, "")))
    assert expected == is_later(Failure(kind, ""))
    assert expected == is_later(Failure(FailureKind.ALL_FAILED, "", causes=causes))


def test_waits_grow_and_heed_what_is_asked_for() -> None:
    """1, 2, 4, at most 30 s; longer where a cause asks for it; half as much again by jitter."""
    failure = Failure(FailureKind.QUEUE_FULL, "")
    assert [1, 2, 4, 30, 30] == [wait_s(failure, asks, 0) for asks in (1, 2, 3, 6, 500)]
    assert 1.25 == wait_s(failure, 1, 0.5)
    asks = Failure(FailureKind.PAUSED, "", retry_after_s=50)
    assert 50 == wait_s(asks, 1, 0)
    assert 50 == wait_s(Failure(FailureKind.ALL_FAILED, "", causes=(("a/x", asks),)), 1, 0)
