"""Whole answers that go out as streams: nothing of them is lost on the way."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from orchestrator.asks import Answer
from orchestrator.dialects.anthropic import Anthropic
from orchestrator.dialects.whole import as_chunks
from orchestrator.types import Json, Reply, Request
from orchestrator.wire.messages import MessagesSpeaker

SEARCH = {"type": "server_tool_use", "id": "srv_1", "name": "web_search", "input": {"query": "capital of Norway"}}
FOUND = {
    "type": "web_search_tool_result",
    "tool_use_id": "srv_1",
    "content": [{"type": "web_search_result", "url": "u"}],
}
CITED = {
    "type": "text",
    "text": "Oslo.",
    "citations": [{"type": "web_search_result_location", "url": "u", "cited_text": "Oslo"}],
}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": 1}}
THOUGHT = {"type": "thinking", "thinking": "hm", "signature": "s"}
BLOCKS = [
    THOUGHT,
    {"type": "redacted_thinking", "data": "x"},
    {"type": "text", "text": "Let me see."},
    SEARCH,
    FOUND,
    CITED,
    CALL,
]


def whole(blocks: list[Any]) -> Json:
    body = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "content": blocks, "new": 1,
            "stop_reason": "tool_use", "stop_sequence": None, "usage": {"input_tokens": 9, "output_tokens": 2}}  # fmt: skip
    reply = Anthropic().decode(Request({}), "m", 200, {}, orjson.dumps(body))
    assert isinstance(reply, Reply)
    return reply.body


def events(body: Json) -> list[Json]:
    """What a caller of /v1/messages reads."""
    speaker = MessagesSpeaker()
    chunks, last = as_chunks(body)
    answer = Answer(Reply(body, "claude"), {}, "first", "p")
    said = speaker.chunks(chunks) + speaker.end(last, body["usage"], answer)
    return [orjson.loads(line[6:]) for line in said.split(b"\n") if line.startswith(b"data: ")]


def assembled(said: list[Json]) -> list[Json]:
    """The blocks as Anthropic's clients put them together."""
    blocks: list[Json] = []
    for event in said:
        if event["type"] == "content_block_start":
            assert event["index"] == len(blocks)
            blocks.append(dict(event["content_block"]))
        if event["type"] == "content_block_delta":
            block, delta = blocks[event["index"]], event["delta"]
            match delta["type"]:
                case "text_delta":
                    block["text"] += delta["text"]
                case "thinking_delta":
                    block["thinking"] += delta["thinking"]
                case "signature_delta":
                    block["signature"] = delta["signature"]
                case "citations_delta":
                    block.setdefault("citations", []).append(delta["citation"])
                case "input_json_delta":
                    block["input"] = orjson.loads(delta["partial_json"])
    return blocks


@pytest.mark.parametrize(
    "blocks", [BLOCKS, [SEARCH, FOUND], [CITED], [{"type": "text", "text": "Oslo"}], [CALL, SEARCH]]
)
def test_blocks_reach_a_caller_of_messages(blocks: list[Any]) -> None:
    """Server tools, citations and signatures included, in their order."""
    said = events(whole(blocks))
    assert blocks == assembled(said)
    assert ["message_start", "message_delta", "message_stop"] == [
        event["type"] for event in said if event["type"].startswith("message")
    ]
    assert "tool_use" == said[-2]["delta"]["stop_reason"]


def test_a_caller_of_chat_reads_the_same_text_and_the_same_answer_is_not_changed() -> None:
    """One head for all chunks, a role once; what is Anthropic's own stands beside, and the end says the rest."""
    body = whole(BLOCKS)
    before = orjson.dumps(body)
    raw, last = as_chunks(body)
    assert before == orjson.dumps(body)
    chunks = [orjson.loads(data) for data in raw]
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert "Let me see.Oslo." == "".join(delta.get("content", "") for delta in deltas)
    assert 1 == sum("role" in delta for delta in deltas)
    assert body["choices"][0]["message"]["tool_calls"] == [
        {name: value for name, value in call.items() if name != "index"}
        for delta in deltas
        for call in delta.get("tool_calls", [])
    ]
    details = [detail for delta in deltas for detail in delta.get("reasoning_details", [])]
    assert body["choices"][0]["message"]["reasoning_details"] == details
    heads = {(chunk["id"], chunk["created"], chunk["model"], chunk["new"]) for chunk in [*chunks, last]}
    assert {("msg_1", body["created"], "claude", 1)} == heads
    assert {"stop_reason", "stop_sequence", "usage"} == set(last["anthropic"])
    assert "tool_calls" == last["choices"][0]["finish_reason"]


def test_what_a_gateway_says_is_anthropics_is_taken_with_care() -> None:
    """An `anthropic` that is no object, or blocks that are none."""
    message = {"role": "assistant", "content": "Oslo"}
    own: Any
    for own in ("x", {"content": "x"}, {"content": []}, {"content": [3, {}]}):
        (chunk,), last = as_chunks({"id": "c", "anthropic": own, "choices": [{"index": 0, "message": message}]})
        assert [message] == [choice["delta"] for choice in orjson.loads(chunk)["choices"]]
        assert own == last["anthropic"]


def test_calls_stay_apart_whatever_indices_they_came_with() -> None:
    """An index of the upstream's, which some give to all of them, does not count."""
    calls = [{"id": name, "index": 0, "type": "function", "function": {"name": name}} for name in ("a", "b")]
    message = {"role": "assistant", "content": None, "tool_calls": calls}
    (chunk,), _ = as_chunks({"choices": [{"index": 0, "message": message}]})
    assert [{**calls[0], "index": 0}, {**calls[1], "index": 1}] == orjson.loads(chunk)["choices"][0]["delta"][
        "tool_calls"
    ]
