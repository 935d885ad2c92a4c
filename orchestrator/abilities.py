"""What models can do, as their providers document it; read on 2026-11-25. Rows by model, one `*` at the end for any rest.

The pages of Anthropic, Groq and Gemini were read themselves; the rows of OpenAI, Mistral and DeepSeek are as other tables
have them that cite those pages (litellm's model_prices_and_context_window.json, 1.110.2), and agree with each other.

What is not documented is left out, and then tried: a request is passed over for what a row says, never for what it does
not. So a pattern says only what holds for everything that it fits, also for what comes out next year; a limit stands with
the models that it is documented of. `model_options` goes over these rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from orchestrator.config.settings import ModelOptions

_CLAUDE = ModelOptions(True, True, True, None, 200_000, 32_000)
_CLAUDE_SINCE_4_6 = ModelOptions(False, True, True, True, 1_000_000, 128_000)
_GPT_128 = ModelOptions(False, True, True, True, 128_000, 16_384)
_GPT_400 = ModelOptions(False, True, True, True, 400_000, 128_000)
_GPT_1050 = ModelOptions(False, True, True, True, 1_050_000, 128_000)
_GPT_6 = ModelOptions(False, None, True, True, 1_050_000, 128_000)
_O = ModelOptions(False, True, True, True, 200_000, 100_000)
_GEMINI = ModelOptions(None, True, True, True, 1_048_576, 65_536)
_GPT_OSS = ModelOptions(tools=True, json_schema=True, context_tokens=131_072, max_tokens=65_536)
_MISTRAL_1M = ModelOptions(None, True, True, True, 1_048_576)
_MISTRAL_256 = ModelOptions(None, True, True, True, 262_144)

SOURCES: Mapping[str, str] = MappingProxyType(
    {
        "openai": "https://developers.openai.com/api/docs/models",
        "anthropic": "https://platform.claude.com/docs/en/models/overview",
        "groq": "https://console.groq.com/docs/models",
        "mistral": "https://docs.mistral.ai/models",
        "deepseek": "https://api-docs.deepseek.com/quick_start/pricing",
        "gemini": "https://ai.google.dev/gemini-api/docs/models",
    }
)
"""The page that each provider's rows are from; more stand beside single rows."""

ABILITIES: Mapping[str, Mapping[str, ModelOptions]] = MappingProxyType(
    {
        # A conversation that ends with an assistant turn is answered afresh by all of them.
        "openai": {
            "gpt-4o": _GPT_128,
            "gpt-4o-2024-05-13": ModelOptions(False, True, True, None, 128_000, 4_096),
            "gpt-4o-2024-08-06": _GPT_128,
            "gpt-4o-2024-11-20": _GPT_128,
            "gpt-4o-mini*": _GPT_128,
            "gpt-4.1*": ModelOptions(False, True, True, True, 1_047_576, 32_768),
            "gpt-5": _GPT_400,
            "gpt-5-2025-08-07": _GPT_400,
            "gpt-5-mini*": _GPT_400,
            "gpt-5-nano*": _GPT_400,
            "gpt-5.1": _GPT_400,
            "gpt-5.1-2025-11-13": _GPT_400,
            "gpt-5.2": _GPT_400,
            "gpt-5.2-2025-12-11": _GPT_400,
            "gpt-5.4": _GPT_1050,
            "gpt-5.4-2026-03-05": _GPT_1050,
            "gpt-5.5": _GPT_1050,
            "gpt-5.5-2026-04-23": _GPT_1050,
            # Tools: by the Responses API for certain, by chat completions perhaps not.
            "gpt-6-sol": _GPT_6,
            "gpt-6.1-sol": _GPT_6,
            "gpt-6.2-sol": _GPT_6,
            "o1": _O,
            "o1-2024-12-17": _O,
            "o3": _O,
            "o3-2025-04-16": _O,
            "o4-mini": _O,
            "o4-mini-2025-04-16": _O,
        },
        # Models since 4.6 refuse a last assistant turn (platform.claude.com/docs/en/about-claude/models/migration-guide).
        "anthropic": {
            "claude-3-haiku*": ModelOptions(True, True, True, False, 200_000, 4_096),
            "claude-3-opus*": ModelOptions(True, True, True, False, 200_000, 4_096),
            "claude-3-5-*": ModelOptions(True, True, True, False, 200_000, 8_192),
            "claude-3-7-*": ModelOptions(True, True, True, False, 200_000, 64_000),
            "claude-opus-4-0": _CLAUDE,
            "claude-opus-4-2*": _CLAUDE,
            "claude-opus-4-1*": _CLAUDE,
            # With the beta `context-1m`, these take more than the 200,000 tokens of their pages.
            "claude-sonnet-4-0": ModelOptions(True, True, True, max_tokens=64_000),
            "claude-sonnet-4-2*": ModelOptions(True, True, True, max_tokens=64_000),
            "claude-sonnet-4-5*": ModelOptions(True, True, True, True, max_tokens=64_000),
            "claude-haiku-4-5*": ModelOptions(True, True, True, True, 200_000, 64_000),
            "claude-opus-4-5*": ModelOptions(True, True, True, True, 200_000, 64_000),
            "claude-opus-4-6": _CLAUDE_SINCE_4_6,
            "claude-opus-4-7": _CLAUDE_SINCE_4_6,
            "claude-opus-4-8": _CLAUDE_SINCE_4_6,
            "claude-opus-5": _CLAUDE_SINCE_4_6,
            "claude-opus-5-5": _CLAUDE_SINCE_4_6,
            "claude-sonnet-4-6": _CLAUDE_SINCE_4_6,
            "claude-sonnet-5": _CLAUDE_SINCE_4_6,
            "claude-sonnet-5-5": _CLAUDE_SINCE_4_6,
            "claude-haiku-5-5": _CLAUDE_SINCE_4_6,
            "claude-fable-5": _CLAUDE_SINCE_4_6,
            "claude-fable-5-1": _CLAUDE_SINCE_4_6,
            "claude-fable-5-2": _CLAUDE_SINCE_4_6,
            # Every model has tools and sees images. How much one writes that is not listed here is not known.
            "claude-*": ModelOptions(tools=True, images=True),
        },
        "groq": {
            # console.groq.com/docs/prefilling
            "llama-3*": ModelOptions(prefill=True, tools=True),
            "llama-3.3-70b-versatile": ModelOptions(
                prefill=True, tools=True, context_tokens=131_072, max_tokens=32_768
            ),
            "llama-3.1-8b-instant": ModelOptions(prefill=True, tools=True, context_tokens=131_072, max_tokens=131_072),
            # console.groq.com/docs/structured-outputs
            "openai/gpt-oss-120b": _GPT_OSS,
            "openai/gpt-oss-20b": _GPT_OSS,
        },
        "mistral": {
            "mistral-large-4": _MISTRAL_1M,
            "mistral-large-4-0": _MISTRAL_1M,
            "mistral-large-2512": _MISTRAL_256,
            "mistral-medium-2604": _MISTRAL_256,
            "mistral-medium-3-5": _MISTRAL_256,
            "mistral-small-2603": _MISTRAL_256,
        },
        "deepseek": {
            # api-docs.deepseek.com/guides/vision: images; .../guides/function_calling: tools.
            "deepseek-flash": ModelOptions(tools=True, images=True, context_tokens=1_000_000, max_tokens=393_216),
            "deepseek-v4-flash": ModelOptions(tools=True, context_tokens=1_000_000, max_tokens=393_216),
            "deepseek-v4-pro": ModelOptions(tools=True, context_tokens=1_000_000, max_tokens=393_216),
        },
        "gemini": {
            "gemini-2.5-pro": _GEMINI,
            "gemini-2.5-flash": _GEMINI,
            "gemini-2.5-flash-lite": _GEMINI,
            "gemini-3-flash-preview": _GEMINI,
            "gemini-3.1-pro-preview": _GEMINI,
            "gemini-3.1-flash-lite": _GEMINI,
            "gemini-3.5-flash": _GEMINI,
            "gemini-3.6-flash": _GEMINI,
            "gemini-3.8-flash": _GEMINI,
        },
    }
)
