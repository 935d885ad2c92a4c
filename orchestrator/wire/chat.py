"""A chat request: parsed once, checked where a provider's own complaint would be unclear, passed on untouched.

No pydantic here: this is the hot path, and what is unknown must reach the provider as it came.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson

from orchestrator.types import Json, Request
from orchestrator.wire.http import Refused

CHARACTERS_PER_TOKEN = 4
"""OpenAI's rule of thumb for English: help.openai.com, "What are tokens and how to count them?"."""


MAX_DEPTH = 250
"""Levels of nesting in a body. orjson reads 1024 but writes only 254, and what is taken in has to be sent on."""


class Chat(NamedTuple):
    """A parsed request."""

    selector: str
    request: Request
    override: dict[str, Any] | None
    include_usage: bool
    user: str | None


def parse_object(body: bytes) -> Json:
    """The JSON object in a body. Raises Refused (400) that says what is wrong and where."""
    if not body.strip():
        raise Refused(400, "invalid_json", "the body is empty; a JSON object is needed")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refused(400, "invalid_json", _why_not_json(body, error)) from None
    if not isinstance(value, dict):
        raise Refused(400, "invalid_json", "the body has to be a JSON object")
    # Only a body with that many brackets can be that deep; few have, and for those writing it once is the quickest test.
    if body.count(b"{") + body.count(b"[") > MAX_DEPTH and _too_deep(value):
        raise Refused(400, "invalid_json", f"the body is nested deeper than {MAX_DEPTH} levels")
    return value


def _why_not_json(body: bytes, error: orjson.JSONDecodeError) -> str:
    try:
        body.decode()
    except UnicodeDecodeError as wrong:
        # orjson puts this at the very start, wherever it is.
        return f"the body is not valid UTF-8: {wrong.reason} at byte {wrong.start}"
    return f"the body is not valid JSON: {error}"


def _too_deep(value: Json) -> bool:
    try:
        orjson.dumps([[[[value]]]])
    except orjson.JSONEncodeError:
        return True
    return False


def parse_chat(body: bytes) -> Chat:
    """A chat completion request. Raises Refused (400) that names the field."""
    data = parse_object(body)
    model = data.pop("model", None)
    if not isinstance(model, str) or not model:
        raise _wrong("model", "has to be a model's name, such as 'tier:fast' or 'openai/gpt-4o-mini'")
    messages = data.get("messages")
    if not isinstance(messages, list) or not messages:
        raise _wrong("messages", "has to be a list of at least one message")
    characters = 0
    for position, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise _wrong(f"messages[{position}]", "has to be an object with a 'role'")
        characters += _characters(message.get("content"))
    stream = data.pop("stream", None)
    if stream is not None and not isinstance(stream, bool):
        raise _wrong("stream", "has to be true or false")
    options = data.pop("stream_options", None)
    if options is not None and not isinstance(options, dict):
        raise _wrong("stream_options", "has to be an object")
    _check_scalars(data)
    override = _override(data)
    user = data.get("user")
    if options and stream:
        # What a provider may know besides the usage, which is asked for in any case.
        rest = {name: value for name, value in options.items() if name != "include_usage"}
        if rest:
            data["stream_options"] = rest
    return Chat(
        model,
        Request(data, bool(stream), characters // CHARACTERS_PER_TOKEN + 3 * len(messages)),
        override,
        bool(options and options.get("include_usage")),
        user if isinstance(user, str) else None,
    )


def _characters(content: Any) -> int:
    if isinstance(content, str):
        return len(content)
    if isinstance(content, list):
        return sum(
            len(part["text"]) for part in content if isinstance(part, dict) and isinstance(part.get("text"), str)
        )
    return 0


def _check_scalars(data: Json) -> None:
    temperature = data.get("temperature")
    if temperature is not None and (isinstance(temperature, bool) or not isinstance(temperature, int | float)):
        raise _wrong("temperature", "has to be a number")
    for name in ("n", "max_tokens", "max_completion_tokens"):
        value = data.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise _wrong(name, "has to be a whole number of at least 1")
    stop = data.get("stop")
    if stop is not None and not isinstance(stop, str):
        if not isinstance(stop, list) or not all(isinstance(one, str) for one in stop):
            raise _wrong("stop", "has to be a string or a list of strings")
        if len(stop) > 4:
            raise _wrong("stop", "has to have at most 4 entries")


def _override(data: Json) -> dict[str, Any] | None:
    choice = data.pop("orchestrator", None)
    if choice is not None and not isinstance(choice, dict):
        raise _wrong("orchestrator", "has to be an object")
    fallbacks, preferences = data.pop("models", None), data.pop("provider", None)
    if choice is None and fallbacks is None and preferences is None:
        return None
    override = dict(choice or {})
    if fallbacks is not None:
        override["fallbacks"] = fallbacks
    if preferences is not None:
        override["provider"] = preferences
    return override


def _wrong(param: str, what: str) -> Refused:
    return Refused(400, "invalid_request", f"'{param}' {what}", param=param)
