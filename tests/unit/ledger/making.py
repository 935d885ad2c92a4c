"""Records as tests want them."""

from __future__ import annotations

from orchestrator.ledger.records import ArmRecord, AttemptRecord, RequestRecord

AT_S = 1_795_000_000.0


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
