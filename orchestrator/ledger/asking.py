"""Questions about what was spent, and the answer as CSV. No database: coordinators and the command need these alone."""

from __future__ import annotations

import csv
import io
import re
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from orchestrator.errors import BadChoice
from orchestrator.types import Json

BY = ("user", "key", "selector", "model", "provider", "arm", "day")
LATEST_S = 253_402_300_799.0
"""The last second of the year 9999: there is no later date."""
_AGO = re.compile(r"(\d{1,6})([mhd])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


class Asking(NamedTuple):
    """What is asked for."""

    by: str = "user"
    since_s: float | None = None
    """Of requests that began then or later, in seconds since 1970."""
    until_s: float | None = None
    """Of requests that began before."""


def asking(by: str | None, since: str | None, until: str | None, now_s: float) -> Asking:
    """What is asked for in words. Raises BadChoice."""
    by = by or "user"
    if by not in BY:
        raise BadChoice("by", f"has to be one of {', '.join(BY)}")
    return Asking(by, _time("since", since, now_s), _time("until", until, now_s))


def _time(param: str, said: str | None, now_s: float) -> float | None:
    """A day, a time (UTC unless it says otherwise), or how long ago: `2026-11-01`, `2026-11-01T12:30`, `7d`, `24h`, `30m`."""
    if not said:
        return None
    if ago := _AGO.fullmatch(said):
        return max(0.0, now_s - timedelta(**{_UNITS[ago[2]]: int(ago[1])}).total_seconds())
    try:
        # In a query a plus is a space.
        time = datetime.fromisoformat(said.replace(" ", "+") if said.count(":") > 1 else said)
    except ValueError:
        what = "has to be a day (2026-11-01), a time in UTC (2026-11-01T12:30), or how long ago (7d, 24h, 30m)"
        raise BadChoice(param, what) from None
    return min(max(0.0, (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()), LATEST_S)


def as_csv(answer: Json) -> str:
    """The rows as CSV, with a line of names; costs are written out, never as powers of ten."""
    rows: list[Json] = answer["rows"]
    names = [*rows[0]] if rows else ([answer["by"]] if answer["by"] != "arm" else ["split", "arm"]) + [*answer["total"]]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([[_cell(name, row[name]) for name in names] for row in rows])
    return text.getvalue()


def _cell(name: str, value: Any) -> Any:
    if value is None:
        return ""
    if "_usd" in name:
        return f"{value:.12f}".rstrip("0").rstrip(".")
    # A spreadsheet would run it (owasp.org/www-community/attacks/CSV_Injection).
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+-@\t\r" else value
