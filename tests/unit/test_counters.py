"""Counters: they grow, they add up, and callers cannot make them grow for ever."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator import histogram
from orchestrator.accounting import Asked, Ended
from orchestrator.asks import Ask
from orchestrator.config.load import load_mapping
from orchestrator.config.settings import Strategy
from orchestrator.counters import MAX_LABELS, Counters, total, upstream_s
from orchestrator.drive import Record
from orchestrator.histogram import Histogram
from orchestrator.routes import Candidate, Route
from orchestrator.types import Failure, FailureKind, Finish, Json, Reply, Request, Try

CONFIG = load_mapping({"providers": {"sim": {"simulate": {}}}}, {})
ROUTE = Route("tier:fast", Strategy("race"), (Candidate("sim", "a"),))


def attempt(outcome: str = "ok", start_s: float = 0.0, latency_s: float | None = 0.2, **fields: Any) -> Json:
    return {
        "provider": "sim", "model": "a", "outcome": outcome, "status": 200, "start_s": start_s, "latency_s": latency_s,
        "first_token_s": None, "input_tokens": None, "output_tokens": None, "cached_tokens": None,
        "reasoning_tokens": None, "cost_usd": None, "cost_is_estimate": False, **fields,
    }  # fmt: skip


def ended(
    *attempts: Json, outcome: Reply | Finish | Failure | None = None, user: str | None = None, **fields: Any
) -> Ended:
    ask = Ask("tier:fast", Request({}), None, "id", user)
    report = {
        "request_id": "id",
        "selector": "tier:fast",
        "strategy": "race",
        "attempts": [*attempts],
        **fields.pop("report", {}),
    }
    known = {"seconds": 0.25, "first_token_s": None, "arm_outcomes": {}, **fields}
    return Ended(Asked(ask, ROUTE, CONFIG, 0.0), outcome or Reply({}, "a"), report, **known)


def test_they_add_up() -> None:
    """Over processes; the parts stay what they were."""
    one, two = Counters(), Counters()
    for counters in (one, one, two):
        counters.request("tier:fast", "race", "ok")
        counters.attempt("sim", "a", "ok")
    two.attempt("sim", "b", "cancelled")
    two.arm("tier:trial", "new", "ok")
    assert {
        "requests": [{"selector": "tier:fast", "strategy": "race", "outcome": "ok", "count": 3}],
        "attempts": [
            {"provider": "sim", "model": "a", "outcome": "ok", "count": 3},
            {"provider": "sim", "model": "b", "outcome": "cancelled", "count": 1},
        ],
        "arms": [{"selector": "tier:trial", "arm": "new", "outcome": "ok", "count": 1}],
    } == total([pickle.loads(pickle.dumps(one)), two]).rows()
    assert 2 == one.requests["tier:fast", "race", "ok"]


def test_labels_are_bounded() -> None:
    """What comes beyond is counted together, and nothing is lost."""
    counters = Counters()
    for number in range(MAX_LABELS + 100):
        counters.request(f"sim/{number}", "first", "ok")
        counters.attempt("sim", str(number), "ok")
        counters.count("orchestrator_x_total", {"a": str(number), "b": "1"})
    counters.request("sim/0", "first", "ok")
    assert (MAX_LABELS + 1, MAX_LABELS + 1) == (len(counters.requests), len(counters.attempts))
    assert (100, 2) == (counters.requests["other", "first", "ok"], counters.requests["sim/0", "first", "ok"])
    assert MAX_LABELS + 100 == sum(counters.attempts.values())
    assert 100 == counters.named["orchestrator_x_total"][("a", "other"), ("b", "other")]
    assert MAX_LABELS + 100 == sum(counters.named["orchestrator_x_total"].values())
    seen = Histogram((1.0,))
    for number in range(histogram.MAX_LABELS + 10):
        seen.observe(1, ("sim", str(number)))
    assert [10.0, 0.0, 10.0] == seen.cells["sim", "other"]


def test_names_are_bounded() -> None:
    """They come from callers, and stay for ever."""
    counters = Counters()
    one = ended(attempt(model="m" * 300, cost_usd=0.5), user="u" * 300, report={"selector": "s" * 300})
    counters.ended(one)
    assert [("other", "race", "ok")] == list(counters.requests)
    assert [("sim", "other", "other")] == list(counters.cost_usd)


def test_a_request_is_counted_once_with_all_that_its_report_says() -> None:
    """Tokens by direction, cost by user, and latencies by model; what is not known is not counted as 0."""
    counters = Counters()
    spent: Json = {"input_tokens": 10, "output_tokens": 20, "cached_tokens": 4, "reasoning_tokens": 5, "cost_usd": 0.5}
    tries = (Try("server_error", 0.0, 0.1, 500), Try("ok", 0.1, 0.2, 200))
    retried = Record(Candidate("sim", "a"), 0.0, 0.3, Reply({}, "a", tries=tries))
    hedge = Record(Candidate("sim", "a"), 0.0, 0.3, extra=True)
    lost = attempt("cancelled", start_s=0.0, latency_s=0.3, status=None)
    report = {"arms": {"tier:trial": "new", "tier:inner": "b"}}
    counters.ended(
        ended(
            attempt(first_token_s=0.1, **spent), lost, attempt("server_error", status=500, latency_s=0.1),
            user="john", first_token_s=0.11, records=[retried, hedge], report=report, arm_outcomes={"tier:trial": "ok"},
        )
    )  # fmt: skip
    assert {("tier:fast", "race", "ok"): 1} == counters.requests
    assert {("tier:trial", "new", "ok"): 1, ("tier:inner", "b", "cancelled"): 1} == counters.arms
    assert {("sim", "a", "ok"): 1, ("sim", "a", "cancelled"): 1, ("sim", "a", "server_error"): 1} == counters.attempts
    assert {
        ("sim", "a", "input"): 10, ("sim", "a", "output"): 20, ("sim", "a", "cached"): 4, ("sim", "a", "reasoning"): 5,
    } == counters.tokens  # fmt: skip
    assert {("sim", "a", "john"): 0.5} == counters.cost_usd
    assert {("first",): 1, ("hedge",): 1, ("retry",): 1} == counters.calls
    assert 2.0 == counters.extra_calls_ratio
    assert [0.25, 0.11] == [counters.request_s.cells[()][-1], counters.first_token_s.cells[()][-1]]
    assert [0.2, 0.1] == [
        counters.attempt_s.cells["sim", "a"][-1],
        counters.attempt_first_token_s.cells["sim", "a"][-1],
    ]
    # 20 tokens in the 0.1 s after the first.
    assert 200 == counters.attempt_tokens_per_s.cells["sim", "a"][-1]


def test_a_caller_who_left_says_nothing_of_latencies() -> None:
    """It is counted, and no more; so is a request that was refused before anybody was called."""
    counters = Counters()
    counters.ended(ended(attempt("cancelled"), outcome=Failure(FailureKind.CANCELLED, "left")))
    counters.ended(
        ended(attempt("queue_full", status=None), outcome=Failure(FailureKind.QUEUE_FULL, "full"), seconds=0.002)
    )
    assert {("tier:fast", "race", "cancelled"): 1, ("tier:fast", "race", "queue_full"): 1} == counters.requests
    assert ({}, {}) == (counters.request_s.cells, counters.attempt_s.cells)
    assert 0.002 == counters.overhead_s.cells[()][-1]
    assert {("first",): 1} == counters.calls
    assert 0.0 == Counters().extra_calls_ratio


def test_overhead_is_what_no_attempt_took() -> None:
    """Attempts side by side count once; what one waited for while nobody was upstream is overhead."""
    counters = Counters()
    counters.ended(ended(attempt(start_s=0.0, latency_s=0.1), attempt(start_s=0.05, latency_s=0.1), seconds=1.0))
    assert pytest.approx(0.85) == counters.overhead_s.cells[()][-1]
    counters = Counters()
    counters.ended(ended(attempt(latency_s=0.3), seconds=0.3 - 1e-7))
    assert 0.0 == counters.overhead_s.cells[()][-1]


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20) | st.none()), max_size=8))
def test_the_time_upstream_is_that_of_the_union(spans: list[tuple[int, int | None]]) -> None:
    """Whatever overlaps, touches or lies within; an attempt that has no end took no time."""
    covered = {second for start, length in spans for second in range(start, start + (length or 0))}
    assert len(covered) == upstream_s([attempt(start_s=start, latency_s=length) for start, length in spans])


@given(st.lists(st.sampled_from([0.001, 0.01, 0.2, 5.0, 500.0])), st.lists(st.sampled_from([0.01, 1.0])))
def test_what_was_taken_away_is_not_there(before: list[float], since: list[float]) -> None:
    """The difference between two states of counters is what was counted between them."""
    counters, only = Counters(), Counters()
    for seconds in before:
        counters.ended(ended(attempt(latency_s=seconds), seconds=seconds))
        counters.count("orchestrator_x_total", {"a": "b"}, 2)
    base = pickle.loads(pickle.dumps(counters))
    for seconds in since:
        for one in (counters, only):
            one.ended(ended(attempt(latency_s=seconds), seconds=seconds))
            one.count("orchestrator_x_total", {"a": "b"}, 3)
    counters.add(base, -1)
    assert sum(only.requests.values()) == sum(counters.requests.values())
    assert sum(only.named.get("orchestrator_x_total", {}).values()) == sum(
        counters.named.get("orchestrator_x_total", {}).values()
    )
    for cell, expected in zip(counters.attempt_s.cells.values(), only.attempt_s.cells.values(), strict=False):
        assert pytest.approx(expected) == cell


def test_a_bucket_holds_its_upper_bound() -> None:
    """As Prometheus has it: less or equal."""
    seen = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 3.0):
        seen.observe(value)
    assert [2, 2, 1, 8.0] == seen.cells[()]
