"""A configuration as /admin/config shows it: JSON, no key or password in it, and of prices only how many there are."""

from __future__ import annotations

from dataclasses import asdict, replace

from orchestrator.config.ledger import address_alone, without_password
from orchestrator.config.settings import Config
from orchestrator.pricing.book import Prices
from orchestrator.pricing.rows import row_of
from orchestrator.types import Json


def shown(config: Config) -> Json:
    """All of it but the keys and the lists of prices, of which it says how many there are, what headers of ours and
    variables of local models hold, and the hashes of callers' keys."""
    value = asdict(replace(config, prices=Prices()))
    keys = value.pop("keys")
    prices = config.prices
    value["prices"] = {
        "overrides": {selector: row_of(price) for selector, price in prices.overrides.items()},
        "known": {seller: len(rows) for seller, rows in prices.lists.items()},
        "bought_from": dict(prices.bought_from),
        "cache": prices.cache,
        "written_at": prices.written_s,
        "refresh_h": prices.refresh_h,
    }
    value["telemetry"]["headers"] = sorted(value["telemetry"]["headers"])
    for caller in value["callers"]:
        del caller["key_sha256"]
    for name, provider in value["providers"].items():
        provider["accounts"] = max(1, len(keys.get(name, ())))
        if provider["hosted"] is not None:
            # What a variable holds may be a key of somebody's.
            provider["hosted"]["env"] = sorted(provider["hosted"]["env"])
        quirks = provider["quirks"]
        provider["quirks"] = {k: sorted(v) if isinstance(v, frozenset) else v for k, v in quirks.items()}
    if (ledger := value["ledger"]) is not None:
        ledger["url"] = without_password(ledger["url"])
        if (webhook := ledger["alerts"]["webhook"]) is not None:
            ledger["alerts"]["webhook"] = address_alone(webhook)
    return value
