"""Results of tools as messages of a chat completion, which hold text alone there
(platform.openai.com/docs/api-reference/chat/create)."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.types import Json


def result_of(call: str, parts: Sequence[Json]) -> tuple[Json, list[Json]]:
    """The message of a result that is made of content parts; and those that are no text, such as a screenshot: they belong
    into a user's message behind the results."""
    text = "\n\n".join(part["text"] for part in parts if part.get("type") == "text")
    message = {"role": "tool", "tool_call_id": call, "content": text}
    return message, [part for part in parts if part.get("type") != "text"]
