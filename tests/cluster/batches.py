"""What tests of batches on a cluster have in common."""

from __future__ import annotations

import psutil

CONFIG = """
providers:
  sim: {simulate: {latency_s: {median: 0.01, p99: 0.02}}, pool: {concurrency: 20}}
pricing: {overrides: {"sim/*": {input_per_mtok_usd: 1, output_per_mtok_usd: 10}}}
"""


def run(*arguments: str) -> int:
    """Runs a batch with a coordinator of its own; the exit code."""
    from actors import batch

    return batch.main([*arguments, "--connect", "never"])


def killed(title: str) -> int:
    """kill -9 of the actors of a kind, of the cluster that this process began; how many there were.

    By the node that is a child of this process: what `orchestrator serve` began for other tests is a grandchild.
    """
    nodes = [one for one in psutil.Process().children() if one.name() == "raylet"]
    found = [
        actor for node in nodes for actor in node.children(recursive=True) if actor.name().startswith(f"ray::{title}")
    ]
    for process in found:
        process.kill()
    return len(found)
