"""What the answer object says of costs."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.asks import Ask
from orchestrator.config.settings import Strategy
from orchestrator.drive import Record
from orchestrator.money import plain
from orchestrator.pricing.book import Prices
from orchestrator.pricing.price import Price
from orchestrator.report import cost_of_call, report_of
from orchestrator.routes import Candidate, Route
from orchestrator.types import Failure, FailureKind, Finish, Json, Reply, Request, Try, Usage

ASK = Ask("tier:t", Request({"messages": []}), None, "id")
ROUTE = Route("tier:t", Strategy("race"), (Candidate("p", "a"), Candidate("p", "b")))
PRICES = Prices(overrides={"p/*": Price(input_per_mtok_usd=1.0, output_per_mtok_usd=2.0)})
K = FailureKind


def ended(outcome: Reply | Finish | Failure | None, input_tokens: int = 10, model: str = "a") -> Record:
    return Record(Candidate("p", model), 0.0, 1.0, outcome, input_tokens)


def answered(cost_usd: float | None) -> Record:
    return ended(Reply({}, "a", Usage(1, 2, cost_usd=cost_usd), (Try("ok", 0.0, 1.0, 200),)))


def failed(kind: FailureKind, *, status: int | None = 500, usage: Usage | None = None) -> Record:
    return ended(Failure(kind, "no", usage=usage, tries=(Try(kind.value, 0.0, 1.0, status),)))


def report(records: list[Record], prices: Prices = PRICES) -> Json:
    return report_of(ASK, ROUTE, records, None, {}, prices)


@pytest.mark.parametrize(
    ("records", "cost_usd"),
    [
        ([answered(0.25)], 0.25),
        ([answered(0.1), answered(0.2)], 0.3),
        ([answered(None)], None),
        ([answered(0.25), answered(None)], None),
        ([failed(K.SERVER_ERROR), answered(0.25)], 0.25),
        ([failed(K.SILENT), answered(0.25)], None),
        ([ended(None), answered(0.25)], None),
        ([failed(K.SERVER_ERROR)], 0.0),
        ([], 0.0),
    ],
)
def test_the_cost_of_the_whole_without_prices(records: list[Record], cost_usd: float | None) -> None:
    """The sum, unless it is not known of one that may have cost something; an error costs nothing."""
    said = report(records, Prices())
    assert cost_usd == said["cost_usd"]
    assert [None] * len(records) == [one["first_token_s"] for one in said["attempts"]]


OK = (Try("ok", 0.0, 1.0, 200),)


def spent(record: Record, prices: Prices = PRICES) -> tuple[Any, ...]:
    """The tokens, cost and doubt of a record's only attempt."""
    (attempt,) = report([record], prices)["attempts"]
    return tuple(attempt[name] for name in ("input_tokens", "output_tokens", "cost_usd", "cost_is_estimate"))


TEXT = {"choices": [{"message": {"content": "x" * 9, "reasoning_content": "x", "tool_calls": [
    {"function": {"name": "f", "arguments": "{}"}}, 7]}}]}  # fmt: skip


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (ended(Reply({}, "a", Usage(3, 5), OK)), (3, 5, 13e-6, False)),
        (ended(Finish({}, "a", Usage(3, 5), None, OK)), (3, 5, 13e-6, False)),
        # From the cache, of whose price nothing is known.
        (ended(Reply({}, "a", Usage(3, 5, cached_tokens=1), OK)), (3, 5, 13e-6, True)),
        (ended(Reply(TEXT, "a", None, OK)), (10, 4, 18e-6, True)),
        (ended(Reply(TEXT, "a", Usage(), OK)), (10, 4, 18e-6, True)),
        (ended(Reply({"data": [{"embedding": [1]}]}, "a", None, OK)), (10, 0, 10e-6, True)),
        (ended(Finish({}, "a", None, None, OK)), (10, 0, 10e-6, True)),
        (ended(Reply({}, "a", Usage(3, 5, cost_usd=0.5), OK)), (3, 5, 0.5, False)),
        # Refused, failed, or never sent: nothing.
        (failed(K.SERVER_ERROR), (None, None, 0.0, False)),
        (failed(K.RATE_LIMITED, status=429), (None, None, 0.0, False)),
        (failed(K.MALFORMED, status=400), (None, None, 0.0, False)),
        (failed(K.UNREACHABLE, status=None), (None, None, 0.0, False)),
        (failed(K.RESET, status=None), (None, None, 0.0, False)),
        (ended(Failure(K.QUEUE_FULL, "no")), (None, None, 0.0, False)),
        (ended(Failure(K.DEADLINE, "no")), (None, None, 0.0, False)),
        (ended(Failure(K.POOL_LOST, "no", usage=Usage())), (None, None, 0.0, False)),
        # Begun: the input, and what was seen.
        (failed(K.RESET, status=200), (10, 0, 10e-6, True)),
        (failed(K.SILENT, status=None), (10, 0, 10e-6, True)),
        (failed(K.CUT, status=200, usage=Usage(0, 4)), (10, 4, 18e-6, True)),
        (failed(K.CUT, status=200, usage=Usage(7, 4)), (7, 4, 15e-6, True)),
        (failed(K.SERVER_ERROR, status=200, usage=Usage(0, 4)), (10, 4, 18e-6, True)),
        (ended(Failure(K.CUT, "its pool was lost")), (10, 0, 10e-6, True)),
        (ended(Failure(K.POOL_LOST, "killed")), (10, 0, 10e-6, True)),
        (ended(None), (10, 0, 10e-6, True)),
        # Not over yet.
        (Record(Candidate("p", "a"), 0.0), (None, None, None, False)),
    ],
)
def test_what_an_attempt_cost(record: Record, expected: tuple[Any, ...]) -> None:
    """By usage; by an estimate, which says so; or exactly nothing."""
    tokens_in, tokens_out, cost_usd, estimate = expected
    assert (tokens_in, tokens_out, None if cost_usd is None else pytest.approx(cost_usd), estimate) == spent(record)


def test_a_stream_that_was_left_costs_what_was_seen_of_it() -> None:
    """A token a chunk; where chunks hold more, by their length; a first token that nobody read is one."""
    record = ended(None)
    record.opened = True
    assert (10, 1, 12e-6, True) == spent(record)
    for word in (b"a", b"bc", b"d"):
        record.relay([b'{"delta": "' + word + b'"}'])
    assert (10, 3, 16e-6, True) == spent(record)
    record.relay([b'{"delta": "' + b"x" * 401 + b'"}', b'{"delta": "y"}'])
    assert (10, 100, 210e-6, True) == spent(record)


def test_each_try_has_its_own_cost() -> None:
    """A refused one none; a later one what its answer says."""
    tries = (
        Try("rate_limit_exceeded", 0.0, 0.1, 429),
        Try("connection_reset", 0.2, 0.1, 200),
        Try("connection_reset", 0.4, 0.1),
        Try("ok", 0.5, 0.2, 200),
    )
    said = report([ended(Reply({}, "a", Usage(3, 5), tries))])
    assert [0.0, 10e-6, 0.0, 13e-6] == [one["cost_usd"] for one in said["attempts"]]
    assert [False, True, False, False] == [one["cost_is_estimate"] for one in said["attempts"]]
    assert 23e-6 == said["cost_usd"]


@pytest.mark.parametrize(
    ("said", "beside"), [(13e-6, None), (13.1e-6, None), (14e-6, 13e-6), (0.0, 13e-6), (12e-6, 13e-6)]
)
def test_the_providers_own_cost_wins_and_is_compared(said: float, beside: float | None) -> None:
    """What the table makes of it is kept where it differs by more than a hundredth."""
    (attempt,) = report([ended(Reply({}, "a", Usage(3, 5, cost_usd=said), OK))])["attempts"]
    assert (said, beside) == (attempt["cost_usd"], attempt.get("cost_by_table_usd"))


def test_costs_are_on_the_grid() -> None:
    """Each, and their sum: the whole is exactly what its attempts add up to."""
    prices = Prices(overrides={"p/*": Price(input_per_mtok_usd=0.1, output_per_mtok_usd=0.0001)})
    said = report([ended(Reply({}, "a", Usage(1, 1), OK)) for _ in range(3)] + [answered(1 / 3)], prices)
    assert [1.001e-7] * 3 + [0.3333333333] == [one["cost_usd"] for one in said["attempts"]]
    assert 0.3333336336 == said["cost_usd"]


def test_what_one_call_cost() -> None:
    """Its last attempt, whatever came before it."""
    retried = Reply({}, "a", Usage(3, 5), (Try("server_error", 0.0, 0.1, 500), *OK))
    records = [ended(None), ended(retried), failed(K.SERVER_ERROR), answered(0.25)]
    said = report(records)
    assert [10e-6, 13e-6, 0.0, 0.25] == [cost_of_call(said, records, call) for call in range(4)]


@pytest.mark.parametrize(
    ("usd", "text"), [(0.0, "0"), (1e-05, "0.00001"), (1e-10, "0.0000000001"), (0.25, "0.25"), (12.0, "12"), (100.0, "100")]
)  # fmt: skip
def test_a_cost_as_text(usd: float, text: str) -> None:
    """Never in powers of ten."""
    assert text == plain(usd)
