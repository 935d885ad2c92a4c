"""Anthropic's Messages API (docs.anthropic.com/en/api/messages), to and from the chat shape.

What has no place in the chat shape travels beside it, so that nothing is lost either way:

- in a request, `anthropic`: an object whose fields are put over what was made of the others (`thinking`, `top_k`, `system`
  with cache marks, server tools; `betas` becomes the header). A content part, a tool or a field of the body that is not
  OpenAI's is passed on as it is, `cache_control` of parts, messages and tools included.
- in an answer, `anthropic`: `stop_reason`, `stop_sequence`, `usage` as they came, and `content` where it holds blocks that
  are neither text, thinking nor a tool call. Thinking is `reasoning_content`, and `reasoning_details` with its signatures
  (OpenRouter's shape), which an assistant's turn gives back.

As Anthropic's own endpoint for OpenAI's clients does (docs.anthropic.com/en/api/openai-sdk), a temperature above 1 counts as
1, and penalties, `seed` and `logit_bias` are left out; what would change the answer's shape (`n`, `logprobs`, audio) is
refused here, so that another candidate can be asked.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial

import orjson

from orchestrator.config.settings import ModelOptions, Quirks
from orchestrator.dialects.anthropic_request import Unsupported, encode
from orchestrator.dialects.anthropic_stream import EventDecoder
from orchestrator.dialects.base import PLAIN, HttpCall
from orchestrator.dialects.failures import answer_of
from orchestrator.dialects.messages import FINISH, call_of, detail_of, usage_body
from orchestrator.dialects.usage import usage_of
from orchestrator.types import Failure, FailureKind, Json, Reply, Request

VERSION = "2023-06-01"


class Anthropic:
    """The dialect. Stateless; one serves all pools."""

    models_path = "/models?limit=1000"
    headers: Mapping[str, str] = {"anthropic-version": VERSION}

    def encode(
        self, request: Request, model: str, options: ModelOptions, _quirks: Quirks = PLAIN
    ) -> HttpCall | Failure:
        """See `Dialect.encode`."""
        if request.operation != "chat":
            return _unsupported("model", f"Anthropic's models do not answer {request.operation}")
        try:
            body = encode(request, model, options)
        except Unsupported as error:
            return _unsupported(error.param, str(error))
        headers = {"content-type": "application/json", **self.headers}
        if betas := body.pop("betas", None):
            headers["anthropic-beta"] = ",".join(map(str, betas)) if isinstance(betas, list) else str(betas)
        return HttpCall("/messages", headers, orjson.dumps(body))

    def decode(
        self, _request: Request, model: str, status: int, headers: Mapping[str, str], content: bytes
    ) -> Reply | Failure:
        """See `Dialect.decode`."""
        body = answer_of(status, headers, content)
        if isinstance(body, Failure):
            return body
        blocks = body.get("content")
        if not isinstance(blocks, list) or not all(isinstance(block, dict) for block in blocks):
            return Failure(FailureKind.BAD_ANSWER, "HTTP 200 without content", status=200)
        chat = _chat(body, blocks, model)
        return Reply(chat, chat["model"], usage_of(chat["usage"]))

    def decoder(self, request: Request, model: str) -> EventDecoder:
        """See `Dialect.decoder`."""
        return EventDecoder(model, partial(self.decode, request, model, 200, {}))

    def decode_models(self, content: bytes) -> tuple[str, ...]:
        """See `Dialect.decode_models`."""
        try:
            return tuple(row["id"] for row in orjson.loads(content)["data"] if isinstance(row["id"], str))
        except (orjson.JSONDecodeError, AttributeError, TypeError, KeyError):
            return ()


def _unsupported(param: str, message: str) -> Failure:
    return Failure(FailureKind.UNSUPPORTED, message, param=param, body={"message": message})


def _chat(body: Json, blocks: list[Json], model: str) -> Json:
    """A whole message as a chat completion."""
    text, thoughts, calls, details = list[str](), list[str](), list[Json](), list[Json]()
    plain = True
    for index, block in enumerate(blocks):
        match block.get("type"):
            case "text":
                text.append(str(block.get("text") or ""))
                plain &= not block.get("citations")
            case "thinking":
                thoughts.append(str(block.get("thinking") or ""))
                details.append(detail_of(block, index))
            case "redacted_thinking":
                details.append(detail_of(block, index))
            case "tool_use":
                calls.append(call_of(block))
            case _:
                plain = False
    message: Json = {"role": "assistant", "content": "".join(text) if text or not calls else None}
    if calls:
        message["tool_calls"] = calls
    if thoughts:
        message["reasoning_content"] = "".join(thoughts)
    if details:
        message["reasoning_details"] = details
    own: Json = {name: body[name] for name in ("stop_reason", "stop_sequence", "usage") if name in body}
    if not plain:
        own["content"] = blocks
    known = {"id", "type", "role", "content", "model", "stop_reason", "stop_sequence", "usage"}
    reason = FINISH.get(str(body.get("stop_reason")), "stop")
    return {
        "id": body.get("id") or "chatcmpl-0",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": body["model"] if isinstance(body.get("model"), str) else model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": reason}],
        "usage": usage_body(body.get("usage")),
        "anthropic": own,
        **{name: value for name, value in body.items() if name not in known},
    }
