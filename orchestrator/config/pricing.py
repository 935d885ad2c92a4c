"""`pricing:` and what is known of prices otherwise, into the prices of a configuration."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from orchestrator.config.document import Document, near
from orchestrator.config.sections import read_section
from orchestrator.config.settings import PriceOverride, Pricing, Provider
from orchestrator.pricing import cache
from orchestrator.pricing.book import Prices
from orchestrator.pricing.price import Price
from orchestrator.pricing.sellers import seller_at
from orchestrator.pricing.table import table

_ABSENT = Pricing(refresh_h=0.0)
"""Without the section nothing is fetched; a file that `orchestrator pricing fetch` has left is read all the same."""


def read_prices(
    document: Document, raw: Any, folder: Path, providers: Mapping[str, Provider], named: Collection[str]
) -> Prices:
    """The prices of these providers; `named` are those that were left out as well. What is wrong is noted."""
    section = _ABSENT if raw is None else read_section(document, ("pricing",), Pricing, raw) or _ABSENT
    overrides = {}
    for selector, given in section.overrides.items():
        provider, slash, model = selector.partition("/")
        at = ("pricing", "overrides", selector)
        if not slash or not model:
            document.problem(at, "has to be a selector such as openai/gpt-4o, or openai/*")
        elif provider not in named:
            document.problem(at, f"there is no provider '{provider}'" + near(provider, named))
        elif "*" in selector[:-1]:
            document.problem(at, "may have one '*', at its end")
        overrides[selector] = _price(given)
    path = _path(document, folder, section.cache)
    sellers = {name: seller_at(provider.base_url) for name, provider in providers.items()}
    bought_from = {name: seller for name, seller in sellers.items() if seller is not None}
    cached = cache.read(path) if path else None
    lists = table() if cached is None else cache.newer(table(), cached.lists)
    return Prices(
        overrides,
        bought_from,
        {seller: dict(lists.get(seller, {})) for seller in sorted({*bought_from.values()})},
        path,
        None if cached is None else cached.written_s,
        section.refresh_h,
    )


def _path(document: Document, folder: Path, text: str) -> str:
    if not text.strip() or not text.isprintable():
        document.problem(("pricing", "cache"), "has to be a file's path")
        return ""
    return str(folder / text)


def _price(given: PriceOverride) -> Price:
    return Price(**{part.name: getattr(given, part.name) for part in fields(given)}, source="overrides")
