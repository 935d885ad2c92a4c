"""The answer object of contract §3: who was asked, when, what came of it, and what it cost.

A cost is what the provider itself says (`usage.cost`), else the price of the model times what was used. Where the two are
known and differ by more than 1 %, the attempt also has `cost_by_table_usd`, the latter: a price that has changed, or is
wrong. All costs are on the grid of `orchestrator.money`.

- What was answered costs what its usage says. Where the provider says none, it is estimated from the request and the text.
- What was begun and not finished (losers, cut streams, callers who left, silence) costs an estimate: the request's input, and
  the output as far as it has been seen; or what the provider had said before the end.
- What was refused, failed with an error, or was never sent costs exactly 0.
- What still runs, in the report that headers are made of, has no cost yet.

The cost of the whole is the sum, and null only where one that may have cost something has no price. Costing adds about 3 µs
to a request with one attempt.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from orchestrator.asks import Ask
from orchestrator.drive import BYTES_PER_TOKEN, Record
from orchestrator.money import on_grid
from orchestrator.pricing.book import Prices
from orchestrator.pricing.cost import cost_of, is_certain
from orchestrator.pricing.price import Price
from orchestrator.routes import Candidate, Route
from orchestrator.types import Failure, FailureKind, Finish, Json, Reply, Try, Usage

_K = FailureKind
_BILLED = frozenset(
    kind.value
    for kind in (_K.CANCELLED, _K.CUT, _K.STALLED, _K.BAD_EVENT, _K.BAD_ANSWER, _K.SILENT, _K.DEADLINE, _K.NO_RESUME)
)
"""Ends before which tokens may have been made."""
_BILLED_UNTRIED = frozenset({_K.CANCELLED.value, _K.CUT.value, _K.POOL_LOST.value})
"""Those of calls whose tries are not known: their pool could not say, or was not asked any more."""
DIFFERS = 0.01
NO_PRICES = Prices()


def report_of(
    ask: Ask,
    route: Route,
    records: Sequence[Record],
    winner: Candidate | None,
    arms: Mapping[str, str],
    prices: Prices = NO_PRICES,
) -> Json:
    """The `orchestrator` object of contract §3."""
    attempts = [entry for record in records for entry in _attempts(record, prices)]
    split = {"arm": next(iter(arms.values())), "arms": dict(arms)} if arms else {}
    costs = [entry["cost_usd"] for entry in attempts]
    return {
        "request_id": ask.request_id,
        "selector": ask.selector,
        "strategy": route.strategy.name,
        **split,
        "attempts": attempts,
        "winner": None if winner is None else str(winner),
        "cost_usd": None if None in costs else on_grid(math.fsum(costs)),
    }


def cost_of_call(report: Json, records: Sequence[Record], call: int) -> float | None:
    """What the last attempt of a call cost, by the report that was made of these records."""
    last = sum(map(_entries, records[: call + 1])) - 1
    cost: float | None = report["attempts"][last]["cost_usd"]
    return cost


def _entries(record: Record) -> int:
    return 1 if record.outcome is None else max(1, len(record.outcome.tries))


def _attempts(record: Record, prices: Prices) -> list[Json]:
    """One entry a try; one for a call that never went upstream, was cancelled, or still runs."""
    outcome, candidate = record.outcome, record.candidate
    price = prices.of(candidate.provider, candidate.model)
    head = {"provider": candidate.provider, "model": candidate.model}
    if outcome is not None and outcome.tries:
        entries = [
            {
                **head,
                "outcome": one.outcome,
                "status": one.status,
                "start_s": round(record.start_s + one.start_s, 6),
                "latency_s": round(one.latency_s, 6),
                "first_token_s": None if one.first_token_s is None else round(one.first_token_s, 6),
                # Of the tries before the last one no token came.
                **(_spent(price, Usage(record.input_tokens), estimate=True) if _was_billed(one) else _NOTHING),
            }
            for one in outcome.tries
        ]
        entries[-1].update(_of_last(record, price, outcome))
        return entries
    name = "running" if record.end_s is None else FailureKind.CANCELLED.value
    if isinstance(outcome, Failure):
        name = outcome.kind.value
    return [
        {
            **head,
            "outcome": name,
            "status": None,
            "start_s": round(record.start_s, 6),
            "latency_s": None if record.end_s is None else round(record.end_s - record.start_s, 6),
            "first_token_s": None,
            **(_UNKNOWN if record.end_s is None else _untried(record, price, outcome, name)),
        }
    ]


_UNKNOWN: Json = {"input_tokens": None, "output_tokens": None, "cost_usd": None, "cost_is_estimate": False}
_NOTHING: Json = {**_UNKNOWN, "cost_usd": 0.0}


def _was_billed(one: Try) -> bool:
    """Whether a try that failed may have cost something: a connection that broke after the headers may have, too."""
    return one.outcome in _BILLED or (one.outcome == _K.RESET.value and one.status == 200)


def _of_last(record: Record, price: Price | None, outcome: Reply | Finish | Failure) -> Json:
    """What the try cost that the outcome is of."""
    usage = outcome.usage
    if isinstance(outcome, Failure):
        begun = usage is not None and usage.output_tokens > 0
        if begun or _was_billed(outcome.tries[-1]):
            return _spent(price, _seen(record, usage), estimate=True)
        return _NOTHING
    if usage is None or not (usage.input_tokens or usage.output_tokens or usage.cost_usd is not None):
        written = _written(outcome.body) if isinstance(outcome, Reply) else record.output_tokens
        return _spent(price, Usage(record.input_tokens, written), estimate=True)
    return _spent(price, usage)


def _untried(record: Record, price: Price | None, outcome: Reply | Finish | Failure | None, name: str) -> Json:
    """What a call cost whose tries are not known."""
    usage = None if outcome is None else outcome.usage
    if name not in _BILLED_UNTRIED or usage == Usage():
        return _NOTHING
    return _spent(price, _seen(record, usage), estimate=True)


def _seen(record: Record, known: Usage | None) -> Usage:
    """What a call that was not finished has used: what its provider had said, with estimates for the rest."""
    known = known or Usage()
    return known._replace(
        input_tokens=known.input_tokens or record.input_tokens,
        output_tokens=max(known.output_tokens, record.output_tokens),
    )


def _written(body: Json) -> int:
    """The tokens of an answer's text, by its length; embeddings have none."""
    characters = 0
    for choice in body.get("choices") or ():
        message = choice["message"]
        texts = [message.get(name) for name in ("content", "refusal", "reasoning_content", "reasoning")]
        calls = message.get("tool_calls")
        for call in calls if isinstance(calls, list) else ():
            function = call.get("function") if isinstance(call, dict) else None
            texts += [function.get(name) for name in ("name", "arguments")] if isinstance(function, dict) else []
        characters += sum(len(text) for text in texts if isinstance(text, str))
    return -(-characters // BYTES_PER_TOKEN)


def _spent(price: Price | None, usage: Usage, *, estimate: bool = False) -> Json:
    said, computed = usage.cost_usd, None
    if price is not None:
        computed = cost_of(price, usage)
        estimate = estimate or (said is None and not is_certain(price, usage))
    cost = computed if said is None else said
    spent: Json = {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cost_usd": None if cost is None else on_grid(cost),
        "cost_is_estimate": estimate,
    }
    if said is not None and computed is not None and abs(said - computed) > DIFFERS * max(said, computed):
        spent["cost_by_table_usd"] = on_grid(computed)
    return spent


def may_cost(outcome: str) -> bool:
    """Whether an attempt that ended so may have cost something, also where it is not known what."""
    return outcome in _BILLED or outcome in ("ok", "running", _K.POOL_LOST.value, _K.RESET.value)
