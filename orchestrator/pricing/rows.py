"""A price as a row of JSON, in the table of the project and in the cache, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from orchestrator.pricing.price import Price, Tier
from orchestrator.types import Json

Lists: TypeAlias = Mapping[str, Mapping[str, Price]]
"""Seller -> model -> price (`orchestrator.pricing.sellers`)."""

_RATES = {
    "input": "input_per_mtok_usd",
    "output": "output_per_mtok_usd",
    "cached_input": "cached_input_per_mtok_usd",
    "cache_write": "cache_write_per_mtok_usd",
    "cache_write_1h": "cache_write_1h_per_mtok_usd",
}
_PARTS = {**_RATES, "reasoning": "reasoning_per_mtok_usd", "image": "image_usd", "request": "request_usd"}
MOST_USD = 1e6
"""A million tokens, an image or a call for more than a million dollars is a mistake."""


def row_of(price: Price) -> Json:
    """The parts that are known."""
    row: Json = {key: value for key, name in _PARTS.items() if (value := getattr(price, name)) is not None}
    if price.image_tokens is not None:
        row["image_tokens"] = price.image_tokens
    if price.tiers:
        row["tiers"] = [
            {"above": tier.above_input_tokens}
            | {key: value for key, name in _RATES.items() if (value := getattr(tier, name)) is not None}
            for tier in price.tiers
        ]
    if price.varies:
        row["varies"] = True
    return row | {"source": price.source, "date": price.date}


def price_of(row: Mapping[str, Any], source: str = "", date: str = "") -> Price:
    """The price in a row; `source` and `date` where it does not say. Raises ValueError, TypeError, KeyError, or
    AttributeError for what is none."""
    parts = {name: usd(row[key]) for key, name in _PARTS.items() if key in row}
    tiers = [
        Tier(
            above_input_tokens=_count(tier["above"]),
            **{name: usd(tier[key]) for key, name in _RATES.items() if key in tier},
        )
        for tier in row.get("tiers", ())
    ]
    return Price(
        **parts,
        image_tokens=_count(row["image_tokens"]) if "image_tokens" in row else None,
        tiers=tuple(sorted(tiers, key=lambda tier: tier.above_input_tokens)),
        varies=row.get("varies") is True,
        source=str(row.get("source", source)),
        date=str(row.get("date", date)),
    )


def usd(value: Any) -> float:
    """An amount of dollars. Raises ValueError and TypeError."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("a price has to be a number")
    if not 0 <= value <= MOST_USD:
        raise ValueError(f"a price has to be between 0 and {MOST_USD:g}")
    return float(value)


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1e12:
        raise ValueError("has to be a number of tokens")
    return value
