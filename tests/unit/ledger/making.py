"""Records as tests want them."""

from __future__ import annotations

from typing import Any

from orchestrator.accounting import Asked, Ended
from orchestrator.asks import Ask
from orchestrator.callers import Caller
from orchestrator.config.settings import Config, Strategy
from orchestrator.ledger.records import ArmRecord, AttemptRecord, RequestRecord
from orchestrator.routes import Candidate, Route
from orchestrator.types import Failure, Finish, Json, Reply, Request

AT_S = 1_795_000_000.0
ANSWERED = Reply({"choices": [{"message": {"content": "hello"}}]}, "chat")


def attempt(
    units: int | None = 500, *, model: str = "chat", provider: str = "sim", outcome: str = "ok", estimate: bool = False
) -> AttemptRecord:
    """An attempt of 10 and 20 tokens."""
    return AttemptRecord(provider, model, outcome, 200, 0.0, 0.5, None, 10, 20, units, estimate, units is None)


def request(
    id_: str,
    *attempts: AttemptRecord,
    user: str | None = "ada",
    key: str | None = None,
    outcome: str = "ok",
    at_s: float = AT_S,
    seconds: float = 1.0,
    arms: dict[str, str] | None = None,
    selector: str = "tier:fast",
) -> RequestRecord:
    """A request with these attempts, or one."""
    made = attempts or (attempt(),)
    known = sum(one.cost_units or 0 for one in made)
    unknown = any(one.unknown for one in made)
    return RequestRecord(
        id=id_,
        at_s=at_s,
        seconds=seconds,
        first_token_s=None,
        request_id=f"asked-{id_}",
        selector=selector,
        strategy="first",
        user=user,
        key=key,
        outcome=outcome,
        provider=made[-1].provider,
        model=made[-1].model,
        cost_units=None if unknown else known,
        known_units=known,
        estimated_units=sum(one.cost_units or 0 for one in made if one.is_estimate),
        unknown=unknown,
        input_tokens=sum(one.input_tokens or 0 for one in made),
        output_tokens=sum(one.output_tokens or 0 for one in made),
        attempts=made,
        arms=tuple(ArmRecord(split, arm, outcome) for split, arm in (arms or {}).items()),
    )


def ended(
    *attempts: Json,
    user: str | None = "ada",
    caller: Caller | None = None,
    outcome: Reply | Finish | Failure = ANSWERED,
    cost_usd: float | None = 5e-8,
    text: str | None = None,
    body: Json | None = None,
    **report: Any,
) -> Ended:
    """A request that has ended, by its attempts, or one that cost 5e-8 USD."""
    request_ = Request({"messages": [{"role": "user", "content": "hi"}]} if body is None else body)
    ask = Ask("tier:fast", request_, None, "asked", user, caller)
    route = Route("tier:fast", Strategy(), (Candidate("sim", "chat"),))
    told = {
        "request_id": "asked",
        "selector": "tier:fast",
        "strategy": "first",
        "attempts": [*attempts] or [entry()],
        "winner": "sim/chat",
        "cost_usd": cost_usd,
        **report,
    }
    return Ended(Asked(ask, route, Config({}, {}), AT_S), outcome, told, 1.5, None, {"tier:trial": "ok"}, text)


def entry(cost_usd: float | None = 5e-8, outcome: str = "ok", **fields: Any) -> Json:
    """An attempt of a report."""
    return {
        "provider": "sim",
        "model": "chat",
        "outcome": outcome,
        "status": 200,
        "start_s": 0.0,
        "latency_s": 0.5,
        "first_token_s": None,
        "input_tokens": 10,
        "output_tokens": 20,
        "cost_usd": cost_usd,
        "cost_is_estimate": False,
        **fields,
    }
