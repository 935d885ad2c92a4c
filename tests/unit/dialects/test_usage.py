"""What was used, whoever says it."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.dialects.usage import usage_of
from orchestrator.types import Usage


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"prompt_tokens": 9, "completion_tokens": 2}, Usage(9, 2)),
        ({"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 4}}, Usage(9, 0, 4)),
        ({"prompt_tokens": 9, "prompt_cache_hit_tokens": 4, "prompt_cache_miss_tokens": 5}, Usage(9, 0, 4)),
        ({"prompt_cache_hit_tokens": 4, "prompt_tokens_details": {"cached_tokens": 3}}, Usage(0, 0, 3)),
        ({"completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 4}}, Usage(0, 9, 0, 4)),
        ({"cost": 0.00014}, Usage(cost_usd=0.00014)),
        ({"cost": 0}, Usage(cost_usd=0.0)),
        ({"cost_in_usd_ticks": 37_756_000}, Usage(cost_usd=0.0037756)),
        ({"cost": True, "prompt_tokens": "9", "completion_tokens": -1, "prompt_tokens_details": 3}, Usage()),
        (None, None),
        ([], None),
    ],
)
def test_what_was_used(body: Any, expected: Usage | None) -> None:
    """OpenAI's counts; DeepSeek's hits of the cache; OpenRouter's and xAI's prices in US dollars."""
    assert expected == usage_of(body)
