"""What of a request is refused before anybody is called: what no provider takes, each with the place where it stands.

No stricter than OpenAI's and Anthropic's own interfaces, and silent about what is unknown here: that may mean something to
a provider, which gets it untouched. A field that is absent costs nothing: tables say what is checked of those that are there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from orchestrator.types import Json
from orchestrator.wire.http import Refused
from orchestrator.wire.schemas import TYPES, flaw

MAX_TOKENS = 10_000_000
"""More than any model reads, let alone writes."""
MAX_CHOICES = 128
"""As OpenAI allows."""
MAX_STOPS = 4
"""As OpenAI allows."""

Check = Callable[[Any, str], None]
"""Raises Refused for a value that cannot be; its second argument is the value's place."""


def wrong(param: str, what: str) -> Refused:
    """What is wrong with a field."""
    return Refused(400, "invalid_request", f"'{param}' {what}", param=param)


def check_fields(data: Json, checks: Mapping[str, Check]) -> None:
    """Checks the fields that are there; null is as good as absent. Raises Refused."""
    for name, value in data.items():
        if value is not None and (check := checks.get(name)) is not None:
            check(value, name)


def whole(least: int, most: int | None = None) -> Check:
    """A whole number within bounds."""

    def check(value: Any, where: str) -> None:
        if type(value) is not int or value < least:
            raise wrong(where, f"has to be a whole number of at least {least}")
        if most is not None and value > most:
            raise wrong(where, f"has to be a whole number of at most {most}")

    return check


def number(least: float, most: float) -> Check:
    """A number within bounds. (NaN and infinities are no JSON, and are refused as that.)"""

    def check(value: Any, where: str) -> None:
        if type(value) not in (int, float) or not least <= value <= most:
            raise wrong(where, f"has to be a number from {least:g} to {most:g}")

    return check


def flag(value: Any, where: str) -> None:
    """A `Check`: true or false."""
    if type(value) is not bool:
        raise wrong(where, "has to be true or false")


def an_object(value: Any, where: str) -> None:
    """A `Check`."""
    if type(value) is not dict:
        raise wrong(where, "has to be an object")


def objects(value: Any, where: str) -> None:
    """A `Check`: a list of objects."""
    if type(value) is not list:
        raise wrong(where, "has to be a list of objects")
    for position, one in enumerate(value):
        an_object(one, f"{where}[{position}]")


def texts(value: Any, where: str) -> None:
    """A `Check`: a list of strings."""
    if type(value) is not list or not all(type(one) is str for one in value):
        raise wrong(where, "has to be a list of strings")


def _stop(value: Any, where: str) -> None:
    if type(value) is str:
        return
    if type(value) is not list or not all(type(one) is str for one in value):
        raise wrong(where, "has to be a string or a list of strings")
    if len(value) > MAX_STOPS:
        raise wrong(where, f"has to have at most {MAX_STOPS} entries")


def _response_format(value: Any, where: str) -> None:
    if type(value) is not dict or type(value.get("type")) is not str:
        raise wrong(where, "has to be an object with a 'type'")
    if value["type"] == "json_schema":
        an_object(value.get("json_schema"), f"{where}.json_schema")
        if (schema := value["json_schema"].get("schema")) is not None:
            check_schema(schema, f"{where}.json_schema.schema")


CHAT: dict[str, Check] = {
    "temperature": number(0, 2),
    "top_p": number(0, 1),
    "presence_penalty": number(-2, 2),
    "frequency_penalty": number(-2, 2),
    "n": whole(1, MAX_CHOICES),
    "max_tokens": whole(1, MAX_TOKENS),
    "max_completion_tokens": whole(1, MAX_TOKENS),
    "seed": whole(-(2**63)),
    "stop": _stop,
    "response_format": _response_format,
    "logit_bias": an_object,
    "parallel_tool_calls": flag,
    "tools": objects,
    "functions": objects,
}
"""Fields of a chat completion (platform.openai.com/docs/api-reference/chat/create), with OpenAI's bounds."""
RESPONSES: dict[str, Check] = {
    **CHAT,
    "n": whole(1, 1),
    "max_output_tokens": whole(1, MAX_TOKENS),
    "top_logprobs": whole(0, 20),
    "max_tool_calls": whole(1),
    "text": an_object,
    "reasoning": an_object,
    "metadata": an_object,
    "include": texts,
}
"""Fields of a response; those of a chat completion are passed on where they are given."""
MESSAGES: dict[str, Check] = {
    "temperature": number(0, 2),  # Anthropic's own models take 1 at most, which they are given; others take more
    "top_p": number(0, 1),
    "top_k": whole(0),
    "max_tokens": whole(0, MAX_TOKENS),  # 0 fills the prompt's cache, and nothing is said
    "stop_sequences": texts,
    "metadata": an_object,
    "thinking": an_object,
    "output_config": an_object,
    "tool_choice": an_object,
    "tools": objects,
}
"""Fields of a message (docs.anthropic.com/en/api/messages)."""


_TEXT_NEEDED = frozenset({"user", "system", "developer", "tool"})
"""Roles of which a message without content says nothing."""


def check_message(message: Json, where: str) -> None:
    """Content, calls and results in one message of a chat completion. Raises Refused."""
    role, content = message["role"], message.get("content")
    if content is None:
        if role in _TEXT_NEEDED:
            raise wrong(f"{where}.content", "is missing")
    elif type(content) is list:
        for position, part in enumerate(content):
            _part(part, f"{where}.content[{position}]")
    elif type(content) is not str:
        raise wrong(f"{where}.content", "has to be text, or a list of content parts")
    if role == "tool" and not message.get("tool_call_id"):
        raise wrong(f"{where}.tool_call_id", "is missing: whose result is it?")
    if (calls := message.get("tool_calls")) is not None:
        objects(calls, f"{where}.tool_calls")
        for position, call in enumerate(calls):
            if call.get("type", "function") == "function":
                at = f"{where}.tool_calls[{position}].function"
                an_object(call.get("function"), at)
                named(call["function"].get("name"), f"{at}.name")


def _part(part: Any, where: str) -> None:
    if type(part) is str:
        return  # vLLM's parts may be plain text
    an_object(part, where)
    if part.get("type") == "text" and type(part.get("text")) is not str:
        raise wrong(f"{where}.text", "has to be text")
    if part.get("type") == "image_url":
        image = part.get("image_url")
        if type(image.get("url") if type(image) is dict else image) is not str:
            raise wrong(f"{where}.image_url", "has to be an object with a 'url'")


_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
"""What OpenAI (64 at most), Anthropic (128) and Gemini (with dots and colons) take between them."""


def named(name: Any, where: str) -> str:
    """The name of a tool. (Of a call that has been made, a provider may have let through what is none.) Raises Refused."""
    if type(name) is not str or not name:
        raise wrong(where, "is missing: a tool has a name")
    return name


class Names:
    """The names of the tools that a request brings."""

    def __init__(self) -> None:
        self._found: set[str] = set()

    def add(self, name: Any, where: str) -> None:
        """Another one. Raises Refused for one that is none, or is there already."""
        if not _NAME.fullmatch(named(name, where)):
            raise wrong(where, "has to be made of letters, digits, '_' and '-', 128 at most")
        if name in self._found:
            raise wrong(where, f"is {name!r}, and so is another tool's")
        self._found.add(name)

    def choose(self, name: Any, where: str) -> None:
        """One that has to be called. Raises Refused if it is not there."""
        if type(name) is not str or name not in self._found:
            raise wrong(where, f"names {name!r}, and 'tools' has no such tool")


CHOICES = ("none", "auto", "required", "any")
"""What `tool_choice` may be besides a tool; `any` is Mistral's."""


def check_tools(data: Json) -> None:
    """`tools` and `tool_choice` of a chat completion, and what they were called before. Raises Refused."""
    names, older = Names(), Names()
    for position, tool in enumerate(data.get("tools") or ()):
        where = f"tools[{position}]"
        match tool.get("type", "function" if "function" in tool else None):
            case "function":
                an_object(tool.get("function"), f"{where}.function")
                names.add(tool["function"].get("name"), f"{where}.function.name")
                check_function(tool["function"], f"{where}.function")
            case "custom" if type(tool.get("custom")) is dict:
                names.add(tool["custom"].get("name"), f"{where}.custom.name")
            case str():
                pass  # a provider's own
            case _ if "name" not in tool:
                raise wrong(f"{where}.type", "is missing, such as 'function'")
    for position, function in enumerate(data.get("functions") or ()):
        older.add(function.get("name"), f"functions[{position}].name")
        check_function(function, f"functions[{position}]")
    choice = data.get("tool_choice")
    if type(choice) is dict:
        kind = choice.get("type")
        if kind in ("function", "custom"):
            holder = choice.get(kind)
            names.choose(holder.get("name") if type(holder) is dict else None, "tool_choice")
    elif choice is not None and choice not in CHOICES:
        raise wrong("tool_choice", "has to be none, auto, required, or an object that names a tool")
    if choice == "required" and not data.get("tools"):
        raise wrong("tool_choice", "requires a tool, and there are none in 'tools'")
    if type(chosen := data.get("function_call")) is dict:
        older.choose(chosen.get("name"), "function_call")


def check_function(function: Json, where: str, schema: str = "parameters") -> None:
    """What a function says of itself. Raises Refused."""
    if type(function.get("description", "")) not in (str, type(None)):
        raise wrong(f"{where}.description", "has to be text")
    if type(function.get("strict", False)) not in (bool, type(None)):
        raise wrong(f"{where}.strict", "has to be true or false")
    if (parameters := function.get(schema)) is None:
        return
    an_object(parameters, f"{where}.{schema}")
    if type(kind := parameters.get("type", "object")) is str and kind in TYPES and kind != "object":
        raise wrong(f"{where}.{schema}.type", f"has to be object, not {kind}: arguments have names")
    check_schema(parameters, f"{where}.{schema}")


def check_schema(schema: Any, where: str) -> None:
    """Raises Refused for what is no JSON schema; see `orchestrator.wire.schemas`."""
    if (found := flaw(schema)) is not None:
        path, what = found
        raise wrong(where + path, what)
