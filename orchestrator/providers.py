"""Known providers: one data row each. A provider that speaks a known dialect is a row here, or YAML alone.

What stands beside a quirk is where it is documented, or the provider's own client (its version in brackets); all were read
on 2026-11-25. What their models can do is in `orchestrator.abilities`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from orchestrator.abilities import ABILITIES
from orchestrator.config.settings import ModelOptions, Quirks


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """What a known name brings; a provider's own settings win over it."""

    docs: str
    """Where these values are documented."""
    base_url: str
    """Up to and including the version segment, without a trailing slash; `${NAME}` is an environment variable. Empty: the
    configuration has to say it."""
    dated_base_url: str = ""
    """The same where `api_version` is set; empty: there are no such versions."""
    key_variable: str
    """The environment variable that holds the key, where the settings name none."""
    key_needed: bool = True
    """Whether it is of no use without a key."""
    key_header: str = "authorization"
    """The header that carries the key; `authorization` carries it as a bearer token, any other as it is."""
    probe_path: str = "/models"
    """What an active probe asks for, where the settings do not say: a GET that bills nothing and, if there is one, needs a
    key."""
    local: bool = False
    """Runs on this machine, if at all: an optional one is left out while nobody listens there."""
    model_prefix: str = ""
    """Stands before the names that it lists, and not in those that it is asked for."""
    dialect: str = "openai"
    """A name in `orchestrator.dialects.DIALECTS`."""
    model_options: Mapping[str, ModelOptions] = field(default_factory=dict)
    """What its models can do; see `Provider.model_options`."""
    quirks: Quirks = field(default_factory=Quirks)
    """What it wants otherwise than OpenAI."""


# developers.openai.com/api/reference/resources/chat: `max_tokens` is deprecated, and refused by reasoning models.
_RENAMED = {"max_tokens": "max_completion_tokens"}

# "Unknown parameter: 'messages[2].reasoning'", or 'messages[2].tool_calls[0].index': a 400 of OpenAI's for what other models
# thought, and for calls as they were streamed, both of which clients give back.
_THOUGHTS = frozenset({"reasoning", "reasoning_content", "reasoning_details", "content_parts", "extra_content"})
_STREAMED = frozenset({"index", "extra_content"})

PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "openai": Preset(
            docs="https://platform.openai.com/docs/api-reference/authentication",
            base_url="https://api.openai.com/v1",
            key_variable="OPENAI_API_KEY",
            quirks=Quirks(extension="openai", renames=_RENAMED, turn_drops=_THOUGHTS, call_drops=_STREAMED),
            model_options=ABILITIES["openai"],
        ),
        "anthropic": Preset(
            docs="https://docs.anthropic.com/en/api/overview",
            base_url="https://api.anthropic.com/v1",
            key_variable="ANTHROPIC_API_KEY",
            key_header="x-api-key",
            dialect="anthropic",
            model_options=ABILITIES["anthropic"],
        ),
        "openrouter": Preset(
            docs="https://openrouter.ai/docs/api-reference/authentication",
            base_url="https://openrouter.ai/api/v1",
            key_variable="OPENROUTER_API_KEY",
            # openrouter.ai/docs/api/api-reference/api-keys/get-current-key; /models is answered without a key.
            probe_path="/key",
            quirks=Quirks(extension="openrouter"),
        ),
        "groq": Preset(
            docs="https://console.groq.com/docs/openai",
            base_url="https://api.groq.com/openai/v1",
            key_variable="GROQ_API_KEY",
            # A turn's unknown field is a 400 (github.com/vercel/ai, issue 8056; github.com/karthink/gptel, issue 774);
            # `reasoning` is known, but to some of its models alone.
            quirks=Quirks(
                extension="groq",
                turn_drops=frozenset({"reasoning", "reasoning_content", "reasoning_details", "annotations"}),
                call_drops=_STREAMED,
            ),
            model_options=ABILITIES["groq"],
        ),
        "ollama": Preset(
            docs="https://docs.ollama.com/api/openai-compatibility",
            base_url="http://127.0.0.1:11434/v1",
            key_variable="OLLAMA_API_KEY",
            key_needed=False,
            local=True,
            # github.com/ollama/ollama, openai/openai.go, ChatCompletionRequest: of both names `max_tokens` alone is read; so
            # are `reasoning_effort` and `reasoning`, but neither `think` nor `keep_alive`, which its other interface has.
            quirks=Quirks(extension="ollama", renames={"max_completion_tokens": "max_tokens"}),
            # A last assistant turn is continued: the template leaves it open.
            model_options={"*": ModelOptions(prefill=True)},
        ),
        "vllm": Preset(
            docs="https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html",
            base_url="",
            key_variable="VLLM_API_KEY",
            key_needed=False,
            quirks=Quirks(
                extension="vllm", prefill_fields={"continue_final_message": True, "add_generation_prompt": False}
            ),
            model_options={"*": ModelOptions(prefill=True)},
        ),
        "together": Preset(
            docs="https://docs.together.ai/docs/inference/openai-compatibility",
            base_url="https://api.together.ai/v1",
            key_variable="TOGETHER_API_KEY",
            # github.com/togethercomputer/together-py, types/chat/completion_create_params.py (3.1.1): `max_tokens` alone.
            quirks=Quirks(extension="together", renames={"max_completion_tokens": "max_tokens"}),
        ),
        "mistral": Preset(
            docs="https://docs.mistral.ai/api/",
            base_url="https://api.mistral.ai/v1",
            key_variable="MISTRAL_API_KEY",
            # Any field that it does not know is refused with 422 (extra_forbidden). What it knows:
            # github.com/mistralai/client-python, models/chatcompletionrequest.py, assistantmessage.py (3.7.0). Its streams
            # say their usage unasked. Of a call, too: "Tool call id was … but must be a-z, A-Z, 0-9, with a length of 9"
            # (github.com/langchain-ai/langchain, pull request 24668).
            quirks=Quirks(
                extension="mistral",
                renames={"seed": "random_seed", "max_completion_tokens": "max_tokens"},
                drops=frozenset(
                    {"stream_options", "user", "store", "logit_bias", "verbosity", "safety_identifier"}
                    | {"prompt_cache_retention"}
                ),
                turn_drops=frozenset(
                    {"reasoning", "reasoning_content", "reasoning_details", "content_parts", "refusal", "annotations"}
                    | {"audio", "function_call"}
                ),
                roles={"developer": "system"},
                call_id_characters=9,
            ),
            model_options=ABILITIES["mistral"],
        ),
        "deepseek": Preset(
            docs="https://api-docs.deepseek.com/",
            base_url="https://api.deepseek.com/v1",
            key_variable="DEEPSEEK_API_KEY",
            # api-docs.deepseek.com/api/create-chat-completion: `max_tokens` alone, and no role `developer`;
            # .../guides/chat_prefix_completion: a turn is continued below base_url https://api.deepseek.com/beta, and nowhere
            # else, so that whoever wants it says so: that base_url, and `model_options: {"*": {prefill: true}}`.
            quirks=Quirks(
                extension="deepseek",
                renames={"max_completion_tokens": "max_tokens"},
                roles={"developer": "system"},
                prefill_turn={"prefix": True},
            ),
            model_options=ABILITIES["deepseek"],
        ),
        "gemini": Preset(
            docs="https://ai.google.dev/gemini-api/docs/openai",
            base_url="https://generativelanguage.googleapis.com/v1beta/openai",
            key_variable="GEMINI_API_KEY",
            model_prefix="models/",
            # ai.google.dev/gemini-api/docs/thought-signatures: Gemini 3 and later insist (Vertex's `google/gemini-3…`, too).
            # What stands in for a signature: there, "FAQs", and docs.cloud.google.com/vertex-ai/generative-ai/docs/
            # thought-signatures. A field that the interface does not know is a 400 (github.com/leookun/cursor-byok, issue
            # 112; github.com/ed-donner/agents, issue 45); Codex and OpenAI's Agents SDK send these.
            quirks=Quirks(
                extension="gemini",
                drops=frozenset(
                    {"store", "metadata", "prompt_cache_key", "prompt_cache_retention"}
                    | {"safety_identifier", "verbosity"}
                ),
                turn_drops=frozenset({"reasoning", "reasoning_content", "reasoning_details"}),
                signing_models=r"(?:^|/)gemini-(?:[3-9]|\d\d|(?:[a-z]+-)+latest)",
                stand_in={"google": {"thought_signature": "skip_thought_signature_validator"}},
            ),
            model_options=ABILITIES["gemini"],
        ),
        "azure": Preset(
            docs="https://learn.microsoft.com/azure/ai-foundry/openai/api-version-lifecycle",
            base_url="${AZURE_OPENAI_ENDPOINT}/openai/v1",
            # learn.microsoft.com/azure/ai-foundry/openai/reference
            dated_base_url="${AZURE_OPENAI_ENDPOINT}/openai",
            key_variable="AZURE_OPENAI_API_KEY",
            key_header="api-key",
            quirks=Quirks(extension="azure", renames=_RENAMED, turn_drops=_THOUGHTS, call_drops=_STREAMED),
        ),
        "bedrock": Preset(
            docs="https://docs.aws.amazon.com/bedrock/latest/userguide/inference-chat-completions-mantle.html",
            base_url="https://bedrock-mantle.${AWS_REGION}.api.aws/v1",
            key_variable="AWS_BEARER_TOKEN_BEDROCK",
            quirks=Quirks(extension="bedrock"),
        ),
    }
)


def credentials(key_header: str, key: str | None) -> dict[str, str]:
    """The headers that carry a key; none where there is no key."""
    if key is None:
        return {}
    return {key_header: f"Bearer {key}" if key_header == "authorization" else key}
