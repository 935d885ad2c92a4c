"""Anthropic's stream of events as chunks of a chat completion (docs.anthropic.com/en/docs/build-with-claude/streaming).

A text block is `content`, a thinking block `reasoning_content` (and, when it ends, one entry of `reasoning_details` with its
signature), a tool_use block a tool call. Events of any other block, and citations, travel as they came, in a chunk's
`anthropic.event`. The end is `message_stop`, or a stop_reason that has come; anything else is a cut.
"""

from __future__ import annotations

import time
from typing import Any

import orjson

from orchestrator.dialects.events import Decode, JsonEvents
from orchestrator.dialects.messages import FINISH, usage_body
from orchestrator.dialects.usage import usage_of
from orchestrator.types import Chunk, Finish, Json, Piece, Usage


class EventDecoder(JsonEvents):
    """The decoder (`orchestrator.dialects.StreamDecoder`)."""

    def __init__(self, model: str, decode: Decode | None = None) -> None:
        super().__init__(model, decode)
        self._head: Json = {}
        self._blocks: dict[int, Json] = {}
        """By index: the blocks that have not ended, with what has come of their input or thinking so far."""
        self._tools = 0
        self._usage: Json = {}
        self._stop: Json = {}
        """stop_reason and stop_sequence, once they have come."""

    @property
    def holding(self) -> bool:
        """See `StreamDecoder`: only `message_stop` is missing."""
        return bool(self._stop) and not self._ended

    @property
    def used(self) -> Usage | None:
        """See `StreamDecoder.used`: its first event has the input, which is billed whatever follows."""
        return usage_of(usage_body(self._usage)) if self._usage else None

    def _event(self, event: Json, _raw: bytes) -> Piece | None:
        match event.get("type"):
            case "message_start":
                return self._start(_object(event.get("message")))
            case "content_block_start":
                return self._block_start(event)
            case "content_block_delta":
                return self._block_delta(event)
            case "content_block_stop":
                return self._block_stop(event)
            case "message_delta":
                self._count(event.get("usage"))
                delta = _object(event.get("delta"))
                if delta.get("stop_reason"):
                    self.opened = True
                    self._stop = delta
                return None
            case "message_stop":
                return self._done()
        return None  # a ping, or something new

    def _start(self, message: Json) -> Piece:
        if isinstance(model := message.get("model"), str) and model:
            self.model = model
        self._head = {
            "id": message.get("id") or "chatcmpl-0",
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": self.model,
        }
        self._count(message.get("usage"))
        # What has been read is known here already; the chat shape says it at the end alone.
        known = {"anthropic": {"usage": dict(self._usage)}} if self._usage else {}
        return self._chunk({"role": "assistant", "content": ""}, says=False, **known)

    def _block_start(self, event: Json) -> Piece | None:
        index, block = event.get("index"), _object(event.get("content_block"))
        if not isinstance(index, int):
            return None
        self._blocks[index] = {**block, "said": ""}
        match block.get("type"):
            case "text":
                return self._chunk({"content": block["text"]}) if block.get("text") else None
            case "thinking":
                return None
            case "redacted_thinking":
                detail = {"type": "reasoning.encrypted", "data": block.get("data"), "index": index}
                return self._chunk({"reasoning_details": [detail]})
            case "tool_use":
                self._blocks[index]["call"] = self._tools
                function = {"name": block.get("name"), "arguments": ""}
                call = {"index": self._tools, "id": block.get("id"), "type": "function", "function": function}
                self._tools += 1
                return self._chunk({"tool_calls": [call]})
        return self._beside(event)

    def _block_delta(self, event: Json) -> Piece | None:
        index = event.get("index")
        block, delta = self._blocks.get(index) if isinstance(index, int) else None, _object(event.get("delta"))
        if block is None:
            return None
        match delta.get("type"):
            case "text_delta" if block.get("type") == "text":
                return self._chunk({"content": delta.get("text") or ""})
            case "thinking_delta":
                thought = str(delta.get("thinking") or "")
                block["said"] += thought
                return self._chunk({"reasoning_content": thought})
            case "signature_delta":
                block["signature"] = delta.get("signature")
                return None
            case "input_json_delta" if "call" in block:
                part = str(delta.get("partial_json") or "")
                block["said"] += part
                return self._arguments(block, part) if part else None
        return self._beside(event)

    def _block_stop(self, event: Json) -> Piece | None:
        index = event.get("index")
        block = self._blocks.pop(index, None) if isinstance(index, int) else None
        if block is None:
            return None
        match block.get("type"):
            case "text":
                return None
            case "thinking":
                text, signature = str(block.get("thinking") or "") + block["said"], block.get("signature")
                detail = {"type": "reasoning.text", "text": text, "signature": signature, "index": index}
                return self._chunk({"reasoning_details": [detail]})
            case "redacted_thinking":
                return None
            case "tool_use":
                # One that has no arguments comes without deltas; clients read an object.
                return (
                    None if block["said"] else self._arguments(block, orjson.dumps(block.get("input") or {}).decode())
                )
        return self._beside(event)

    def _arguments(self, block: Json, part: str) -> Piece:
        return self._chunk({"tool_calls": [{"index": block["call"], "function": {"arguments": part}}]})

    def _beside(self, event: Json) -> Piece:
        """What the chat shape has no place for."""
        choice = {"index": 0, "delta": {}, "finish_reason": None}
        self.opened = True
        return Chunk(orjson.dumps({**self._named(), "choices": [choice], "anthropic": {"event": event}}))

    def _chunk(self, delta: Json, *, says: bool = True, **beside: Any) -> Piece:
        if says:
            self.opened = True
            self.deltas += 1
        choice = {"index": 0, "delta": delta, "finish_reason": None}
        return Chunk(orjson.dumps({**self._named(), "choices": [choice], **beside}))

    def _named(self) -> Json:
        if not self._head:
            self._start({})  # a stream that forgot its message_start
        return self._head

    def _count(self, usage: Any) -> None:
        """The last word on each count: later events repeat or complete what earlier ones said."""
        self._usage |= {name: value for name, value in _object(usage).items() if value is not None}

    def _finish(self) -> Finish:
        self._ended = True
        usage = usage_body(self._usage)
        reason = FINISH.get(str(self._stop.get("stop_reason")), "stop")
        last = {
            **self._named(),
            "choices": [{"index": 0, "delta": {}, "finish_reason": reason}],
            "anthropic": {**self._stop, "usage": self._usage},
        }
        return Finish(last, self.model, usage_of(usage), usage)

    def _complete(self) -> bool:
        return bool(self._stop)


def _object(value: Any) -> Json:
    return value if isinstance(value, dict) else {}
