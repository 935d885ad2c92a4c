"""Figures as people read them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime

NONE = "–"
"""What stands where nothing is known."""


def share(value: float | None, digits: int = 1) -> str:
    """`94.7 %`."""
    return NONE if value is None else f"{100 * value:.{digits}f} %"


def share_interval(bounds: Sequence[float] | None) -> str:
    """`92.7 to 96.2`, in per cent."""
    return "" if bounds is None else f"{100 * bounds[0]:.1f} to {100 * bounds[1]:.1f}"


def points(value: float | None) -> str:
    """A difference of shares in percentage points: `+3.2`."""
    return NONE if value is None else f"{100 * value:+.1f}"


def points_interval(bounds: Sequence[float] | None) -> str:
    """`+1.1 to +5.3`."""
    return "" if bounds is None else f"{100 * bounds[0]:+.1f} to {100 * bounds[1]:+.1f}"


def figure(value: float | None, digits: int = 3, sign: str = "") -> str:
    """To so many significant digits, never with an exponent: `0.00123`, `1,230`."""
    if value is None:
        return NONE
    if not value:
        return "0"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:{sign},.{min(decimals, 10)}f}"


def usd(value: float | None, sign: str = "") -> str:
    """A cost: two decimals, or three significant digits where it is less than a dollar."""
    return NONE if value is None else f"{value:{sign},.2f}" if abs(value) >= 1 else figure(value, 3, sign)


def interval(bounds: Sequence[float] | None, sign: str = "") -> str:
    """`0.0012 to 0.0015`."""
    return "" if bounds is None else f"{figure(bounds[0], 3, sign)} to {figure(bounds[1], 3, sign)}"


def chance(p: float | None) -> str:
    """A p-value."""
    return NONE if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def span(seconds: float | None) -> str:
    """`2 h 5 min`."""
    if seconds is None:
        return NONE
    if seconds < 60:
        return f"{figure(seconds)} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def moment(unix_s: float | None) -> str:
    """`2026-11-01 12:30 UTC`."""
    return NONE if unix_s is None else datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M UTC")
