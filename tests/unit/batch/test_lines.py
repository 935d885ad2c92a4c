"""Lines of results, from what came."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.asks import Answer
from orchestrator.batch.lines import Came, cost_of, failure_of, line_of, text_of
from orchestrator.errors import BadChoice, CallFailed, Denied, NotAllowed, OrchestratorError, UnknownSelector
from orchestrator.types import Failure, FailureKind, Json, Reply
from tests.unit.batch.given import answer, attempt, pair

K = FailureKind


def line(came: Came, charged_usd: float | None = None, **item: Any) -> Json:
    one = pair(**item)
    one.spend(cost_of(came), charged_usd or 0.0)
    return line_of(one, came, at=100.0, start_s=2.0, seen_s=3.0, budgeted=charged_usd is not None)


def test_an_answer() -> None:
    """Every field that is promised."""
    attempts = [attempt(outcome="server_error", status=500, start_s=0.5, input_tokens=None, output_tokens=None),
                attempt(start_s=1.0, latency_s=0.5)]  # fmt: skip
    said = line(answer("yes", attempts, cost_usd=0.01, consensus={"answer": "yes"}), expected=2)
    said.pop("request_id")
    assert {
        "item": "1", "arm": "a", "outcome": "ok", "text": "yes", "expected": 2, "cost_usd": 0.01,
        "cost_is_estimate": False, "input_tokens": 3, "output_tokens": 4, "latency_s": 1.0, "waited_s": 2.0,
        "attempts": 2, "asks": 0, "provider": "sim", "model": "a-1", "winner": "sim/a", "consensus": {"answer": "yes"},
        "error": None, "score": None, "at": 100.0, "start_s": 2.0, "finish_reason": "stop",
    } == said  # fmt: skip


def test_a_failure() -> None:
    """Its code is the outcome; what it cost is not known, since something may have been billed."""
    said = line(answer(K.SILENT, [attempt(outcome="timeout", cost_is_estimate=True)]), charged_usd=0.5)
    assert ("timeout", {"code": "timeout", "message": "no"}) == (said["outcome"], said["error"])
    assert (None, 0.5, True) == (said["cost_usd"], said["charged_usd"], said["cost_is_estimate"])
    assert (None, None) == (said["text"], said["score"])


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UnknownSelector("tier:x"), "model_not_found"),
        (NotAllowed("user:a:b", "c"), "model_not_allowed"),
        (BadChoice("models", "no"), "invalid_request"),
        (Denied(403, "budget_exceeded", "no"), "budget_exceeded"),
        (CallFailed(Failure(K.POOL_LOST, "gone")), "pool_lost"),
        (OrchestratorError("odd"), "internal_error"),
    ],
)
def test_what_was_refused(error: OrchestratorError, code: str) -> None:
    """It has no attempts, and its latency is all there is."""
    said = line(error)
    assert (code, code, 0, 3.0, None) == (
        said["outcome"], said["error"]["code"], said["attempts"], said["latency_s"], said["provider"],
    )  # fmt: skip


def test_what_a_request_cost() -> None:
    """Nothing where nobody was asked; unknown where somebody may have been."""
    assert 0.25 == cost_of(answer(cost_usd=0.25))
    assert cost_of(answer()) is None
    assert 0 == cost_of(answer(K.QUEUE_FULL, [attempt(outcome="queue_full")]))
    assert cost_of(answer(K.SILENT, [attempt(outcome="timeout")])) is None
    assert 0 == cost_of(UnknownSelector("x"))
    assert cost_of(CallFailed(Failure(K.POOL_LOST, ""))) is None


def test_what_all_tries_cost_together() -> None:
    """Of one that was asked again; unknown, if it is of one."""
    one = pair()
    for cost in (0.25, 0.5):
        one.spend(cost, cost)
    assert (0.75, 0.75) == (one.cost_usd, one.charged_usd)
    one.spend(None, 2.0)
    one.spend(0.5, 0.5)
    assert (None, 3.25) == (one.cost_usd, one.charged_usd)


def test_whose_fault_it_was() -> None:
    """A limit of the caller's passes; a used up budget does not, and is no failure of a call."""
    assert failure_of(answer()) is None
    assert failure_of(answer(K.SILENT)) == Failure(K.SILENT, "no")
    assert failure_of(CallFailed(Failure(K.CUT, "x"))) == Failure(K.CUT, "x")
    limited = failure_of(Denied(429, "x", "slow down", 7.0))
    assert limited is not None
    assert (K.PAUSED, 7.0) == (limited.kind, limited.retry_after_s)
    assert failure_of(Denied(403, "x", "spent")) is None


def test_latency_is_without_the_wait_for_a_place() -> None:
    """From the first try upstream; whatever still ran then counts until the end, and what never went upstream does not."""
    queued = attempt(outcome="queue_full", status=None, start_s=0.0, latency_s=2.0, input_tokens=None)
    assert 0.25 == line(answer("x", [queued, attempt(start_s=2.0)]))["latency_s"]
    running = attempt(outcome="running", start_s=1.0, latency_s=None)
    assert 2.5 == line(answer("x", [attempt(), running]))["latency_s"]
    assert 2.0 == line(answer(K.QUEUE_FULL, [queued]))["latency_s"]
    assert 3.0 == line(answer("x", [{**queued, "latency_s": None}]))["latency_s"]


def test_other_answers_than_text() -> None:
    """Parts, calls of tools, and what has no choices at all."""
    calls = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]

    def replied(message: Json) -> Answer:
        return answer(Reply({"choices": [{"message": message, "finish_reason": "tool_calls"}]}, "m"))

    said = line(replied({"content": None, "tool_calls": calls}))
    assert (None, calls, "tool_calls") == (said["text"], said["tool_calls"], said["finish_reason"])
    assert "a b" == line(replied({"content": [{"type": "text", "text": "a "}, {"type": "text", "text": "b"}]}))["text"]
    embedded = line(answer(Reply({"data": []}, "m"), [attempt(input_tokens=None, output_tokens=None)]))
    assert ("ok", None, None) == (embedded["outcome"], embedded["text"], embedded["input_tokens"])
    assert ("yes", None, None) == (text_of(answer("yes")), text_of(answer(K.CUT)), text_of(UnknownSelector("x")))


def test_openais_lines_have_openais_answers() -> None:
    """The body in the shape of its endpoint, or the error as HTTP's callers get it."""
    said = line(answer("yes", cost_usd=0.5), openai=True)
    assert ("1", 200) == (said["custom_id"], said["response"]["status_code"])
    assert "yes" == said["response"]["body"]["choices"][0]["message"]["content"]
    failed = line(answer(K.RATE_LIMITED), openai=True)["response"]
    assert (429, "rate_limit_exceeded") == (failed["status_code"], failed["body"]["error"]["code"])
    unknown = line(UnknownSelector("x"), openai=True)["response"]
    assert (400, "model_not_found") == (unknown["status_code"], unknown["body"]["error"]["code"])
