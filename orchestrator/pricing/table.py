"""The table that comes with the project (`prices.json`): the prices of providers that list none themselves.

Every row names its source: an address and the day it was read, and `by` where it was not read there but in something that
cites it (second hand). `also` are further names of the same model at the same price, `varies` says that the row has the
highest of several prices. Facts alone are taken from elsewhere.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from types import MappingProxyType

import orjson

from orchestrator.pricing.price import Price
from orchestrator.pricing.rows import Lists, price_of

FILE = Path(__file__).with_name("prices.json")


@cache
def table() -> Lists:
    """All rows, read once a process (2 ms)."""
    data = orjson.loads(FILE.read_bytes())
    sources = {name: _said(**source) for name, source in data["sources"].items()}
    lists: dict[str, dict[str, Price]] = {}
    for seller, rows in data["sellers"].items():
        found: dict[str, Price] = {}
        lists[seller] = found
        for model, row in rows.items():
            source, date = sources[row["source"]]
            price = price_of({key: value for key, value in row.items() if key != "source"}, source, date)
            found |= dict.fromkeys((model, *row.get("also", ())), price)
    return MappingProxyType({seller: MappingProxyType(rows) for seller, rows in lists.items()})


def _said(url: str, date: str, by: str = "") -> tuple[str, str]:
    return f"{url} (second hand: {by})" if by else url, date
