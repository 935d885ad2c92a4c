"""One endpoint over many model providers.

The public face of the package. Names are loaded when they are first used, so that an actor which needs only a part of
the package pays for that part alone (a pool actor never loads pydantic, YAML or the OpenAI SDK).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.errors import (
        BadChoice,
        CallFailed,
        ConfigError,
        Denied,
        InvalidObject,
        NoApplication,
        NotAllowed,
        OrchestratorError,
        ToolError,
        UnknownSelector,
    )
    from orchestrator.python.model import Model
    from orchestrator.python.models import Models, create_models
    from orchestrator.python.reply import ModelReply, Step, ToolCall
    from orchestrator.python.stream import Delta, ModelStream

__all__ = [
    "BadChoice",
    "CallFailed",
    "ConfigError",
    "Delta",
    "Denied",
    "InvalidObject",
    "Model",
    "ModelReply",
    "ModelStream",
    "Models",
    "NoApplication",
    "NotAllowed",
    "OrchestratorError",
    "Step",
    "ToolCall",
    "ToolError",
    "UnknownSelector",
    "__version__",
    "create_models",
]

__version__ = "0.1.0"

_HOME = {
    "BadChoice": "orchestrator.errors",
    "CallFailed": "orchestrator.errors",
    "ConfigError": "orchestrator.errors",
    "Delta": "orchestrator.python.stream",
    "Denied": "orchestrator.errors",
    "InvalidObject": "orchestrator.errors",
    "Model": "orchestrator.python.model",
    "ModelReply": "orchestrator.python.reply",
    "ModelStream": "orchestrator.python.stream",
    "Models": "orchestrator.python.models",
    "NoApplication": "orchestrator.errors",
    "NotAllowed": "orchestrator.errors",
    "OrchestratorError": "orchestrator.errors",
    "Step": "orchestrator.python.reply",
    "ToolCall": "orchestrator.python.reply",
    "ToolError": "orchestrator.errors",
    "UnknownSelector": "orchestrator.errors",
    "create_models": "orchestrator.python.models",
}


def __getattr__(name: str) -> object:
    if name in _HOME:
        from importlib import import_module

        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
