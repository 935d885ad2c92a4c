"""Known providers: one data row each. A provider that speaks a known dialect is a row here, or YAML alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Preset:
    """What a known name brings; a provider's own settings win over it."""

    dialect: str
    """A name in `orchestrator.dialects.DIALECTS`."""
    base_url: str
    """Up to and including the version segment, without a trailing slash."""
    key_variable: str
    """The environment variable that holds the key, where the settings name none."""
    docs: str
    """Where these values are documented."""


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "openai": Preset(
            dialect="openai",
            base_url="https://api.openai.com/v1",
            key_variable="OPENAI_API_KEY",
            docs="https://platform.openai.com/docs/api-reference/authentication",
        ),
    }
)

PLANNED = frozenset(
    {
        "anthropic",
        "azure",
        "bedrock",
        "deepseek",
        "gemini",
        "groq",
        "mistral",
        "ollama",
        "openrouter",
        "together",
        "vllm",
    }
)
"""Names of presets that are not available yet: refused by name, never taken for something else."""
