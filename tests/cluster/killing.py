"""kill -9 of actors of the cluster that this process began, and of no other's."""

from __future__ import annotations

import psutil


def killed(title: str) -> int:
    """Kills the actors of a kind; how many there were.

    By the node that is a child of this process: what `orchestrator serve` began for other tests is a grandchild.
    """
    nodes = [one for one in psutil.Process().children() if one.name() == "raylet"]
    found = [
        actor for node in nodes for actor in node.children(recursive=True) if actor.name().startswith(f"ray::{title}")
    ]
    for process in found:
        process.kill()
    return len(found)
