"""The answer object of contract §3: who was asked, when, and what came of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.asks import Ask
from orchestrator.drive import Record
from orchestrator.routes import Candidate, Route
from orchestrator.types import Failure, FailureKind, Json

_K = FailureKind
_BILLED = {"ok", "running"} | {
    kind.value
    for kind in (_K.CANCELLED, _K.CUT, _K.STALLED, _K.BAD_EVENT, _K.BAD_ANSWER, _K.SILENT, _K.DEADLINE, _K.NO_RESUME)
}
"""Ends before which tokens may have been made. A refusal, an error and what never went upstream cost nothing."""


def report_of(
    ask: Ask, route: Route, records: Sequence[Record], winner: Candidate | None, arms: Mapping[str, str]
) -> Json:
    """The `orchestrator` object of contract §3. A cost is what the provider itself says: there are no prices yet."""
    attempts = [entry for record in records for entry in _attempts(record)]
    split = {"arm": next(iter(arms.values())), "arms": dict(arms)} if arms else {}
    return {
        "request_id": ask.request_id,
        "selector": ask.selector,
        "strategy": route.strategy.name,
        **split,
        "attempts": attempts,
        "winner": None if winner is None else str(winner),
        "cost_usd": _total(attempts),
    }


def _total(attempts: Sequence[Json]) -> float | None:
    """What all of it cost; None where it is not known of one that may have cost something."""
    costs = [entry["cost_usd"] for entry in attempts if entry["outcome"] in _BILLED]
    return None if None in costs or not costs else math.fsum(costs)


def _attempts(record: Record) -> list[Json]:
    """One entry a try; one for a call that never went upstream, was cancelled, or still runs."""
    outcome = record.outcome
    tries = outcome.tries if outcome is not None else ()
    usage = outcome.usage if outcome is not None else None
    head = {"provider": record.candidate.provider, "model": record.candidate.model}
    if tries:
        entries = [
            {
                **head,
                "outcome": one.outcome,
                "status": one.status,
                "start_s": round(record.start_s + one.start_s, 6),
                "latency_s": round(one.latency_s, 6),
                "first_token_s": None if one.first_token_s is None else round(one.first_token_s, 6),
                **_spent(None),
            }
            for one in tries
        ]
        entries[-1].update(_spent(usage))
        return entries
    name = "running" if record.end_s is None else FailureKind.CANCELLED.value
    if isinstance(outcome, Failure):
        name = outcome.kind.value
    latency_s = None if record.end_s is None else round(record.end_s - record.start_s, 6)
    return [
        {
            **head,
            "outcome": name,
            "status": None,
            "start_s": round(record.start_s, 6),
            "latency_s": latency_s,
            "first_token_s": None,
            **_spent(usage),
        }
    ]


def _spent(usage: Any) -> Json:
    return {
        "input_tokens": None if usage is None else usage.input_tokens,
        "output_tokens": None if usage is None else usage.output_tokens,
        "cost_usd": None if usage is None else usage.cost_usd,
        "cost_is_estimate": False,
    }


def may_cost(outcome: str) -> bool:
    """Whether an attempt that ended so may have cost something, also where it is not known what."""
    return outcome in _BILLED
