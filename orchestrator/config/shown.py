"""A configuration as /admin/config shows it: JSON, and no key in it."""

from __future__ import annotations

from dataclasses import asdict

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
    return value
