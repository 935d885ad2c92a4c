"""Chat completions as messages, where providers differ in what they say."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from orchestrator.asks import Answer
from orchestrator.dialects.openai import as_chunks
from orchestrator.types import Json, Reply
from orchestrator.wire.messages import MessagesSpeaker

CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def chat(message: Json, reason: Any) -> Json:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": reason}
    return {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}


def both(body: Json) -> tuple[Json, list[Json]]:
    """The message, whole and as events."""
    answer = Answer(Reply(body, "m"), {}, "first", "p")
    chunks, last = as_chunks(body)
    speaker = MessagesSpeaker()
    said = speaker.chunks(chunks) + speaker.end(last, None, answer)
    events = [orjson.loads(line[6:]) for line in said.split(b"\n") if line.startswith(b"data: ")]
    return MessagesSpeaker().whole(body, answer), events


@pytest.mark.parametrize(
    ("message", "reason", "expected"),
    [
        ({"content": None, "tool_calls": [CALL]}, "stop", "tool_use"),
        ({"content": None, "tool_calls": [CALL]}, None, "tool_use"),
        ({"content": None, "tool_calls": [CALL]}, "tool_calls", "tool_use"),
        ({"content": None, "tool_calls": [CALL]}, "length", "max_tokens"),
        ({"content": "a"}, "stop", "end_turn"),
        ({"content": "a"}, "something new", "end_turn"),
        ({"content": "a"}, ["stop"], "end_turn"),
    ],
)
def test_a_call_is_what_it_stopped_for(message: Json, reason: Any, expected: str) -> None:
    """Whatever its provider calls that, unless it was cut off."""
    whole, events = both(chat(message, reason))
    (delta,) = [event["delta"] for event in events if event["type"] == "message_delta"]
    assert (expected, expected) == (whole["stop_reason"], delta["stop_reason"])


def test_a_summary_beside_encrypted_thoughts_is_said() -> None:
    """Of OpenAI's models by way of OpenRouter."""
    details = [{"type": "reasoning.summary", "summary": "hm"}, {"type": "reasoning.encrypted", "data": "x"}]
    whole, events = both(chat({"content": "a", "reasoning": "hm", "reasoning_details": details}, "stop"))
    kinds = ["thinking", "redacted_thinking", "text"]
    assert kinds == [block["type"] for block in whole["content"]]
    assert kinds == [event["content_block"]["type"] for event in events if event["type"] == "content_block_start"]
    assert "hm" == whole["content"][0]["thinking"]


def test_arguments_that_are_nested_too_deeply_to_be_written_stay_a_text() -> None:
    """As those that are no object do."""
    deep = '{"a":' + "[" * 300 + "]" * 300 + "}"
    for arguments in (deep, "{", "[1]"):
        call = {**CALL, "function": {"name": "f", "arguments": arguments}}
        whole, _ = both(chat({"content": None, "tool_calls": [call]}, "stop"))
        assert {"_raw": arguments} == orjson.loads(orjson.dumps(whole))["content"][0]["input"]
