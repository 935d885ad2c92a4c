"""What was spent, by whom and on what: the queries behind `orchestrator spend` and `GET /admin/spend`.

By model and by provider it is attempts that are added up, by all else requests. Both come to the same sums, since a request's
cost is that of its attempts, and sums are of whole numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Float,
    Select,
    Table,
    and_,
    case,
    cast,
    distinct,
    func,
    literal,
    select,
    true,
)

from orchestrator.intervals import around_mean, wilson
from orchestrator.ledger import tables
from orchestrator.ledger.asking import Asking
from orchestrator.ledger.store import Store
from orchestrator.money import GRID, usd_of
from orchestrator.types import Json

MOST = 1_000
"""Rows of an answer: callers choose the names of selectors, models and users. The total is of all."""
DAY_S = 86_400
_FINE = ("ok", "cancelled", "running")
"""Ends that are no errors: whoever was cancelled was not wanted any more."""

_R, _A, _S = tables.requests.c, tables.attempts.c, tables.arms.c


def spend(store: Store, asked: Asking) -> Json:
    """The answer: `rows`, those that cost most first, and the `total`. Blocks. Raises LedgerFailed."""
    with store.reading() as connection:
        rows = _arms(connection, asked) if asked.by == "arm" else _rows(connection, asked)
        (total,) = _sums(connection, _by_requests(asked, []), [])
    return {
        "by": asked.by,
        "since": _shown(asked.since_s),
        "until": _shown(asked.until_s),
        "rows": rows[:MOST],
        "more": len(rows) > MOST,
        "total": total,
    }


def _shown(at_s: float | None) -> str | None:
    return None if at_s is None else datetime.fromtimestamp(at_s, UTC).isoformat().replace("+00:00", "Z")


def _rows(connection: Connection, asked: Asking) -> list[Json]:
    if asked.by in ("model", "provider"):
        model = [_A.provider, _A.model] if asked.by == "model" else [_A.provider]
        rows = _sums(connection, _by_attempts(asked, model), ["provider", "model"][: len(model)])
        return [{**row, "model": f"{row['provider']}/{row['model']}"} if "model" in row else row for row in rows]
    day: ColumnElement[Any] = _R.at_s / DAY_S
    # PostgreSQL rounds where a number becomes a whole one, SQLite cuts off.
    day = func.floor(day) if connection.dialect.name == "postgresql" else cast(day, BigInteger)
    groups: dict[str, ColumnElement[Any]] = {
        "user": _R.user_name,
        "key": _R.key_name,
        "selector": _R.selector,
        "day": day,
    }
    rows = _sums(connection, _by_requests(asked, [groups[asked.by]]), [asked.by])
    if asked.by == "day":
        rows.sort(key=lambda row: row["day"])
        rows = [{**row, "day": datetime.fromtimestamp(int(row["day"]) * DAY_S, UTC).date().isoformat()} for row in rows]
    return rows


def _within(table: Table, asked: Asking) -> ColumnElement[bool]:
    since = true() if asked.since_s is None else table.c.at_s >= asked.since_s
    return and_(since, true() if asked.until_s is None else table.c.at_s < asked.until_s)


def _when(condition: ColumnElement[bool], value: Any = 1) -> ColumnElement[Any]:
    """The sum of a value over rows for which something holds."""
    return func.coalesce(func.sum(case((condition, value), else_=0)), 0)


def _of_requests() -> list[ColumnElement[Any]]:
    return [
        func.count().label("requests"),
        func.coalesce(func.sum(_R.attempts), 0).label("attempts"),
        _when(_R.outcome.not_in(_FINE)).label("errors"),
        func.coalesce(func.sum(_R.input_tokens), 0).label("input_tokens"),
        func.coalesce(func.sum(_R.output_tokens), 0).label("output_tokens"),
        func.coalesce(func.sum(_R.known_units), 0).label("known_units"),
        func.coalesce(func.sum(_R.estimated_units), 0).label("estimated_units"),
        _when(_R.unknown).label("unknown"),
        func.avg(case((_R.outcome == "ok", _R.seconds))).label("mean_latency_s"),
    ]


def _by_requests(asked: Asking, groups: Sequence[ColumnElement[Any]]) -> Select[Any]:
    sums = _of_requests()
    query = select(*groups, *sums).where(_within(tables.requests, asked)).group_by(*groups)
    return query.order_by(sums[5].desc(), *groups).limit(MOST + 1)


def _by_attempts(asked: Asking, groups: Sequence[ColumnElement[Any]]) -> Select[Any]:
    known = func.coalesce(func.sum(_A.cost_units), 0).label("known_units")
    query = select(
        *groups,
        func.count(distinct(_A.request)).label("requests"),
        func.count().label("attempts"),
        _when(_A.outcome.not_in(_FINE)).label("errors"),
        func.coalesce(func.sum(_A.input_tokens), 0).label("input_tokens"),
        func.coalesce(func.sum(_A.output_tokens), 0).label("output_tokens"),
        known,
        _when(_A.is_estimate, func.coalesce(_A.cost_units, 0)).label("estimated_units"),
        _when(_A.unknown).label("unknown"),
        func.avg(case((_A.outcome == "ok", _A.latency_s))).label("mean_latency_s"),
    )
    query = query.where(_within(tables.attempts, asked)).group_by(*groups)
    return query.order_by(known.desc(), *groups).limit(MOST + 1)


def _sums(connection: Connection, query: Select[Any], names: Sequence[str]) -> list[Json]:
    return [{**dict(zip(names, row, strict=False)), **_sum(row)} for row in connection.execute(query)]


def _sum(row: Any) -> Json:
    """Counts, and costs in USD."""
    return {
        "requests": int(row.requests),
        "attempts": int(row.attempts),
        "errors": int(row.errors),
        "input_tokens": int(row.input_tokens),
        "output_tokens": int(row.output_tokens),
        "cost_usd": usd_of(int(row.known_units)),
        "estimated_usd": usd_of(int(row.estimated_units)),
        "unknown_cost": int(row.unknown),
        "mean_latency_s": _rounded(row.mean_latency_s),
    }


def _rounded(value: Any) -> float | None:
    return None if value is None else round(float(value), 6)


def _arms(connection: Connection, asked: Asking) -> list[Json]:
    """By split and arm. An arm's success is its own: what others made up for it counts as its error."""
    priced = case((_R.cost_units.is_not(None), cast(_R.cost_units, Float) / literal(float(GRID))))
    answered = case((_R.outcome == "ok", _R.seconds))
    query = (
        select(
            _S.split,
            _S.arm,
            *_of_requests(),
            _when(_S.outcome == "ok").label("successes"),
            _when(_S.outcome != "cancelled").label("tried"),
            *_moments(priced, "cost"),
            *_moments(answered, "latency"),
        )
        .select_from(tables.arms.join(tables.requests, _S.request == _R.id))
        .where(_within(tables.arms, asked))
        .group_by(_S.split, _S.arm)
        .order_by(_S.split, _S.arm)
        .limit(MOST + 1)
    )
    return [{"split": row.split, "arm": row.arm, **_sum(row), **_compared(row)} for row in connection.execute(query)]


def _moments(value: ColumnElement[Any], name: str) -> list[ColumnElement[Any]]:
    return [
        func.count(value).label(f"{name}_count"),
        func.coalesce(func.sum(value), 0.0).label(f"{name}_sum"),
        func.coalesce(func.sum(value * value), 0.0).label(f"{name}_squares"),
    ]


def _compared(row: Any) -> Json:
    tried, successes = int(row.tried), int(row.successes)
    cost = around_mean(row.cost_count, float(row.cost_sum), float(row.cost_squares))
    latency = around_mean(row.latency_count, float(row.latency_sum), float(row.latency_squares))
    return {
        "errors": tried - successes,
        **_interval("success_rate", successes / tried if tried else None, wilson(successes, tried)),
        **_interval("mean_cost_usd", _mean(row.cost_sum, row.cost_count), cost),
        **_interval("mean_latency_s", _mean(row.latency_sum, row.latency_count), latency),
    }


def _mean(total: Any, count: int) -> float | None:
    return float(total) / count if count else None


def _interval(name: str, value: float | None, ends: tuple[float, float] | None) -> Json:
    low, high = ends or (None, None)
    digits = 12 if name.endswith("_usd") else 6
    pairs = {name: value, f"{name}_low": low, f"{name}_high": high}
    return {key: None if one is None else round(one, digits) for key, one in pairs.items()}
