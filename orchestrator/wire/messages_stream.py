"""Chunks of a chat completion as Anthropic's events: blocks that begin, grow and end, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from orchestrator.asks import Answer
from orchestrator.dialects.messages import STOP, count
from orchestrator.dialects.signatures import kept, signatures
from orchestrator.types import Json
from orchestrator.wire.messages_blocks import redacted
from orchestrator.wire.shape import sse

_THINKING: Json = {"type": "thinking", "thinking": "", "signature": ""}
"""The block as it begins."""


def usage_of_chat(usage: Any) -> Json:
    """A chat completion's usage as Anthropic's: input does not count what was read from a cache."""
    given = usage if isinstance(usage, dict) else {}
    details = given.get("prompt_tokens_details")
    details = details if isinstance(details, dict) else {}
    cached, written = count(details.get("cached_tokens")), count(details.get("cache_write_tokens"))
    return {
        "input_tokens": max(0, count(given.get("prompt_tokens")) - cached - written),
        "output_tokens": count(given.get("completion_tokens")),
        "cache_read_input_tokens": cached,
        "cache_creation_input_tokens": written,
    }


def stop_of(reason: Any, *, called: bool) -> str:
    """A finish_reason as a stop_reason. Where there are calls, that is what it stopped for, whatever it says: Gemini and
    Ollama call it `stop`, as OpenAI does where a function was asked for by name (github.com/ollama/ollama, pull request 7963;
    github.com/microsoft/autogen, issue 4878). Anthropic's clients look here for whether to call."""
    known = STOP.get(reason, "end_turn") if isinstance(reason, str) else "end_turn"
    return "tool_use" if called and known == "end_turn" else known


class MessageEvents:
    """The streamed half of a `Speaker`."""

    def __init__(self) -> None:
        self.estimate_tokens = 0
        """How long the request is thought to be."""
        self._begun = False
        self._index = -1
        """Of the block that is open, or was last."""
        self._open: str | None = None
        """What the open block is: text, thinking, or a tool call's index."""
        self._tools: dict[str, int] = {}
        """The block of each tool call."""
        self._calls: dict[str, Any] = {}
        """The identity of each."""
        self._signed: list[str] = []
        """Signatures that have come, sealed, and are not told yet."""
        self._texted = False
        self._beside: dict[int, int] = {}
        """Blocks that Anthropic gave and the chat shape has no place for: theirs, and ours."""

    def chunks(self, chunks: Sequence[bytes]) -> bytes:
        """See `Speaker.chunks`."""
        parts: list[bytes] = []
        for data in chunks:
            chunk = orjson.loads(data)
            if not self._begun:
                parts.append(self._start(chunk))
            beside = chunk.get("anthropic")
            if isinstance(beside, dict) and isinstance(beside.get("event"), dict):
                parts += self._native(beside["event"])
            for choice in chunk["choices"]:
                if choice.get("index", 0) == 0:
                    parts += self._delta(choice["delta"])
        return b"".join(parts)

    def end(self, last: Json, usage: Any, answer: Answer) -> bytes:
        """See `Speaker.end`."""
        parts = [] if self._begun else [self._start(last)]
        # One that came behind its call is told behind it. Where there are no calls it does not have to come back, and clients
        # look for the answer in the last block.
        if self._tools:
            parts += self._sign()
        parts += self._close()
        own = last.get("anthropic") if isinstance(last.get("anthropic"), dict) else {}
        assert own is not None
        reason = own.get("stop_reason") or stop_of(last["choices"][0].get("finish_reason"), called=bool(self._tools))
        delta = {"stop_reason": reason, "stop_sequence": own.get("stop_sequence")}
        said = {"type": "message_delta", "delta": delta, "usage": own.get("usage") or usage_of_chat(usage)}
        said |= {"provider": answer.provider, "orchestrator": answer.report}
        parts += [_event(said), _event({"type": "message_stop"})]
        return b"".join(parts)

    def failed(self, error: Json, report: Json | None) -> bytes:
        """See `Speaker.failed`."""
        kinds = {
            "invalid_request_error",
            "rate_limit_error",
            "timeout_error",
            "authentication_error",
            "permission_error",
        }
        kind = error.get("type") if error.get("type") in kinds else "api_error"
        inner = {"type": kind, "message": error.get("message"), "code": error.get("code")}
        return _event({"type": "error", "error": inner} | ({} if report is None else {"orchestrator": report}))

    def _start(self, chunk: Json) -> bytes:
        self._begun = True
        identity = str(chunk.get("id") or "0")
        own = chunk.get("anthropic")
        known = own.get("usage") if isinstance(own, dict) else None
        # Clients that fill their context (Claude Code, Cline) read here how full it is. Anthropic has counted by now; others
        # count at the end, which corrects the estimate.
        usage: Json = known if isinstance(known, dict) else {"input_tokens": self.estimate_tokens}
        message: Json = {
            "id": identity if identity.startswith("msg_") else f"msg_{identity}",
            "type": "message",
            "role": "assistant",
            "model": chunk.get("model"),
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {**usage, "output_tokens": 0},
        }
        return _event({"type": "message_start", "message": message})

    def _delta(self, delta: Json) -> list[bytes]:
        parts: list[bytes] = []
        thought = delta.get("reasoning_content") or delta.get("reasoning")
        if isinstance(thought, str) and thought:
            parts += self._within("thinking", _THINKING)
            parts.append(self._grow({"type": "thinking_delta", "thinking": thought}))
        details = delta.get("reasoning_details")
        for detail in details if isinstance(details, list) else []:
            parts += self._detail(detail)
        self._signed += [signature.sealed() for signature in signatures(delta)]
        if not self._texted and not self._tools:
            parts += self._sign()
        text = delta.get("content") or delta.get("refusal")
        if isinstance(text, str) and text:
            self._texted = True
            parts += self._within("text", {"type": "text", "text": ""})
            parts.append(self._grow({"type": "text_delta", "text": text}))
        calls = delta.get("tool_calls")
        for call in calls if isinstance(calls, list) else []:
            if isinstance(call, dict):
                parts += self._call(call)
        return parts

    def _detail(self, detail: Any) -> list[bytes]:
        if not isinstance(detail, dict):
            return []
        if detail.get("type") == "reasoning.encrypted":
            self._signed.append(kept(detail))
            # Thoughts come before the calls that they led to; the block of a call that grows is not to be closed for them.
            return [] if self._tools else self._sign()
        if not detail.get("signature") or (self._open != "thinking" and detail.get("text")):
            return []
        # Claude signs thoughts that it does not show, too (`display: omitted`; docs.anthropic.com/en/docs/build-with-claude/
        # extended-thinking), and wants them back.
        return [*self._within("thinking", _THINKING), *self._close(str(kept(detail)))]

    def _sign(self) -> list[bytes]:
        """Tells what is signed and has not been told."""
        parts: list[bytes] = []
        for sealed in self._signed:
            parts += [*self._within(None, redacted(sealed)), *self._close()]
        self._signed.clear()
        return parts

    def _call(self, call: Json) -> list[bytes]:
        name = f"tool {call.get('index', 0)}"
        function = call.get("function")
        function = function if isinstance(function, dict) else {}
        parts: list[bytes] = []
        identity = self._calls.setdefault(name, call.get("id"))
        self._signed += [signature.sealed() for signature in signatures(call, identity)]
        if name not in self._tools:
            parts += self._sign()
            block: Json = {"type": "tool_use", "id": call.get("id"), "name": function.get("name"), "input": {}}
            parts += self._within(name, block)
            self._tools[name] = self._index
        if arguments := function.get("arguments"):
            # Arguments of calls that grow side by side go to the block of each, whichever was begun last.
            delta = {"type": "input_json_delta", "partial_json": arguments}
            parts.append(_event({"type": "content_block_delta", "index": self._tools[name], "delta": delta}))
        return parts

    def _native(self, event: Json) -> list[bytes]:
        """An event of Anthropic's own, by our count of blocks."""
        index = event.get("index")
        if not isinstance(index, int):
            return []
        if event.get("type") == "content_block_start":
            parts = self._within(f"beside {index}", event.get("content_block"))
            self._beside[index] = self._index
            return parts
        if event.get("type") == "content_block_stop":
            return self._close() if self._open == f"beside {index}" else []
        if index in self._beside or self._open == "text":
            return [_event({**event, "index": self._beside.get(index, self._index)})]
        return []

    def _within(self, name: str | None, block: Any) -> list[bytes]:
        """Opens a block of that name, unless it is open; whatever else is open is closed."""
        if name is not None and self._open == name:
            return []
        closed = self._close()
        self._index += 1
        self._open = name or "block"
        return [*closed, _event({"type": "content_block_start", "index": self._index, "content_block": block})]

    def _grow(self, delta: Json) -> bytes:
        return _event({"type": "content_block_delta", "index": self._index, "delta": delta})

    def _close(self, signature: str = "") -> list[bytes]:
        if self._open is None:
            return []
        # Thoughts end with a signature, also where a model has none: Claude Code has been seen to take nothing of an answer
        # without (github.com/routatic/proxy, issue 51).
        signed = self._open == "thinking"
        ended = [self._grow({"type": "signature_delta", "signature": signature})] if signed else []
        self._open = None
        return [*ended, _event({"type": "content_block_stop", "index": self._index})]


def _event(event: Json) -> bytes:
    return sse(event["type"].encode(), orjson.dumps(event))
