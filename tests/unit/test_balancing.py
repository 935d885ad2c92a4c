"""Balancing over deployments: who is asked first, and how well that goes."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable

import pytest

from orchestrator.balancing import DECAY_S, IDLE_S, KEPT, By, Scores

NAMES = ("a", "b", "c")


def order(scores: Scores, now_s: float = 0.0, by: By = "latency", explore: float = 0.0, **weights: float) -> list[str]:
    return [NAMES[i] for i in scores.order(NAMES, now_s, by=by, explore=explore, weights=weights)]


def cheapest(scores: Scores, now_s: float = 0.0, **costs: float | None) -> list[str]:
    return [NAMES[i] for i in scores.order(NAMES, now_s, by="cost", explore=1.0, weights={}, costs=costs)]


def known(**seconds: float) -> Scores:
    scores = Scores(random.Random(1))
    for name, latency_s in seconds.items():
        for _ in range(20):
            scores.learn(name, 0.0, latency_s)
    return scores


def test_the_quickest_comes_first() -> None:
    """The others are its fallbacks, in order."""
    assert ["b", "c", "a"] == order(known(a=3, b=1, c=2))


def test_load_counts() -> None:
    """A quick one that is busy waits for the others; when it is free, it is first again."""
    scores = known(a=1, b=1.5, c=9)
    scores.begin("a")
    assert "b" == order(scores)[0]
    scores.end("a")
    assert "a" == order(scores)[0]


def test_failing_fast_is_not_being_quick() -> None:
    """Neither where half of the calls fail, nor where none has ever been answered."""
    scores = known(a=0.001, b=1, c=9)
    for i in range(60):
        scores.learn("a", i * 0.01, None if i % 2 else 0.001)
    assert "b" == order(scores, 0.6)[0]
    never = known(b=1, c=2)
    never.learn("a", 0.0, None)
    assert "a" == order(never)[-1]


def test_what_is_not_known_is_tried() -> None:
    """A new one, and one that nobody has asked for long."""
    assert "c" == order(known(a=1, b=2))[0]
    scores = known(a=1, b=2, c=3)
    for _ in range(3):
        scores.learn("a", IDLE_S + 1, 1)
        scores.learn("b", IDLE_S + 1, 2)
    assert "c" == order(scores, IDLE_S + 2)[0]


def test_a_worse_sample_counts_at_once_and_is_forgotten_by_time() -> None:
    """Peak EWMA."""
    scores = known(a=1, b=2, c=9)
    scores.learn("a", 0.0, 8)
    assert "b" == order(scores)[0]
    for i in range(5):
        scores.learn("a", (i + 1) * DECAY_S, 1)
        scores.learn("b", (i + 1) * DECAY_S, 2)
        scores.learn("c", (i + 1) * DECAY_S, 9)
    assert "a" == order(scores, 5 * DECAY_S)[0]


def test_whoever_asks_to_be_left_alone_comes_last() -> None:
    """Until then; of several, the first to be back before the others."""
    scores = known(a=1, b=2, c=3)
    scores.learn("a", 0.0, None, alone_s=9)
    scores.learn("b", 0.0, None, alone_s=5)
    for by in ("latency", "in_flight", "weight"):
        assert ["c", "b", "a"] == order(scores, 4.9, by)
    assert {"a", "b", "c"} == {order(scores, 9.1, "in_flight")[0] for _ in range(50)}


def test_a_share_explores() -> None:
    """About one in ten goes to another than the best."""
    scores = known(a=1, b=2, c=3)
    first = Counter(order(scores, explore=0.1)[0] for _ in range(5_000))
    assert first["a"] == pytest.approx(4_500, rel=0.03)
    assert first["b"] == pytest.approx(first["c"], rel=0.25)


def test_by_weight() -> None:
    """First places are shared by weight; none for a weight of nothing."""
    scores = Scores(random.Random(1))
    first = Counter(order(scores, by="weight", a=3, b=1, c=0)[0] for _ in range(4_000))
    assert first["a"] == pytest.approx(3_000, rel=0.05)
    assert first["c"] == 0
    assert order(scores, by="weight", a=3, b=1, c=0)[-1] == "c"


def test_by_in_flight_the_less_busy_of_two() -> None:
    """The busiest of three is never first."""
    scores = Scores(random.Random(1))
    for name, count in (("a", 5), ("b", 1), ("c", 3)):
        for _ in range(count):
            scores.begin(name)
    first = Counter(order(scores, by="in_flight")[0] for _ in range(3_000))
    assert first["a"] == 0
    assert first["b"] == pytest.approx(2_000, rel=0.1)


def test_what_is_kept_is_bounded() -> None:
    """The longest unused goes first, but not one in use."""
    scores = Scores()
    scores.begin("busy")
    for number in range(KEPT + 10):
        scores.learn(str(number), 0.0, 1)
    assert len(scores._known) == KEPT
    assert scores._of("busy").in_flight == 1


def simulate(choose: Callable[[Scores, float, int], list[int]]) -> tuple[Counter[str], float, float]:
    """Six minutes, about eight callers at a time on average, of three deployments: one good, one four times as slow, one that
    fails half of its calls at once. Returns who was asked first, p95 of the time to an answer, and failed first tries."""
    rng, scores = random.Random(5), Scores(random.Random(6))
    latency = {"a": 0.5, "b": 2.0, "c": 0.5}
    events: list[tuple[float, int, str, float | None]] = []
    now_s, shares, times, failed = 0.0, Counter[str](), [], 0
    for number in range(6_000):
        now_s += rng.expovariate(16)
        while events and events[0][0] <= now_s:
            at_s, _, name, seconds = heapq.heappop(events)
            scores.learn(name, at_s, seconds)
            scores.end(name)
        waited_s = 0.0
        for place, i in enumerate(choose(scores, now_s, number)):
            name = NAMES[i]
            fails = name == "c" and rng.random() < 0.5
            seconds = 0.05 if fails else latency[name] * rng.lognormvariate(0, 0.3)
            scores.begin(name)
            heapq.heappush(events, (now_s + waited_s + seconds, number * 4 + place, name, None if fails else seconds))
            shares[name] += place == 0
            failed += fails and place == 0
            waited_s += seconds
            if not fails:
                break
        times.append(waited_s)
    return shares, sorted(times)[int(0.95 * len(times))], failed / 6_000


def test_better_than_taking_turns() -> None:
    """Next to round-robin, and to asking the good one alone, which is the best that one can do without knowing load."""
    shares, p95_s, errors = simulate(lambda s, now, _: s.order(NAMES, now, by="latency", explore=0.05, weights={}))
    turns, turns_p95_s, turns_errors = simulate(lambda _s, _now, n: [n % 3, (n + 1) % 3, (n + 2) % 3])
    _, best_p95_s, _ = simulate(lambda _s, _now, _n: [0, 1, 2])
    assert turns["a"] == 2_000
    assert shares["a"] > 1.5 * max(shares["b"], shares["c"])
    assert errors < turns_errors * 0.75
    assert p95_s < turns_p95_s
    assert best_p95_s < turns_p95_s


def test_by_cost_the_cheapest_comes_first() -> None:
    """However slow it is; one that has no known price comes last, and equals take turns."""
    scores = known(a=9, b=1, c=2)
    assert ["a", "c", "b"] == cheapest(scores, a=0.1, b=None, c=0.2)
    assert ["b", "a", "c"] == cheapest(scores, a=0.1, b=0.0)
    assert {"a", "b"} == {cheapest(scores, a=0.1, b=0.1, c=0.2)[0] for _ in range(50)}


def test_by_cost_one_that_does_not_answer_comes_after_those_that_do() -> None:
    """Also after one of unknown price; after a while it is tried again, and who asks to be left alone comes last of all."""
    scores = known(a=1, b=1, c=1)
    for i in range(20):
        scores.learn("a", i * 0.01, None)
    assert ["b", "c", "a"] == cheapest(scores, 1.0, a=0.1, b=0.2, c=None)
    assert ["a", "b", "c"] == cheapest(scores, 1.0 + IDLE_S, a=0.1, b=0.2, c=None)
    scores.learn("b", 1.0, None, alone_s=60)
    assert ["c", "a", "b"] == cheapest(scores, 1.0, a=0.1, b=0.2, c=0.3)
