"""What tells the pools of one configuration apart from those of another."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict

from orchestrator.config.settings import Config


def digest(config: Config) -> str:
    """16 hexadecimal digits that are the same in all processes for the same providers and keys, in whatever order."""
    providers = {name: asdict(provider) for name, provider in config.providers.items()}
    # Sets have another order in every process.
    said = json.dumps([providers, dict(config.keys)], sort_keys=True, default=sorted)
    return hashlib.sha256(said.encode()).hexdigest()[:16]
