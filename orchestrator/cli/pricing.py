"""`orchestrator pricing fetch | show`: what models cost, from where that is known, and since when."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from orchestrator.config.load import default_config, load_file
from orchestrator.config.settings import Config
from orchestrator.errors import ConfigError
from orchestrator.pricing import cache, refresh
from orchestrator.pricing.openrouter import NotFetched
from orchestrator.pricing.price import Price
from orchestrator.pricing.rows import Lists, row_of
from orchestrator.pricing.sellers import SELLERS
from orchestrator.pricing.table import table
from orchestrator.types import Json


def fetch(path: str | None, *, offline: bool, as_json: bool) -> int:
    """Writes the cache of a configuration anew. 0, 1 where prices could not be fetched or written, 2 for a bad
    configuration; the former file then stays."""
    config = _config(path)
    if config is None:
        return 2
    file = config.prices.cache
    try:
        count = refresh.refresh(file, offline=offline)
    except (NotFetched, OSError) as error:
        kept = "; the former prices stay" if Path(file).exists() else ""
        print(f"prices were not fetched: {_line(error)}{kept}", file=sys.stderr)
        return 1
    said: Json = {"cache": file, "prices": count, "offline": offline}
    print(json.dumps(said) if as_json else f"{count} prices in {file}{', of the table alone' if offline else ''}")
    return 0


def show(path: str | None, models: Sequence[str], *, as_json: bool) -> int:
    """What is known of these models (`provider/model`), or of all. 0, 1 where one of those named has no price, 2 for a bad
    configuration."""
    config = _config(path)
    if config is None:
        return 2
    cached = cache.read(config.prices.cache)
    lists = table() if cached is None else cache.newer(table(), cached.lists)
    found = {model: _known(config, lists, model) for model in models} if models else _all(config, lists)
    if as_json:
        rows = {name: None if price is None else row_of(price) for name, price in found.items()}
        written = None if cached is None else cached.written_s
        fetched = cached is not None and cached.fetched
        print(json.dumps({"cache": config.prices.cache, "written_at": written, "fetched": fetched, "prices": rows}))
    else:
        _print(found)
        _print_cache(config, cached)
    return 1 if None in found.values() else 0


def _config(path: str | None) -> Config | None:
    try:
        return load_file(path or default_config())
    except ConfigError as error:
        print(error, file=sys.stderr)
        return None


def _known(config: Config, lists: Lists, selector: str) -> Price | None:
    """By the configuration's own providers, else by the names of known ones."""
    provider, _, model = selector.partition("/")
    found = config.prices.of(provider, model)
    if found is None and provider not in config.providers and provider in SELLERS:
        rows = lists.get(provider, {})
        found = rows.get(model) or rows.get(SELLERS[provider].name_of(model))
    return found


def _all(config: Config, lists: Lists) -> dict[str, Price | None]:
    listed = {f"{seller}/{model}": price for seller, rows in sorted(lists.items()) for model, price in rows.items()}
    return {**config.prices.overrides, **listed}


def _print(found: Mapping[str, Price | None]) -> None:
    width = max(map(len, found), default=0)
    print(
        f"{'US dollars per million tokens':{width}}  {'input':>8} {'output':>8} {'cached':>8} {'written':>8}  known from"
    )
    for name, price in found.items():
        if price is None:
            print(f"{name:{width}}  no price is known")
            continue
        parts = (
            price.input_per_mtok_usd,
            price.output_per_mtok_usd,
            price.cached_input_per_mtok_usd,
            price.cache_write_per_mtok_usd,
        )
        columns = " ".join(f"{'' if part is None else f'{part:g}':>8}" for part in parts)
        beside = "".join(
            f"; above {tier.above_input_tokens:,} tokens {tier.input_per_mtok_usd:g} and {tier.output_per_mtok_usd:g}"
            for tier in price.tiers
        )
        beside += f"; a call {price.request_usd:g}" if price.request_usd else ""
        beside += f"; an image {price.image_usd:g}" if price.image_usd else ""
        beside += "; the highest of several" if price.varies else ""
        print(f"{name:{width}}  {columns}  {f'{price.date} {price.source}'.strip()}{beside}")


def _print_cache(config: Config, cached: cache.Cached | None) -> None:
    if cached is None:
        print(f"not fetched yet: `orchestrator pricing fetch` writes {config.prices.cache}", file=sys.stderr)
        return
    when = f"{datetime.fromtimestamp(cached.written_s, UTC):%Y-%m-%d %H:%M} UTC"
    what = "fetched" if cached.fetched else "written without asking OpenRouter"
    old = refresh.age_of(config.prices, time.time())
    print(f"{config.prices.cache}: {what} {when}{f', {old} ago' if old else ''}", file=sys.stderr)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
