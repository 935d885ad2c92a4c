"""A line of `results.jsonl`: what came of putting an item to an arm."""

from __future__ import annotations

from typing import Any

from orchestrator.asks import Answer
from orchestrator.batch.schedule import LATER, Pair
from orchestrator.content import joined
from orchestrator.errors import BadChoice, CallFailed, Denied, NotAllowed, OrchestratorError, UnknownSelector
from orchestrator.money import on_grid
from orchestrator.types import Failure, FailureKind, Json, Reply
from orchestrator.wire.errors import error_object, show

Came = Answer | OrchestratorError
"""What came of a request: an answer (which may be a failure), or why it was refused before anybody was asked."""

_UNBILLED = frozenset(kind.value for kind in LATER - {FailureKind.POOL_LOST})


def failure_of(came: Came) -> Failure | None:
    """Why there is no answer; None: there is one, or it was refused for good."""
    if isinstance(came, Answer):
        return came.outcome if isinstance(came.outcome, Failure) else None
    if isinstance(came, CallFailed):
        return came.failure
    if isinstance(came, Denied) and came.retryable:
        # A limit of the caller's, which passes as those of providers do.
        return Failure(FailureKind.PAUSED, str(came), retry_after_s=came.retry_after_s)
    return None


def cost_of(came: Came) -> float | None:
    """What a request cost, in US dollars; 0 where nothing can have been billed, None where nobody knows."""
    if not isinstance(came, Answer):
        return None if isinstance(came, CallFailed) else 0.0
    cost: float | None = came.report["cost_usd"]
    if cost is None and isinstance(came.outcome, Failure):
        outcomes = {attempt["outcome"] for attempt in came.report["attempts"]}
        return 0.0 if outcomes <= _UNBILLED else None
    return cost


def paid_usd(line: Json) -> float | None:
    """What a line has cost, in US dollars, its judge included; None: nobody knows what the answer did."""
    cost: float | None = line["cost_usd"]
    return None if cost is None else cost + _judge_usd(line)


def counted_usd(line: Json) -> float:
    """What a budget counts of a line: what it says, where not all of it was known."""
    charged: float | None = line.get("charged_usd")
    return float((line["cost_usd"] or 0.0) + _judge_usd(line) if charged is None else charged)


def _judge_usd(line: Json) -> float:
    return float((line.get("score") or {}).get("cost_usd") or 0.0)


def text_of(came: Came) -> str | None:
    """The text of an answer; None: there is none."""
    if not isinstance(came, Answer) or not isinstance(came.outcome, Reply):
        return None
    text: str | None = _said(came.outcome.body).get("text")
    return text


def line_of(pair: Pair, came: Came, *, at: float, start_s: float, seen_s: float, budgeted: bool) -> Json:
    """The line of a pair whose last try has ended. `at` is when it did, in seconds since 1970, `start_s` when it was begun,
    since the run began, and `seen_s` how long it took as the runner saw it; `budgeted`: whether somebody counts."""
    report: Json = came.report if isinstance(came, Answer) else {}
    attempts: list[Json] = report.get("attempts", [])
    latency_s = _span_s(attempts, seen_s)
    code, message = _error(came)
    line: Json = {
        "item": pair.item.id,
        "arm": pair.arm,
        "outcome": "ok" if code is None else code,
        "text": None,
        "expected": pair.item.expected,
        "cost_usd": None if pair.cost_usd is None else on_grid(pair.cost_usd),
        "cost_is_estimate": any(attempt["cost_is_estimate"] for attempt in attempts),
        "input_tokens": _tokens(attempts, "input_tokens"),
        "output_tokens": _tokens(attempts, "output_tokens"),
        "latency_s": round(latency_s, 6),
        "waited_s": round(max(0.0, seen_s - latency_s), 6),
        "attempts": len(attempts),
        "asks": pair.asks,
        "provider": came.provider if isinstance(came, Answer) else None,
        "model": came.model if isinstance(came, Answer) else None,
        "winner": report.get("winner"),
        "consensus": report.get("consensus"),
        "error": None if code is None else {"code": code, "message": message},
        "score": None,
        "at": round(at, 3),
        "start_s": round(start_s, 3),
        "request_id": pair.asked.ask.request_id,
    }
    if isinstance(came, Answer) and isinstance(came.outcome, Reply):
        line |= _said(came.outcome.body)
    if budgeted and pair.cost_usd is None:
        line["charged_usd"] = on_grid(pair.charged_usd)
    if pair.item.openai:
        line |= {"custom_id": pair.item.id, "response": _response(pair, came, code, message)}
    return line


def _said(body: Json) -> Json:
    """What the first choice says; nothing of a body that has none, such as embeddings."""
    choices = body.get("choices")
    if not choices:
        return {}
    message = choices[0].get("message") or {}
    content = message.get("content")
    said: Json = {
        "text": content if isinstance(content, str) or content is None else joined(content),
        "finish_reason": choices[0].get("finish_reason"),
    }
    if calls := message.get("tool_calls"):
        said["tool_calls"] = calls
    return said


def _span_s(attempts: list[Json], seen_s: float) -> float:
    """From the first try upstream to the end of the last: without the wait for a place in a pool, of which a batch has
    plenty."""
    tried = [one for one in attempts if one["status"] is not None or one["input_tokens"] is not None]
    tried = tried or [one for one in attempts if one["latency_s"] is not None]
    if not tried:
        return seen_s
    ends = [seen_s if one["latency_s"] is None else one["start_s"] + one["latency_s"] for one in tried]
    return min(seen_s, max(0.0, max(ends) - min(float(one["start_s"]) for one in tried)))


def _tokens(attempts: list[Json], name: str) -> int | None:
    """Of all attempts that say so, losers included; None: of none it is known."""
    known = [attempt[name] for attempt in attempts if attempt[name] is not None]
    return sum(known) if known else None


def _error(came: Came) -> tuple[str | None, str]:
    """The code and the message of what is no answer."""
    if isinstance(came, Answer):
        if isinstance(came.outcome, Failure):
            return came.outcome.kind.value, came.outcome.message
        return None, ""
    if isinstance(came, CallFailed):
        return came.failure.kind.value, came.failure.message
    if isinstance(came, Denied):
        return came.code, came.message
    codes = ((UnknownSelector, "model_not_found"), (NotAllowed, "model_not_allowed"), (BadChoice, "invalid_request"))
    return next((code for kind, code in codes if isinstance(came, kind)), "internal_error"), str(came)


def _response(pair: Pair, came: Came, code: str | None, message: str) -> Json:
    """The `response` of a line of OpenAI's output file: its body is in the shape of the endpoint that the line names."""
    status, body = 200, {}
    if isinstance(came, Answer) and isinstance(came.outcome, Reply):
        body = pair.asked.speaker.whole(came.outcome.body, came)
    else:
        failure = failure_of(came)
        shown: Any = None if failure is None else show(failure)
        status = 400 if shown is None else shown.status
        body = {"error": error_object(status, message, code) if shown is None else shown.error}
    return {"status_code": status, "request_id": pair.asked.ask.request_id, "body": body}
