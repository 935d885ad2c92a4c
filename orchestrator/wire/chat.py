"""A chat request: parsed once, checked where a provider's own complaint would be unclear, passed on untouched.

No pydantic here: this is the hot path, and what is unknown must reach the provider as it came.
"""

from __future__ import annotations

import codecs
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from orchestrator.asks import Answer
from orchestrator.dialects.reading import MAX_DEPTH, too_deep
from orchestrator.types import Json, Request
from orchestrator.wire.checks import CHAT, check_fields, check_message, check_tools, wrong
from orchestrator.wire.http import Refused
from orchestrator.wire.shape import Parsed, Speaker

CHARACTERS_PER_TOKEN = 4
"""OpenAI's rule of thumb for English: help.openai.com, "What are tokens and how to count them?"."""


_TOOLS = frozenset({"tools", "tool_choice", "functions", "function_call"})
_MORE_THAN_TEXT = frozenset({"assistant", "tool"})
"""Roles whose messages may be wrong although their content is text."""


class ChatSpeaker:
    """Chat completions, as they are (`Speaker`)."""

    def __init__(self, *, include_usage: bool = False) -> None:
        self._include_usage = include_usage
        self.nulls = True
        """Whether a cost that is not known is said to be null. See `for_client`."""

    def whole(self, body: Json, answer: Answer) -> Json:
        """See `Speaker.whole`."""
        said = {**body, "provider": answer.provider, "orchestrator": answer.report}
        if "usage" in said:
            said["usage"] = with_cost(said["usage"], answer, nulls=self.nulls)
        return said

    def chunks(self, chunks: Sequence[bytes]) -> bytes:
        """See `Speaker.chunks`."""
        return data_events(chunks)

    def end(self, last: Json, usage: Any, answer: Answer) -> bytes:
        """See `Speaker.end`."""
        parts = [orjson.dumps({**last, "provider": answer.provider, "orchestrator": answer.report})]
        if self._include_usage:
            head = {name: last[name] for name in ("id", "object", "created", "model") if name in last}
            parts.append(orjson.dumps({**head, "choices": [], "usage": with_cost(usage, answer, nulls=self.nulls)}))
        return data_events([*parts, b"[DONE]"])

    def failed(self, error: Json, report: Json | None) -> bytes:
        """See `Speaker.failed`."""
        event = {"error": error} if report is None else {"error": error, "orchestrator": report}
        return data_events([orjson.dumps(event)])


class ChatShape:
    """`POST /v1/chat/completions`."""

    def parse(self, body: bytes, headers: Mapping[bytes, bytes]) -> Parsed:
        """See `Shape.parse`."""
        return for_client(parse_chat(body), headers)

    def error(self, _status: int, error: Json) -> Json:
        """See `Shape.error`."""
        return {"error": error}


def for_client(parsed: Parsed, headers: Mapping[bytes, bytes]) -> Parsed:
    """The same, said as the client can read it: OpenRouter's for the AI SDK (2.10) takes a cost that is a number or absent,
    and refuses a whole answer for a null."""
    if isinstance(parsed.speaker, ChatSpeaker) and b"ai-sdk/openrouter" in headers.get(b"user-agent", b""):
        parsed.speaker.nulls = False
    return parsed


def data_events(parts: Sequence[bytes]) -> bytes:
    """Events without names, as OpenAI's older shapes have them; nothing for none."""
    return b"data: " + b"\n\ndata: ".join(parts) + b"\n\n" if parts else b""


def with_cost(usage: Any, answer: Answer, *, nulls: bool = True) -> Json | None:
    """The provider's usage object with `cost`, of this answer alone: null where no price is known, or absent, without
    `nulls`."""
    if not isinstance(usage, dict):
        return None
    cost = answer.cost_usd
    if cost is None and not nulls:
        return {name: value for name, value in usage.items() if name != "cost"}
    return {**usage, "cost": cost}


def logprob_rows(choice: Json) -> list[Json] | None:
    """The log probabilities of a choice, a row each token; None where there are none."""
    given = choice.get("logprobs")
    rows = given.get("content") if isinstance(given, dict) else None
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else None


def parse_object(body: bytes) -> Json:
    """The JSON object in a body. Raises Refused (400) that says what is wrong and where."""
    body = body.removeprefix(codecs.BOM_UTF8)  # some clients begin with one
    if not body.strip():
        raise Refused(400, "invalid_json", "the body is empty; a JSON object is needed")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refused(400, "invalid_json", _why_not_json(body, error)) from None
    if not isinstance(value, dict):
        raise Refused(400, "invalid_json", "the body has to be a JSON object")
    if too_deep(body, value):
        raise Refused(400, "invalid_json", f"the body is nested deeper than {MAX_DEPTH} levels")
    return value


def _why_not_json(body: bytes, error: orjson.JSONDecodeError) -> str:
    try:
        body.decode()
    except UnicodeDecodeError as wrong:
        # orjson puts this at the very start, wherever it is.
        return f"the body is not valid UTF-8: {wrong.reason} at byte {wrong.start}"
    return f"the body is not valid JSON: {error}"


def parse_chat(body: bytes) -> Parsed:
    """A chat completion request. Raises Refused (400) that names the field."""
    data, head = take_head(body)
    messages = data.get("messages")
    if not isinstance(messages, list) or not messages:
        raise wrong("messages", "has to be a list of at least one message")
    for position, message in enumerate(messages):
        if type(message) is not dict or type(role := message.get("role")) is not str:
            raise wrong(f"messages[{position}]", "has to be an object with a 'role'")
        if type(message.get("content")) is not str or role in _MORE_THAN_TEXT:
            check_message(message, f"messages[{position}]")
    options = take_stream_options(data)
    check_fields(data, CHAT)
    if not _TOOLS.isdisjoint(data):
        check_tools(data)
    if head.stream:
        # What a provider may know besides the usage, which is asked for in any case.
        rest = {name: value for name, value in options.items() if name != "include_usage"}
        if rest:
            data["stream_options"] = rest
    return head.asks(data, ChatSpeaker(include_usage=bool(options.get("include_usage"))))


class Head(NamedTuple):
    """What every shape that comes to a chat completion says alike."""

    model: str
    stream: bool
    override: dict[str, Any] | None

    def asks(self, chat: Json, speaker: Speaker) -> Parsed:
        """The request for a chat completion with that body."""
        user = chat.get("user")
        request = chat_request(chat, stream=self.stream)
        return Parsed(self.model, request, self.override, user if isinstance(user, str) else None, speaker)


def take_head(body: bytes) -> tuple[Json, Head]:
    """The object in a body, and its head, which is taken out of it. Raises Refused."""
    data = parse_object(body)
    return data, Head(take_model(data), take_flag(data, "stream"), take_override(data))


def take_stream_options(data: Json) -> Json:
    """Takes `stream_options` out of a request. Raises Refused."""
    options = data.pop("stream_options", None)
    if options is not None and not isinstance(options, dict):
        raise wrong("stream_options", "has to be an object")
    return options or {}


def chat_request(chat: Json, *, stream: bool) -> Request:
    """The request of a chat completion's body: how long it is, by four characters a token, and what it needs."""
    characters, images = 0, False
    for message in chat["messages"]:
        content = message.get("content")
        if isinstance(content, str):
            characters += len(content)
        elif isinstance(content, list):
            for part in content:
                if isinstance(part, dict):
                    text = part.get("text")
                    characters += len(text) if isinstance(text, str) else 0
                    images = images or part.get("type") in ("image_url", "image")
    needs: tuple[str, ...] = ("images",) if images else ()
    if tools := chat.get("tools"):
        needs += ("tools",)
        characters += len(orjson.dumps(tools))
    wanted = chat.get("response_format")
    if isinstance(wanted, dict) and wanted.get("type") == "json_schema":
        needs += ("json_schema",)
    return Request(chat, stream, characters // CHARACTERS_PER_TOKEN + 3 * len(chat["messages"]), needs=needs)


def take_model(data: Json) -> str:
    """Takes `model` out of a request. Raises Refused."""
    model = data.pop("model", None)
    if not isinstance(model, str) or not model:
        raise wrong("model", "has to be a model's name, such as 'tier:fast' or 'openai/gpt-4o-mini'")
    return model


def take_flag(data: Json, name: str) -> bool:
    """Takes a flag out of a request; absent or null is false. Raises Refused."""
    flag = data.pop(name, None)
    if flag is not None and not isinstance(flag, bool):
        raise wrong(name, "has to be true or false")
    return bool(flag)


def take_override(data: Json) -> dict[str, Any] | None:
    """Takes the request's own choice out of it. Raises Refused."""
    choice = data.pop("orchestrator", None)
    if choice is not None and not isinstance(choice, dict):
        raise wrong("orchestrator", "has to be an object")
    fallbacks, preferences = data.pop("models", None), data.pop("provider", None)
    if choice is None and fallbacks is None and preferences is None:
        return None
    override = dict(choice or {})
    if fallbacks is not None:
        override["fallbacks"] = fallbacks
    if preferences is not None:
        override["provider"] = preferences
    return override
