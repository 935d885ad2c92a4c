"""From a request's end to its record."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.callers import Caller
from orchestrator.ledger.records import Batch, note, packed, record_of, unpacked, weight_of
from orchestrator.types import Failure, FailureKind, Finish, Reply
from tests.unit.ledger.making import AT_S, attempt, ended, entry, request


def test_an_answer() -> None:
    """All that the report and the caller say of it; costs in steps of the grid."""
    told = ended(
        entry(None, "server_error", status=500, input_tokens=None, output_tokens=None),
        entry(2e-7, "cancelled", cost_is_estimate=True, model="a/b"),
        entry(3e-7),
        caller=Caller("lab"),
        cost_usd=5e-7,
        winner="sim/a/b",
        arm="new",
        arms={"tier:trial": "new", "tier:other": "x"},
    )
    record = record_of("w-1", note(told))
    assert ("w-1", AT_S, 1.5, "asked", "tier:fast", "first", "ada", "lab", "ok", "sim", "a/b") == (
        record.id, record.at_s, record.seconds, record.request_id, record.selector, record.strategy, record.user,
        record.key, record.outcome, record.provider, record.model,
    )  # fmt: skip
    assert (5_000, 5_000, 2_000, False, 20, 40) == (
        record.cost_units, record.known_units, record.estimated_units, record.unknown, record.input_tokens,
        record.output_tokens,
    )  # fmt: skip
    assert [(500, "server_error", None, False), (200, "cancelled", 2_000, False), (200, "ok", 3_000, False)] == [
        (one.status, one.outcome, one.cost_units, one.unknown) for one in record.attempts
    ]
    assert [("tier:trial", "new", "ok"), ("tier:other", "x", "cancelled")] == [*map(tuple, record.arms)]


def test_a_cost_that_is_not_known() -> None:
    """What is known of it counts; the request and the attempt say that there was more."""
    record = record_of("w-1", note(ended(entry(None), entry(3e-7), cost_usd=None)))
    assert (None, 3_000, True) == (record.cost_units, record.known_units, record.unknown)
    assert [True, False] == [one.unknown for one in record.attempts]


def test_what_cost_nothing_is_no_unknown() -> None:
    """Nobody was asked, or whoever was refused: there is no winner and no cost, and nothing that could be known."""
    failure = Failure(FailureKind.ALL_FAILED, "nobody")
    record = record_of("w-1", note(ended(entry(None, "unreachable"), outcome=failure, cost_usd=None, winner=None)))
    assert ("all_candidates_failed", None, None, None, 0, False) == (
        record.outcome, record.provider, record.model, record.cost_units, record.known_units, record.unknown,
    )  # fmt: skip


def test_what_a_database_would_not_take() -> None:
    """Zero characters, names without an end, numbers over 64 bits: cut, and never the reason that a batch fails."""
    told = ended(
        entry(1e300, model="m\0" + "x" * 600, input_tokens=10**30, output_tokens=None), user="\0eve", selector="s" * 501
    )
    record = record_of("w-1", note(told))
    assert ("eve", "s" * 500, 10**15) == (record.user, record.selector, record.input_tokens)
    assert ("m" + "x" * 498, 10**15) == (record.attempts[0].model, record.attempts[0].cost_units)


@pytest.mark.parametrize(
    ("told", "question", "answer"),
    [
        ({}, '[{"role":"user","content":"hi"}]', "hello"),
        ({"body": {"input": "a\0b"}, "outcome": Reply({"data": []}, "e")}, '"a\\u0000b"', None),
        ({"outcome": Finish({}, "chat"), "text": "streamed\0"}, '[{"role":"user","content":"hi"}]', "streamed"),
        ({"outcome": Failure(FailureKind.CANCELLED, "left")}, '[{"role":"user","content":"hi"}]', None),
        ({"body": {"messages": "x" * 200_000}}, '"' + "x" * 99_999, "hello"),
        (
            {"outcome": Reply({"choices": [{"message": {"content": None}}]}, "c")},
            '[{"role":"user","content":"hi"}]',
            None,
        ),
    ],
)
def test_texts(told: dict[str, Any], question: str, answer: str | None) -> None:
    """Kept where it is asked for, cut where they are very long; a note of long texts weighs as much as many."""
    noted = note(ended(**told), texts=True)
    assert (question, answer) == (noted.question, noted.answer)
    assert 1 + (len(question) + len(answer or "")) // 2_000 == weight_of(noted)
    record = record_of("w-1", noted)
    assert (question, answer) == (record.question, record.answer)
    without = note(ended(**told))
    assert (None, None, 1) == (without.question, without.answer, weight_of(without))


def test_a_batch_travels() -> None:
    """To another process and back it is the same."""
    records = (request("w-1", attempt(None), attempt(7), arms={"tier:t": "a"}), request("w-2")._replace(answer="x"))
    batch = Batch("w", 3, records, {"key:ada": 5}, {"key:ada": 2})
    assert batch == unpacked(packed(batch))
    assert Batch("w", 0) == unpacked(packed(Batch("w", 0)))
