"""What an answer in OpenAI's shape used: OpenAI's counts, and those that others give in their own fields."""

from __future__ import annotations

from math import inf

from orchestrator.dialects.messages import count
from orchestrator.types import Json, Usage

TICKS_PER_USD = 1e10
"""docs.x.ai/developers/cost-tracking (2026-11-25)."""


def usage_of(body: object) -> Usage | None:
    """The `usage` object of an answer; None where there is none worth the name.

    What was read from a cache is DeepSeek's `prompt_cache_hit_tokens` where OpenAI's field is missing
    (api-docs.deepseek.com/guides/kv_cache). What the total has beyond input and output are thoughts that Gemini and xAI leave
    out of `completion_tokens`, and bill as output (ai.google.dev/gemini-api/docs/thinking#pricing). The price is OpenRouter's
    `cost` (openrouter.ai/docs/use-cases/usage-accounting), with what the account's own key was charged beside it, or xAI's
    `cost_in_usd_ticks`. All 2026-11-25.
    """
    if not isinstance(body, dict):
        return None
    cached = _inner(body, "prompt_tokens_details", "cached_tokens")
    prompt, completion = count(body.get("prompt_tokens")), count(body.get("completion_tokens"))
    thoughts = count(_inner(body, "completion_tokens_details", "reasoning_tokens"))
    beyond = max(0, count(body.get("total_tokens")) - prompt - completion)
    return Usage(
        prompt,
        completion + beyond,
        count(body.get("prompt_cache_hit_tokens") if cached is None else cached),
        max(thoughts, beyond),
        _cost(body),
        count(_inner(body, "prompt_tokens_details", "cache_write_tokens")),
        count(_inner(body, "prompt_tokens_details", "cache_write_1h_tokens")),
    )


def _cost(body: Json) -> float | None:
    cost, ticks = _number(body.get("cost")), _number(body.get("cost_in_usd_ticks"))
    if cost is not None and body.get("is_byok") is True:
        return cost + (_number(_inner(body, "cost_details", "upstream_inference_cost")) or 0.0)
    return ticks / TICKS_PER_USD if cost is None and ticks is not None else cost


def _inner(body: Json, name: str, field: str) -> object:
    details = body.get(name)
    return details.get(field) if isinstance(details, dict) else None


def _number(value: object) -> float | None:
    number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
    return None if number is None or not 0 <= number < inf else number
