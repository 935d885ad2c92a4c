"""The file that keeps what was fetched, merged with the table: `pricing.cache` of the configuration.

It is written whole or not at all (a file beside it, flushed to the disk, takes its name), so that whoever reads sees the
former prices or the new ones. One that cannot be read, or is of another version, counts as none: the table remains.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import orjson

from orchestrator.files import replace
from orchestrator.pricing.price import Price
from orchestrator.pricing.rows import Lists, price_of, row_of
from orchestrator.pricing.sellers import resellable

SCHEMA = 1
MOST_BYTES = 64 * 1024 * 1024

_log = logging.getLogger("orchestrator.pricing")


class Cached(NamedTuple):
    """What a cache holds."""

    lists: Lists
    written_s: float
    """When it was written, in seconds since 1970."""
    fetched: bool
    """Whether OpenRouter was asked, or it is the table alone."""


def merged(table: Lists, fetched: Mapping[str, Price]) -> Lists:
    """The table with OpenRouter's list: as its own, and for those whose prices it passes on.

    Where both know a model and agree on input and output, the table's row stays, which has more parts; where they do not, the
    one that was read later holds.
    """
    lists = {seller: dict(rows) for seller, rows in table.items()}
    lists["openrouter"] = dict(fetched)
    for model, price in fetched.items():
        known = resellable(model)
        if known is not None:
            seller, name = known
            rows = lists.setdefault(seller, {})
            before = rows.get(name)
            if before is None or (not _agree(before, price) and before.date <= price.date):
                rows[name] = price
    return lists


def _agree(one: Price, other: Price) -> bool:
    rates = (one.input_per_mtok_usd, one.output_per_mtok_usd)
    return rates == (other.input_per_mtok_usd, other.output_per_mtok_usd)


def newer(table: Lists, cached: Lists) -> Lists:
    """The rows of both; of a model that both have, the one that was read later (the cache's, if on the same day). So a table
    that came with a newer version is not hidden by an old file."""
    lists = {seller: dict(rows) for seller, rows in table.items()}
    for seller, rows in cached.items():
        own = lists.setdefault(seller, {})
        own |= {name: price for name, price in rows.items() if name not in own or own[name].date <= price.date}
    return lists


def write(path: str, lists: Lists, now_s: float, *, fetched: bool) -> None:
    """Replaces the file. Raises OSError; the former file is then as it was."""
    content = orjson.dumps(
        {
            "schema": SCHEMA,
            "fetched_at": now_s if fetched else None,
            "written_at": now_s,
            "sellers": {
                seller: {name: row_of(price) for name, price in rows.items()} for seller, rows in lists.items()
            },
        },
        option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS,
    )
    replace(path, content)


def read(path: str) -> Cached | None:
    """What a cache holds; None where there is none, or nothing of use, which is logged."""
    try:
        file = Path(path)
        if file.stat().st_size > MOST_BYTES:
            raise ValueError("it is too large")
        data = orjson.loads(file.read_bytes())
        if not isinstance(data, dict) or data.get("schema") != SCHEMA:
            raise ValueError("it is of another version")
        lists = {
            seller: {name: price_of(row) for name, row in rows.items()} for seller, rows in data["sellers"].items()
        }
        return Cached(lists, float(data["written_at"]), data["fetched_at"] is not None)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        _log.warning("the prices in %s cannot be used, those of the table are: %s", path, error)
        return None
