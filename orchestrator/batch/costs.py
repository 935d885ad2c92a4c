"""The most that requests of a batch may cost: the one place where a batch meets the price table."""

from __future__ import annotations

from orchestrator.batch.planning import Worst
from orchestrator.config.settings import Config


def worst_of(_config: Config) -> Worst:
    """By a configuration's prices. There are none yet: nobody knows."""
    return lambda _: None
