"""US dollars on a grid, so that sums are exact: of answers, of the ledger, and over any of their parts.

The grid is 1e-10 USD: a price with up to four decimals a million tokens falls onto it for a single token. As whole numbers of
it, 64 bits hold 900 million USD.
"""

from __future__ import annotations

DECIMALS = 10
GRID = 10_000_000_000


def on_grid(usd: float) -> float:
    """The nearest cost on the grid, as answers and the ledger have it."""
    return round(usd, DECIMALS)


def plain(usd: float) -> str:
    """On the grid, as people write it: never `1e-05`."""
    text = f"{usd:.{DECIMALS}f}"
    return text.rstrip("0").rstrip(".")


def units_of(usd: float) -> int:
    """As a whole number of the grid's steps."""
    return round(usd * GRID)


def usd_of(units: int) -> float:
    """Back again: what `on_grid` gives for the same cost."""
    return on_grid(units / GRID)
