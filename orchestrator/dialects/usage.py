"""What an answer in OpenAI's shape used: OpenAI's counts, and those that others give in their own fields."""

from __future__ import annotations

from orchestrator.dialects.messages import count
from orchestrator.types import Json, Usage

TICKS_PER_USD = 1e10
"""docs.x.ai/developers/cost-tracking (2026-11-25)."""


def usage_of(body: object) -> Usage | None:
    """The `usage` object of an answer; None where there is none worth the name.

    What was read from a cache is DeepSeek's `prompt_cache_hit_tokens` where OpenAI's field is missing
    (api-docs.deepseek.com/guides/kv_cache). The price is OpenRouter's `cost` (openrouter.ai/docs/use-cases/usage-accounting)
    or xAI's `cost_in_usd_ticks`. All 2026-11-25.
    """
    if not isinstance(body, dict):
        return None
    cached = _inner(body, "prompt_tokens_details", "cached_tokens")
    cost, ticks = _number(body.get("cost")), _number(body.get("cost_in_usd_ticks"))
    return Usage(
        count(body.get("prompt_tokens")),
        count(body.get("completion_tokens")),
        count(body.get("prompt_cache_hit_tokens") if cached is None else cached),
        count(_inner(body, "completion_tokens_details", "reasoning_tokens")),
        ticks / TICKS_PER_USD if cost is None and ticks is not None else cost,
    )


def _inner(body: Json, name: str, field: str) -> object:
    details = body.get(name)
    return details.get(field) if isinstance(details, dict) else None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
