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
        ({"cost": 0.25, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.5}}, Usage(cost_usd=0.75)),
        ({"cost": 0.01, "is_byok": False, "cost_details": {"upstream_inference_cost": 0.2}}, Usage(cost_usd=0.01)),
        ({"cost": 0.01, "is_byok": True}, Usage(cost_usd=0.01)),
        ({"cost": -1}, Usage()),
        ({"cost": float("inf")}, Usage()),
        ({"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 30}, Usage(9, 21, 0, 19)),
        (
            {"completion_tokens": 2, "total_tokens": 5, "completion_tokens_details": {"reasoning_tokens": 3}},
            Usage(0, 5, 0, 3),
        ),
        ({"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 3}, Usage(9, 2)),
        (
            {"prompt_tokens": 9, "prompt_tokens_details": {"cache_write_tokens": 4, "cache_write_1h_tokens": 3}},
            Usage(9, 0, 0, 0, None, 4, 3),
        ),
        ({"cost_in_usd_ticks": 37_756_000}, Usage(cost_usd=0.0037756)),
        ({"cost": True, "prompt_tokens": "nine", "completion_tokens": -1, "prompt_tokens_details": 3}, Usage()),
        ({"prompt_tokens": "9", "completion_tokens": 2.0, "total_tokens": "11"}, Usage(9, 2)),
        ({"prompt_tokens": "1.5", "completion_tokens": "-2", "total_tokens": "9" * 30}, Usage()),
        ({"prompt_tokens": 2**63, "completion_tokens": 1e300}, Usage()),
        (None, None),
        ([], None),
    ],
)
def test_what_was_used(body: Any, expected: Usage | None) -> None:
    """OpenAI's counts; DeepSeek's hits of the cache; thoughts that are in the total alone; OpenRouter's and xAI's prices in
    US dollars, with what one's own key was charged."""
    assert expected == usage_of(body)
