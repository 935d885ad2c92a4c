"""`orchestrator spend`: what was spent, asked of a running endpoint, or read from a ledger's database."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from orchestrator.errors import BadChoice, LedgerFailed
from orchestrator.ledger.asking import Asking, as_csv, asking


class Question(NamedTuple):
    """What is asked, in the command's words, and where."""

    url: str
    key_env: str
    ledger: str | None
    """Its URL: the database is read, and no endpoint is asked."""
    by: str
    since: str | None
    until: str | None


def spend(question: Question, *, as_json: bool, csv: bool) -> int:
    """Prints it: a table, JSON or CSV. 2 for a question that is wrong, 1 where it cannot be answered."""
    try:
        asked = asking(question.by, question.since, question.until, time.time())
    except BadChoice as wrong:
        return _fail(f"--{wrong}", 2)
    found = _asked(question) if question.ledger is None else _read(asked, question.ledger)
    if isinstance(found, int):
        return found
    if as_json:
        print(json.dumps(found))
    elif csv:
        print(as_csv(found), end="")
    else:
        _table(found)
    return 0


def _fail(message: str, code: int) -> int:
    print(message, file=sys.stderr)
    return code


def _asked(question: Question) -> dict[str, Any] | int:
    """Of the endpoint."""
    said = {"by": question.by, "since": question.since, "until": question.until}
    key = os.environ.get(question.key_env)
    try:
        answer = httpx.get(
            question.url.removesuffix("/v1") + "/admin/spend",
            params={name: value for name, value in said.items() if value is not None},
            headers={} if key is None else {"authorization": f"Bearer {key}"},
            timeout=60,
        )
        if answer.is_success:
            found: dict[str, Any] = answer.json()
            return found
        message = answer.json()["error"]["message"]
    except (httpx.HTTPError, ValueError, LookupError, TypeError):
        return _fail(f"{question.url} cannot be reached: is `orchestrator serve` running there?", 1)
    return _fail(message, 2 if answer.is_client_error else 1)


def _read(asked: Asking, ledger: str) -> dict[str, Any] | int:
    """From the database."""
    from orchestrator.config.ledger import is_ledger
    from orchestrator.ledger.spend import spend as read
    from orchestrator.ledger.store import Store

    url = ledger if "://" in ledger else f"sqlite:///{ledger}"
    if not is_ledger(url):
        return _fail("--ledger: has to be a file, `sqlite:///PATH` or `postgresql://USER:PASSWORD@HOST/DATABASE`", 2)
    if url.startswith("sqlite:") and not Path(url.removeprefix("sqlite:///")).is_file():
        # SQLite would make one.
        return _fail(f"--ledger: there is no file {url.removeprefix('sqlite:///')}", 2)
    store = Store(url)
    try:
        return read(store, asked)
    except LedgerFailed as failed:
        return _fail(str(failed), 1)
    finally:
        store.close()


def _table(found: dict[str, Any]) -> None:
    by = found["by"]
    arms = by == "arm"
    rows = [*found["rows"], {by: "total", "split": "total", "arm": "", **found["total"]}]
    names = [_name(row, by) for row in rows]
    width = max(len(by) + 2, *map(len, names)) + 2
    head = f"{by:<{width}}{'requests':>10}{'attempts':>10}{'errors':>8}{'tokens':>12}{'cost USD':>16}"
    print(head + f"{'unknown':>9}{'mean s':>9}" + (f"{'success, 95 %':>26}{'mean cost USD, 95 %':>40}" if arms else ""))
    for name, row in zip(names, rows, strict=True):
        tokens = row["input_tokens"] + row["output_tokens"]
        mean = "-" if row["mean_latency_s"] is None else f"{row['mean_latency_s']:.3f}"
        line = f"{name:<{width}}{row['requests']:>10}{row['attempts']:>10}{row['errors']:>8}{tokens:>12}"
        line += f"{row['cost_usd']:>16.8f}{row['unknown_cost']:>9}{mean:>9}"
        if arms and "success_rate" in row:
            line += f"{_around(row, 'success_rate', 3):>26}{_around(row, 'mean_cost_usd', 8):>40}"
        print(line)
    if found["total"]["estimated_usd"]:
        print(f"of which {found['total']['estimated_usd']:.8f} USD are estimates")
    if found["more"]:
        print(f"only the {len(found['rows'])} that cost most are shown; the total is of all")
    if found.get("lost"):
        print(f"{found['lost']} requests are missing: the ledger took no records", file=sys.stderr)


def _name(row: dict[str, Any], by: str) -> str:
    if by == "arm":
        return f"{row['split']} {row['arm']}".strip()
    return "(none)" if row[by] is None else str(row[by])


def _around(row: dict[str, Any], name: str, digits: int) -> str:
    value, low, high = (row[name + end] for end in ("", "_low", "_high"))
    if value is None:
        return "-"
    return f"{value:.{digits}f}" + ("" if low is None else f" ({low:.{digits}f} to {high:.{digits}f})")
