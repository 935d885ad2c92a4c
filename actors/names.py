"""What actors of the application find each other by."""

from __future__ import annotations

NAMESPACE = "orchestrator"
RELAY_HOST = "ORCHESTRATOR_RELAY_HOST"
"""The variable of the address on which pools and local models listen; unset: their node's. `orchestrator serve` sets
loopback."""
