"""What both sides of Anthropic's shape share: reasons to stop, and counts of tokens."""

from __future__ import annotations

from typing import Any

import orjson

from orchestrator.types import Json

FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
"""stop_reason -> finish_reason."""
STOP = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}
"""finish_reason -> stop_reason."""


def usage_body(usage: Any) -> Json:
    """Anthropic's usage as OpenAI's, whose input counts what was read from and written to the cache."""
    given = usage if isinstance(usage, dict) else {}
    read, written = count(given.get("cache_read_input_tokens")), count(given.get("cache_creation_input_tokens"))
    prompt, completion = count(given.get("input_tokens")) + read + written, count(given.get("output_tokens"))
    kept = given.get("cache_creation")
    an_hour = count(kept.get("ephemeral_1h_input_tokens")) if isinstance(kept, dict) else 0
    details = given.get("output_tokens_details")
    reasoning = count(details.get("thinking_tokens")) if isinstance(details, dict) else 0
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {
            "cached_tokens": read,
            "cache_write_tokens": written,
            **({"cache_write_1h_tokens": an_hour} if an_hour else {}),
        },
        **({"completion_tokens_details": {"reasoning_tokens": reasoning}} if reasoning else {}),
    }


MOST_TOKENS = 1_000_000_000
"""What one call may be believed to have used. Beyond it a provider has said nonsense, and sums would leave 64 bits."""


def count(value: Any) -> int:
    """A count of tokens; 0 for what is none."""
    number = whole_number(value)
    return number if 0 < number <= MOST_TOKENS else 0


def whole_number(value: Any) -> int:
    """A whole number; 0 for what is none. Some write it as a text, as protobuf's JSON does any number of 64 bits
    (protobuf.dev/programming-guides/json), or with decimals."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        return int(value)
    if isinstance(value, float):
        return int(value) if abs(value) < 2**53 else 0
    return value if isinstance(value, int) else 0


def detail_of(block: Json, index: int) -> Json:
    """A block of thinking as an entry of `reasoning_details`."""
    if block.get("type") == "redacted_thinking":
        return {"type": "reasoning.encrypted", "data": block.get("data"), "index": index}
    text = str(block.get("thinking") or "")
    return {"type": "reasoning.text", "text": text, "signature": block.get("signature"), "index": index}


def call_of(block: Json) -> Json:
    """A tool_use block as a tool call."""
    function = {"name": block.get("name"), "arguments": orjson.dumps(block.get("input") or {}).decode()}
    return {"id": block.get("id"), "type": "function", "function": function}
