"""A chat completion's message as blocks of Anthropic's."""

from __future__ import annotations

from typing import Any

import orjson

from orchestrator.content import joined
from orchestrator.dialects.reading import too_deep
from orchestrator.dialects.signatures import kept, signatures
from orchestrator.types import Json


def redacted(data: Any) -> Json:
    """A block that a client gives back, and shows nobody."""
    return {"type": "redacted_thinking", "data": data}


def content_of(message: Json) -> list[Json]:
    """A chat message as blocks: thinking, text, calls of tools."""
    blocks: list[Json] = []
    details = message.get("reasoning_details")
    for detail in details if isinstance(details, list) else []:
        if isinstance(detail, dict) and detail.get("type") == "reasoning.text":
            signature = kept(detail) or ""
            blocks.append({"type": "thinking", "thinking": detail.get("text") or "", "signature": signature})
        elif isinstance(detail, dict) and detail.get("type") == "reasoning.encrypted":
            blocks.append(redacted(kept(detail)))
    thought = message.get("reasoning_content") or message.get("reasoning")
    if isinstance(thought, str) and thought and not any(block["type"] == "thinking" for block in blocks):
        # OpenAI's models by way of OpenRouter: a summary for people, and beside it the thoughts for the model alone.
        blocks.insert(0, {"type": "thinking", "thinking": thought, "signature": ""})
    blocks += [redacted(signature.sealed()) for signature in signatures(message)]
    text = message.get("content") or message.get("refusal")
    if isinstance(text, list):
        text = joined(text)
    if isinstance(text, str) and text:
        blocks.append({"type": "text", "text": text})
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else []:
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            blocks += [redacted(signature.sealed()) for signature in signatures(call, call.get("id"))]
            said = arguments_of(function.get("arguments"))
            blocks.append({"type": "tool_use", "id": call.get("id"), "name": function.get("name"), "input": said})
    return blocks


def arguments_of(text: Any) -> Json:
    """The arguments of a call as an object. What a model wrote that is none is kept under `_raw`."""
    text = text or "{}"
    try:
        value = orjson.loads(text)
    except (orjson.JSONDecodeError, TypeError):
        return {"_raw": text}
    return value if isinstance(value, dict) and not too_deep(text.encode(), value) else {"_raw": text}
