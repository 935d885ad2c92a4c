"""Known providers: one data row each. A provider that speaks a known dialect is a row here, or YAML alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from orchestrator.config.settings import ModelOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """What a known name brings; a provider's own settings win over it."""

    docs: str
    """Where these values are documented."""
    base_url: str
    """Up to and including the version segment, without a trailing slash; `${NAME}` is an environment variable. Empty: the
    configuration has to say it."""
    key_variable: str
    """The environment variable that holds the key, where the settings name none."""
    key_needed: bool = True
    """Whether it is of no use without a key."""
    key_header: str = "authorization"
    """The header that carries the key; `authorization` carries it as a bearer token, any other as it is."""
    local: bool = False
    """Runs on this machine, if at all: an optional one is left out while nobody listens there."""
    model_prefix: str = ""
    """Stands before the names that it lists, and not in those that it is asked for."""
    dialect: str = "openai"
    """A name in `orchestrator.dialects.DIALECTS`."""
    model_options: Mapping[str, ModelOptions] = field(default_factory=dict)
    """What its models can do; see `Provider.model_options`."""
    prefill_fields: Mapping[str, object] = field(default_factory=dict)
    """What a request has to say beside a last assistant turn for it to be continued."""
    renames: Mapping[str, str] = field(default_factory=dict)
    """Fields of a request that it wants by another name."""


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "openai": Preset(
            docs="https://platform.openai.com/docs/api-reference/authentication",
            base_url="https://api.openai.com/v1",
            key_variable="OPENAI_API_KEY",
            # platform.openai.com/docs/api-reference/chat/create: `max_tokens` is deprecated, and refused by reasoning models.
            renames={"max_tokens": "max_completion_tokens"},
            # platform.openai.com/docs/models; a conversation that ends with an assistant turn is answered afresh.
            model_options={
                "gpt-4o*": ModelOptions(False, True, True, True, 128_000, 16_384),
                "gpt-4.1*": ModelOptions(False, True, True, True, 1_047_576, 32_768),
                "gpt-5*": ModelOptions(False, True, True, True, 400_000, 128_000),
            },
        ),
        "anthropic": Preset(
            docs="https://docs.anthropic.com/en/api/overview",
            base_url="https://api.anthropic.com/v1",
            key_variable="ANTHROPIC_API_KEY",
            key_header="x-api-key",
            dialect="anthropic",
            # docs.anthropic.com/en/docs/about-claude/models/overview, and .../api/errors#prefill-not-supported: models
            # since 4.6 answer a last assistant turn with a 400. What is not known of them is left open.
            model_options={
                "claude-3-haiku*": ModelOptions(True, True, True, False, 200_000, 4_096),
                "claude-3-opus*": ModelOptions(True, True, True, False, 200_000, 4_096),
                "claude-3-5-*": ModelOptions(True, True, True, False, 200_000, 8_192),
                "claude-3-7-*": ModelOptions(True, True, True, False, 200_000, 64_000),
                "claude-sonnet-4-5*": ModelOptions(True, True, True, True, 200_000, 64_000),
                "claude-haiku-4-5*": ModelOptions(True, True, True, True, 200_000, 64_000),
                "claude-opus-4-5*": ModelOptions(True, True, True, True, 200_000, 64_000),
                "claude-*": ModelOptions(tools=True, images=True, context_tokens=200_000, max_tokens=32_000),
            },
        ),
        "openrouter": Preset(
            docs="https://openrouter.ai/docs/api-reference/authentication",
            base_url="https://openrouter.ai/api/v1",
            key_variable="OPENROUTER_API_KEY",
        ),
        "groq": Preset(
            docs="https://console.groq.com/docs/openai",
            base_url="https://api.groq.com/openai/v1",
            key_variable="GROQ_API_KEY",
            # console.groq.com/docs/prefilling
            model_options={"llama-3*": ModelOptions(prefill=True, tools=True)},
        ),
        "ollama": Preset(
            docs="https://docs.ollama.com/api/openai-compatibility",
            base_url="http://127.0.0.1:11434/v1",
            key_variable="OLLAMA_API_KEY",
            key_needed=False,
            local=True,
            # A last assistant turn is continued: the template leaves it open.
            model_options={"*": ModelOptions(prefill=True)},
        ),
        "vllm": Preset(
            docs="https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html",
            base_url="",
            key_variable="VLLM_API_KEY",
            key_needed=False,
            model_options={"*": ModelOptions(prefill=True)},
            prefill_fields={"continue_final_message": True, "add_generation_prompt": False},
        ),
        "together": Preset(
            docs="https://docs.together.ai/docs/inference/openai-compatibility",
            base_url="https://api.together.ai/v1",
            key_variable="TOGETHER_API_KEY",
        ),
        "mistral": Preset(
            docs="https://docs.mistral.ai/api/",
            base_url="https://api.mistral.ai/v1",
            key_variable="MISTRAL_API_KEY",
        ),
        "deepseek": Preset(
            docs="https://api-docs.deepseek.com/",
            base_url="https://api.deepseek.com/v1",
            key_variable="DEEPSEEK_API_KEY",
        ),
        "gemini": Preset(
            docs="https://ai.google.dev/gemini-api/docs/openai",
            base_url="https://generativelanguage.googleapis.com/v1beta/openai",
            key_variable="GEMINI_API_KEY",
            model_prefix="models/",
        ),
        "azure": Preset(
            docs="https://learn.microsoft.com/azure/ai-foundry/openai/api-version-lifecycle",
            base_url="${AZURE_OPENAI_ENDPOINT}/openai/v1",
            key_variable="AZURE_OPENAI_API_KEY",
            renames={"max_tokens": "max_completion_tokens"},
            key_header="api-key",
        ),
        "bedrock": Preset(
            docs="https://docs.aws.amazon.com/bedrock/latest/userguide/inference-chat-completions-mantle.html",
            base_url="https://bedrock-mantle.${AWS_REGION}.api.aws/v1",
            key_variable="AWS_BEARER_TOKEN_BEDROCK",
        ),
    }
)


def credentials(key_header: str, key: str | None) -> dict[str, str]:
    """The headers that carry a key; none where there is no key."""
    if key is None:
        return {}
    return {key_header: f"Bearer {key}" if key_header == "authorization" else key}
