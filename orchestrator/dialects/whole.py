"""A whole chat completion as the chunks of a stream."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from orchestrator.dialects.messages import call_of, detail_of
from orchestrator.types import Json


def as_chunks(body: Json) -> tuple[list[bytes], Json]:
    """A whole chat completion as the chunks of a stream: those with content as JSON, and the one that finishes it.

    The blocks of an answer of Anthropic's for which the chat shape has no place travel as they do in its own stream: as
    events, in a chunk's `anthropic` (`orchestrator.dialects.anthropic_stream`).
    """
    head = {name: value for name, value in body.items() if name not in ("choices", "usage", "object")}
    head["object"] = "chat.completion.chunk"
    blocks: list[Json] | None = None
    own = head.get("anthropic")
    if isinstance(own, dict) and _are_blocks(own.get("content")):
        head["anthropic"] = {name: value for name, value in own.items() if name != "content"}
        blocks = own["content"]
    chunks: list[bytes] = []
    last: list[Json] = []
    for position, choice in enumerate(body["choices"]):
        index = choice.get("index")
        index = index if isinstance(index, int) else position
        rest = {name: value for name, value in choice.items() if name not in ("message", "finish_reason", "index")}
        for beside, delta in _deltas(choice["message"], blocks if position == 0 else None):
            said = {"index": index, "delta": delta, "finish_reason": None, **rest}
            chunks.append(orjson.dumps({**head, **beside, "choices": [said]}))
        last.append({"index": index, "delta": {}, "finish_reason": choice.get("finish_reason") or "stop"})
    return chunks, {**head, "choices": last}


def _are_blocks(content: object) -> bool:
    return isinstance(content, list) and bool(content) and all(isinstance(block, dict) for block in content)


def _deltas(message: Json, blocks: list[Json] | None) -> Iterator[tuple[Json, Json]]:
    """The deltas that make a message, each after what its chunk says beside it."""
    if blocks is not None:
        yield {}, {"role": "assistant", "content": ""}
        yield from _of_blocks(blocks)
        return
    delta = {"role": "assistant", **{name: value for name, value in message.items() if value is not None}}
    if isinstance(delta.get("tool_calls"), list):
        calls = [call for call in delta["tool_calls"] if isinstance(call, dict)]
        delta["tool_calls"] = [{**call, "index": i} for i, call in enumerate(calls)]
    yield {}, delta


def _of_blocks(blocks: list[Json]) -> Iterator[tuple[Json, Json]]:
    calls = 0
    for index, block in enumerate(blocks):
        match block.get("type"):
            case "text":
                yield {}, {"content": block.get("text") or ""}
                citations = block.get("citations")
                for citation in citations if isinstance(citations, list) else ():
                    yield _event(index, "delta", delta={"type": "citations_delta", "citation": citation}), {}
            case "thinking":
                yield {}, {"reasoning_content": block.get("thinking") or ""}
                yield {}, {"reasoning_details": [detail_of(block, index)]}
            case "redacted_thinking":
                yield {}, {"reasoning_details": [detail_of(block, index)]}
            case "tool_use":
                yield {}, {"tool_calls": [{"index": calls, **call_of(block)}]}
                calls += 1
            case _:
                yield _event(index, "start", content_block=block), {}
                yield _event(index, "stop"), {}


def _event(index: int, what: str, **more: Any) -> Json:
    return {"anthropic": {"event": {"type": f"content_block_{what}", "index": index, **more}}}
