"""One endpoint over many model providers.

The public face of the package. Names are loaded when they are first used, so that an actor which needs only a part of
the package pays for that part alone (a pool actor never loads pydantic, YAML or the OpenAI SDK).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.errors import BadChoice, CallFailed, ConfigError, NotAllowed, OrchestratorError, UnknownSelector

__all__ = [
    "BadChoice",
    "CallFailed",
    "ConfigError",
    "NotAllowed",
    "OrchestratorError",
    "UnknownSelector",
    "__version__",
]

__version__ = "0.1.0"

_HOME = {
    "BadChoice": "orchestrator.errors",
    "CallFailed": "orchestrator.errors",
    "ConfigError": "orchestrator.errors",
    "NotAllowed": "orchestrator.errors",
    "OrchestratorError": "orchestrator.errors",
    "UnknownSelector": "orchestrator.errors",
}


def __getattr__(name: str) -> object:
    if name in _HOME:
        from importlib import import_module

        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
