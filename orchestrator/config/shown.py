"""A configuration as /admin/config shows it: JSON, and no key or password in it."""

from __future__ import annotations

from dataclasses import asdict

from orchestrator.config.ledger import address_alone, without_password
from orchestrator.config.settings import Config
from orchestrator.types import Json


def shown(config: Config) -> Json:
    """All of it but the keys, of which it says how many there are, and the hashes of callers' keys."""
    value = asdict(config)
    keys = value.pop("keys")
    for caller in value["callers"]:
        del caller["key_sha256"]
    for name, provider in value["providers"].items():
        provider["accounts"] = max(1, len(keys.get(name, ())))
        quirks = provider["quirks"]
        provider["quirks"] = {k: sorted(v) if isinstance(v, frozenset) else v for k, v in quirks.items()}
    if (ledger := value["ledger"]) is not None:
        ledger["url"] = without_password(ledger["url"])
        if (webhook := ledger["alerts"]["webhook"]) is not None:
            ledger["alerts"]["webhook"] = address_alone(webhook)
    return value
