"""OpenAI's chat completions, as dozens of providers speak them (platform.openai.com/docs/api-reference/chat).

What needs no change is not touched: a chunk that keeps the rules is handed on as the bytes that came. Decoding costs
about 5 µs a chunk then, twice that where it must be written anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from orchestrator.config.settings import ModelOptions
from orchestrator.dialects.base import HttpCall
from orchestrator.dialects.events import JsonEvents
from orchestrator.dialects.failures import answer_of
from orchestrator.types import Chunk, Failure, FailureKind, Finish, Json, Piece, Reply, Request, Usage


def usage_of(body: object) -> Usage | None:
    """The `usage` object of an answer; None where there is none worth the name."""
    if not isinstance(body, dict):
        return None
    cost = body.get("cost")
    return Usage(
        _count(body.get("prompt_tokens")),
        _count(body.get("completion_tokens")),
        _count(_inner(body, "prompt_tokens_details", "cached_tokens")),
        _count(_inner(body, "completion_tokens_details", "reasoning_tokens")),
        float(cost) if isinstance(cost, int | float) and not isinstance(cost, bool) else None,
    )


def _inner(body: Json, name: str, field: str) -> object:
    details = body.get(name)
    return details.get(field) if isinstance(details, dict) else None


def _count(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0


class OpenAI:
    """The dialect. Stateless; one serves all pools."""

    models_path = "/models"
    headers: Mapping[str, str] = {}

    def encode(self, request: Request, model: str, _options: ModelOptions) -> HttpCall:
        """See `Dialect.encode`. A stream is always asked for its usage, which is what it costs."""
        body = {**request.body, "model": model}
        body.pop("anthropic", None)  # what another dialect alone has a place for
        if request.operation == "embeddings":
            return HttpCall("/embeddings", {"content-type": "application/json"}, orjson.dumps(body))
        if request.stream:
            body["stream"] = True
            asked = body.get("stream_options")
            body["stream_options"] = {**(asked if isinstance(asked, dict) else {}), "include_usage": True}
        return HttpCall("/chat/completions", {"content-type": "application/json"}, orjson.dumps(body))

    def decode(
        self, request: Request, model: str, status: int, headers: Mapping[str, str], content: bytes
    ) -> Reply | Failure:
        """See `Dialect.decode`."""
        body = answer_of(status, headers, content)
        if isinstance(body, Failure):
            return body
        if request.operation == "embeddings":
            return _embeddings(body, model)
        choices = body.get("choices")
        if not isinstance(choices, list) or not choices or not all(_is_choice(choice) for choice in choices):
            return Failure(FailureKind.BAD_ANSWER, "HTTP 200 without choices", status=200)
        return Reply(body, _text(body.get("model")) or model, usage_of(body.get("usage")))

    def decoder(self, request: Request, model: str, content_type: str) -> ChunkDecoder | WholeDecoder:
        """See `Dialect.decoder`. Some servers answer a streamed request with a whole body: that is decoded as such."""
        if content_type.startswith("application/json"):
            return WholeDecoder(self, request, model)
        choices = request.body.get("n")
        return ChunkDecoder(model, choices if isinstance(choices, int) else 1)

    def decode_models(self, content: bytes) -> tuple[str, ...]:
        """See `Dialect.decode_models`."""
        try:
            data = orjson.loads(content)
            # Most wrap the list as OpenAI does; Together gives it bare.
            rows = data if isinstance(data, list) else data.get("data")
            return tuple(row["id"] for row in rows if isinstance(row["id"], str))
        except (orjson.JSONDecodeError, AttributeError, TypeError, KeyError):
            return ()


def _embeddings(body: Json, model: str) -> Reply | Failure:
    data = body.get("data")
    if (
        not isinstance(data, list)
        or not data
        or not all(isinstance(row, dict) and row.get("embedding") for row in data)
    ):
        return Failure(FailureKind.BAD_ANSWER, "HTTP 200 without embeddings", status=200)
    return Reply(body, _text(body.get("model")) or model, usage_of(body.get("usage")))


def _is_choice(choice: object) -> bool:
    return isinstance(choice, dict) and isinstance(choice.get("message"), dict)


class ChunkDecoder(JsonEvents):
    """The decoder of a stream of chunks. Guarantees contract §3's rules of SSE for what it hands on."""

    def __init__(self, model: str, choices: int) -> None:
        super().__init__(model)
        self.holding = False
        self._choices = choices
        self._head: Json | None = None
        """id, object, created and model of the first chunk: those of all."""
        self._roles: set[int] = set()
        self._finished: dict[int, Any] = {}
        self._tools: dict[int, dict[int, str | None]] = {}
        """By choice: the tool calls that have begun, by index, with their identities."""
        self._last: Json | None = None
        self._usage: Json | None = None

    def _event(self, chunk: Json, raw: bytes) -> Piece | None:
        """One chunk: handed on as it is, rewritten, held back or swallowed."""
        changed = self._align(chunk) or b"\n" in raw or b"\r" in raw
        if "usage" in chunk:
            usage = chunk.pop("usage")
            changed = True
            if isinstance(usage, dict):
                self._usage = usage
        choices = chunk.get("choices")
        if not isinstance(choices, list) or not choices:
            return None
        if not all(isinstance(choice, dict) for choice in choices):
            chunk["choices"] = choices = [choice for choice in choices if isinstance(choice, dict)]
            changed = True
        finishes = False
        for choice in choices:
            changed |= self._choice(choice)
            finishes |= choice.get("finish_reason") is not None
        if finishes and len(self._finished) >= self._choices:
            return self._hold(chunk)
        if not changed:
            return Chunk(raw)
        return Chunk(orjson.dumps(chunk)) if any(map(_says_something, choices)) else None

    def _align(self, chunk: Json) -> bool:
        """Gives a chunk the head of the first one. Says whether that changed anything."""
        if self._head is None:
            self._head = {
                "id": chunk.get("id") or "chatcmpl-0",
                "object": "chat.completion.chunk",
                "created": chunk.get("created") or 0,
                "model": _text(chunk.get("model")) or self.model,
            }
            self.model = self._head["model"]
        changed = False
        for name, value in self._head.items():
            if chunk.get(name) != value:
                chunk[name] = value
                changed = True
        return changed

    def _choice(self, choice: Json) -> bool:
        """Puts one choice in order. Says whether that changed anything."""
        changed = False
        index = choice.get("index")
        if not isinstance(index, int):
            index = choice["index"] = 0
            changed = True
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            delta = choice["delta"] = {}
            changed = True
        if index not in self._roles:
            self._roles.add(index)
            if not delta.get("role"):
                choice["delta"] = delta = {"role": "assistant", **{k: v for k, v in delta.items() if k != "role"}}
                changed = True
        elif "role" in delta:
            del delta["role"]
            changed = True
        calls = delta.get("tool_calls")
        if isinstance(calls, list) and calls:
            changed |= self._tool_calls(self._tools.setdefault(index, {}), calls)
        if any(value for name, value in delta.items() if name != "role"):
            self.opened = True
            self.deltas += 1
        if (reason := choice.get("finish_reason")) is not None:
            self.opened = True
            if index in self._finished:
                choice["finish_reason"] = None
                changed = True
            else:
                self._finished[index] = reason
        return changed

    @staticmethod
    def _tool_calls(begun: dict[int, str | None], calls: list[Any]) -> bool:
        """`index` always; `id`, `type` and `name` once."""
        changed = False
        for call in calls:
            if not isinstance(call, dict):
                continue
            index = call.get("index")
            identity = call.get("id") or None
            if not isinstance(index, int):
                known = [i for i, other in begun.items() if identity is not None and other == identity]
                index = known[0] if known else (len(begun) if identity is not None or not begun else max(begun))
                call["index"] = index
                changed = True
            function = call.get("function")
            if index not in begun:
                begun[index] = identity
                if call.get("type") != "function":
                    call["type"] = "function"
                    changed = True
                continue
            for holder, name in ((call, "id"), (call, "type"), (function, "name")):
                if isinstance(holder, dict) and name in holder:
                    del holder[name]
                    changed = True
        return changed

    def _hold(self, chunk: Json) -> Piece | None:
        """Keeps the last finish chunk back; the text that it may carry goes out before it."""
        text = {**chunk, "choices": [_without_finish(choice) for choice in chunk["choices"]]}
        said = [choice for choice in text["choices"] if _says_something(choice)]
        self._last = {
            **chunk,
            "choices": [
                {**choice, "delta": {}, **({"logprobs": None} if "logprobs" in choice else {})}
                for choice in chunk["choices"]
                if choice.get("finish_reason") is not None
            ],
        }
        self.holding = True
        return Chunk(orjson.dumps({**text, "choices": said})) if said else None

    def _complete(self) -> bool:
        return self._last is not None

    def _finish(self) -> Finish:
        self._ended = True
        self.holding = False
        if self._last is None:
            # [DONE] says that the answer is whole; the reason was forgotten, and clients insist on one.
            assert self._head is not None
            missing = [index for index in sorted(self._roles) if index not in self._finished]
            self._last = {
                **self._head,
                "choices": [
                    {"index": i, "delta": {}, "finish_reason": "tool_calls" if self._tools.get(i) else "stop"}
                    for i in missing
                ],
            }
        return Finish(self._last, self.model, usage_of(self._usage), self._usage)


def _without_finish(choice: Json) -> Json:
    return {**choice, "finish_reason": None}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _says_something(choice: Json) -> bool:
    delta = choice.get("delta")
    return choice.get("finish_reason") is not None or (isinstance(delta, dict) and any(delta.values()))


class WholeDecoder:
    """The decoder of a whole body that came where a stream was asked for: it becomes one, so that nothing is lost."""

    def __init__(self, dialect: OpenAI, request: Request, model: str) -> None:
        self.opened = False
        self.holding = False
        self.model = model
        self.deltas = 0
        self._dialect = dialect
        self._request = request
        self._body = bytearray()

    def feed(self, data: bytes) -> list[Piece]:
        """See `StreamDecoder.feed`."""
        self._body += data
        return []

    def close(self) -> list[Piece]:
        """See `StreamDecoder.close`."""
        reply = self._dialect.decode(self._request, self.model, 200, {}, bytes(self._body))
        if isinstance(reply, Failure):
            return [reply]
        self.opened, self.model = True, reply.model
        chunks, last = as_chunks(reply.body)
        self.deltas = len(chunks)
        return [*map(Chunk, chunks), Finish(last, reply.model, reply.usage, reply.body.get("usage"))]


def as_chunks(body: Json) -> tuple[list[bytes], Json]:
    """A whole chat completion as the chunks of a stream: those with content as JSON, and the one that finishes it."""
    head = {name: value for name, value in body.items() if name not in ("choices", "usage", "object")}
    head["object"] = "chat.completion.chunk"
    chunks: list[bytes] = []
    last: list[Json] = []
    for position, choice in enumerate(body["choices"]):
        index = choice.get("index")
        index = index if isinstance(index, int) else position
        delta = {name: value for name, value in choice["message"].items() if value is not None}
        delta = {"role": "assistant", **delta}
        if isinstance(delta.get("tool_calls"), list):
            calls = [call for call in delta["tool_calls"] if isinstance(call, dict)]
            delta["tool_calls"] = [{"index": i, **call} for i, call in enumerate(calls)]
        rest = {name: value for name, value in choice.items() if name not in ("message", "finish_reason", "index")}
        chunks.append(
            orjson.dumps({**head, "choices": [{"index": index, "delta": delta, "finish_reason": None, **rest}]})
        )
        last.append({"index": index, "delta": {}, "finish_reason": choice.get("finish_reason") or "stop"})
    return chunks, {**head, "choices": last}
