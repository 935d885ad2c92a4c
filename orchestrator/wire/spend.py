"""`GET /admin/spend`: what was spent, as JSON or as CSV; and `GET /admin/budgets`: what may still be."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import parse_qs

from orchestrator.errors import BadChoice, LedgerFailed
from orchestrator.ledger.asking import Asking, as_csv, asking
from orchestrator.types import Json
from orchestrator.wire.http import Header, Refused, Scope, Send, send_body, send_json

PARAMS = ("by", "since", "until", "format")


async def answer_spend(
    spend: Callable[[Asking], Awaitable[Json | None]], scope: Scope, send: Send, headers: Sequence[Header]
) -> None:
    """Answers it. Raises Refused."""
    said = parse_qs(scope["query_string"].decode("latin-1"))
    for name, values in said.items():
        if name not in PARAMS or len(values) > 1:
            raise Refused(
                400, "invalid_request", f"'{name}' is not known; there is {', '.join(PARAMS)}, once", param=name
            )
    by, since, until, format_ = (said.get(name, [None])[0] for name in PARAMS)
    if format_ not in (None, "json", "csv"):
        raise Refused(400, "invalid_request", "format: has to be json or csv", param="format")
    try:
        answer = await spend(asking(by, since, until, time.time()))
    except BadChoice as wrong:
        raise Refused(400, "invalid_request", str(wrong), param=wrong.param) from None
    except LedgerFailed as failed:
        raise _away(failed) from None
    if answer is None:
        raise _none()
    accepts = b",".join(value for name, value in scope["headers"] if name == b"accept")
    if format_ == "csv" or (format_ is None and b"text/csv" in accepts):
        await send_body(send, 200, b"text/csv; charset=utf-8", as_csv(answer).encode(), headers)
    else:
        await send_json(send, 200, answer, [*headers])


async def budgets_of(budgets: Callable[[], Awaitable[list[Json] | None]]) -> Json:
    """How each budget stands. Raises Refused."""
    try:
        rows = await budgets()
    except LedgerFailed as failed:
        raise _away(failed) from None
    if rows is None:
        raise _none()
    return {"budgets": rows}


def _away(failed: LedgerFailed) -> Refused:
    return Refused(503, "ledger_unavailable", str(failed), headers=((b"retry-after", b"5"),))


def _none() -> Refused:
    return Refused(404, "no_ledger", "nothing is recorded: the configuration has no section 'ledger'")
