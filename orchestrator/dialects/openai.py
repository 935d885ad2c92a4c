"""OpenAI's chat completions, as dozens of providers speak them (platform.openai.com/docs/api-reference/chat).

Fields that are not known here pass either way as they came.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import orjson

from orchestrator.config.settings import ModelOptions, Quirks
from orchestrator.dialects.base import PLAIN, HttpCall
from orchestrator.dialects.choices import answer_id, as_text, broken, call_id, complete, finish_of, flatten
from orchestrator.dialects.events import BEFORE
from orchestrator.dialects.failures import answer_of
from orchestrator.dialects.merging import Merging
from orchestrator.dialects.openai_stream import ChunkDecoder
from orchestrator.dialects.usage import usage_of
from orchestrator.dialects.whole import as_chunks
from orchestrator.types import Chunk, Failure, FailureKind, Finish, Json, Reply, Request

__all__ = ["ChunkDecoder", "OpenAI", "as_chunks"]


class OpenAI:
    """The dialect. Stateless; one serves all pools."""

    models_path = "/models"
    headers: Mapping[str, str] = {}

    def encode(self, request: Request, model: str, _options: ModelOptions, quirks: Quirks = PLAIN) -> HttpCall:
        """See `Dialect.encode`. A stream is always asked for its usage, which is what it costs; but for a provider that
        says it unasked, and refuses to be asked."""
        body = {**request.body, "model": model}
        body.pop("anthropic", None)  # what another dialect alone has a place for
        if request.operation == "embeddings":
            return HttpCall("/embeddings", {"content-type": "application/json"}, orjson.dumps(body))
        if request.stream:
            body["stream"] = True
            if "stream_options" not in quirks.drops:
                asked = body.get("stream_options")
                body["stream_options"] = {**(asked if isinstance(asked, dict) else {}), "include_usage": True}
        return HttpCall("/chat/completions", {"content-type": "application/json"}, orjson.dumps(body))

    def decode(
        self, request: Request, model: str, status: int, headers: Mapping[str, str], content: bytes
    ) -> Reply | Failure:
        """See `Dialect.decode`."""
        if status == 200 and content[:64].lstrip(BEFORE).startswith((b"data:", b"event:", b":")):
            return _gathered(request, model, content)
        body = answer_of(status, headers, content)
        if isinstance(body, Failure):
            return body
        if request.operation == "embeddings":
            return _embeddings(body, model)
        choices = body.get("choices")
        if not isinstance(choices, list) or not choices or not all(map(complete, choices)):
            return Failure(FailureKind.BAD_ANSWER, "HTTP 200 without choices", status=200)
        for position, choice in enumerate(choices):
            if (failure := broken(choice)) is not None:
                return failure
            _tidy(choice, body, position)
        return Reply(body, _text(body.get("model")) or model, usage_of(body.get("usage")))

    def decoder(self, request: Request, model: str) -> ChunkDecoder:
        """See `Dialect.decoder`."""
        return ChunkDecoder(model, _choices(request), partial(self.decode, request, model, 200, {}))

    def decode_models(self, content: bytes) -> tuple[str, ...]:
        """See `Dialect.decode_models`."""
        try:
            data = orjson.loads(content)
            # Most wrap the list as OpenAI does; Together gives it bare.
            rows = data if isinstance(data, list) else data.get("data")
            return tuple(row["id"] for row in rows if isinstance(row["id"], str))
        except (orjson.JSONDecodeError, AttributeError, TypeError, KeyError):
            return ()


def _gathered(request: Request, model: str, content: bytes) -> Reply | Failure:
    """What a stream adds up to that came where a whole answer was asked for: some servers do nothing but stream
    (github.com/sgl-project/mini-sglang, issue 51; github.com/unslothai/unsloth, issue 6570)."""
    decoder = ChunkDecoder(model, _choices(request))
    *before, last = [*decoder.feed(content), *decoder.close()]
    if isinstance(last, Failure):
        return last
    assert isinstance(last, Finish)
    merging = Merging()
    merging.add([piece.data for piece in before if isinstance(piece, Chunk)])
    body = merging.body(last)
    if body is None:
        return Failure(FailureKind.BAD_ANSWER, "HTTP 200 with a stream that makes no whole answer", status=200)
    return Reply(body, last.model, last.usage)


def _choices(request: Request) -> int:
    choices = request.body.get("n")
    return choices if isinstance(choices, int) else 1


def _embeddings(body: Json, model: str) -> Reply | Failure:
    data = body.get("data")
    if (
        not isinstance(data, list)
        or not data
        or not all(isinstance(row, dict) and row.get("embedding") for row in data)
    ):
        return Failure(FailureKind.BAD_ANSWER, "HTTP 200 without embeddings", status=200)
    return Reply(body, _text(body.get("model")) or model, usage_of(body.get("usage")))


def _tidy(choice: Json, body: Json, position: int) -> None:
    """Puts one choice in order, in place: the body was made here, of the bytes that came."""
    message = choice["message"]
    flatten(message)
    calls = message.get("tool_calls")
    if "finish_reason" in choice:
        finish_of(choice)
        if choice["finish_reason"] is None:
            choice["finish_reason"] = "tool_calls" if calls else "stop"  # none is said, and clients insist on one
    for index, call in enumerate(calls if isinstance(calls, list) else ()):
        if isinstance(call, dict):
            if not call.get("id"):
                body["id"] = answer_id(body.get("id"))
                call["id"] = call_id(body["id"], position, index)
            if isinstance(made := call.get("function"), dict):
                as_text(made)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
