"""From an answer to what of it is compared: a JSON field, a regular expression's match, a number, a choice, all of the text.

Models wrap JSON in code fences and prose, break it with raw line feeds, or leave a bracket out. It is read all the same
where that is unambiguous: the last object that has the field; else, where no object can be read, the field's value if every
place that names it says the same. A value that was cut off is none.

Nothing here takes long for any text: regular expressions of users are RE2's, which has no backtracking, and at most
`TRIES` places of a text are tried for an object.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from functools import lru_cache
from typing import Any, NamedTuple

import orjson
import re2  # type: ignore[import-untyped]

from orchestrator.config.settings import Extract
from orchestrator.consensus import normal
from orchestrator.types import Json

TRIES = 40
_JSON = json.JSONDecoder(strict=False)
"""`strict=False` takes raw line feeds within strings."""
_CUT = frozenset({"length", "content_filter"})
"""Reasons to stop after which the end of a text is not the end of an answer."""


class Extracted(NamedTuple):
    """One answer: `key` is compared, `shown` is how it stood there."""

    key: str
    shown: Any


def text_of(message: Json) -> str:
    """The text of a chat message, its parts joined."""
    content = message.get("content")
    if isinstance(content, list):
        return "".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def extract(body: Json, how: Extract | str) -> Extracted | None:
    """What a chat completion's first choice answers; None: nothing that could be compared.

    An answer that calls tools is compared by its calls, whatever `how` says.
    """
    choice = body["choices"][0]
    message = choice["message"]
    if calls := message.get("tool_calls"):
        return _calls(calls)
    text, cut = text_of(message), choice.get("finish_reason") in _CUT
    if isinstance(how, Extract):
        if how.json is not None:
            return field_of(text, how.json)
        if how.regex is not None:
            return _matched(text, how.regex)
    if cut:
        return None
    if isinstance(how, Extract):
        return _number(text, how.number) if how.number is not None else _chosen(text, how.choice)
    return Extracted(normal.text(text), text) if text.strip() else None


def _calls(calls: Any) -> Extracted | None:
    made: list[Json] = []
    for call in calls if isinstance(calls, list) else []:
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            arguments = function.get("arguments")
            with suppress(orjson.JSONDecodeError, TypeError):  # else compared as it was written
                arguments = orjson.loads(arguments or "{}")
            made.append({"name": function.get("name"), "arguments": arguments})
    key = normal.value(made)
    return Extracted(key, made) if made and key is not None else None


def object_of(text: str, field: str | None = None) -> Json | None:
    """The JSON object that a text is or holds: the last one that has `field`, where one is named."""
    try:
        whole = orjson.loads(text)
    except orjson.JSONDecodeError:
        whole = None
    if isinstance(whole, dict) and (field is None or _inner(whole, field) is not None):
        return whole
    starts = [match.start() for match in re.finditer(r"\{", text)]
    tried = starts if len(starts) <= TRIES else starts[: TRIES // 2] + starts[-TRIES // 2 :]
    found, end = None, 0
    for start in tried:
        if start < end:
            continue  # within the one before
        try:
            one, stop = _JSON.raw_decode(text, start)
        except (ValueError, RecursionError):
            continue
        if isinstance(one, dict) and (field is None or _inner(one, field) is not None):
            found, end = one, stop
    return found


def field_of(text: str, field: str) -> Extracted | None:
    """A field of the object in a text; `a.b` is a field within a field, unless there is one of that very name."""
    found = object_of(text, field)
    shown = None if found is None else _inner(found, field)
    if shown is None:
        shown = _broken(text, field)
    key = normal.value(shown)
    return None if key is None else Extracted(key, shown)


def _inner(found: Json, field: str) -> Any:
    if field in found:
        return found[field]
    value: Any = found
    for name in field.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _broken(text: str, field: str) -> Any:
    """The value that a field has in what is no JSON, if all places that name it agree."""
    name = re.escape(json.dumps(field.rpartition(".")[2], ensure_ascii=False))
    # The value has to be whole: what follows it is a comma, a bracket, or the next line.
    pattern = rf'{name}\s*:\s*("(?:[^"\\\n]|\\.)*"|-?\d[\d.,]*\d|-?\d|true|false)\s*(?=[,}}\]\n])'
    values = []
    for match in re.finditer(pattern, text[-normal.MAX_CHARACTERS :]):
        try:
            values.append(_JSON.decode(match[1]))
        except ValueError:
            values.append(match[1])
    return values[-1] if values and len({normal.value(one) for one in values}) == 1 else None


@lru_cache(maxsize=256)
def expression(pattern: str) -> Any:
    """A compiled regular expression of RE2's syntax. Raises ValueError that says what is wrong with it."""
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0] if error.args else "it cannot be read"
        raise ValueError(reason.decode() if isinstance(reason, bytes) else str(reason)) from None


def _matched(text: str, pattern: str) -> Extracted | None:
    found = None
    for found in expression(pattern).finditer(text):  # noqa: B007 - the last one counts
        pass
    if found is None:
        return None
    shown = next((group for group in found.groups() if group is not None), found.group(0))
    return Extracted(normal.text(shown), shown) if shown.strip() else None


def _number(text: str, which: str) -> Extracted | None:
    found = [match[0] for match in normal.NUMBERS.finditer(text)]
    shown = None if not found else found[0] if which == "first" else found[-1]
    key = None if shown is None else normal.number(shown)
    if shown is None or key is not None:
        return None if key is None else Extracted(key, shown)
    return Extracted(normal.text(shown), shown)


def _chosen(text: str, choices: tuple[str, ...]) -> Extracted | None:
    """The choice that a text names: it is one, or says which is the answer, or names it last."""
    plain = text.strip(" \t\n\r()[].:*_`\"'")
    for choice in choices:
        if plain.casefold() == choice.casefold():
            return Extracted(choice.casefold(), choice)
    # Within a sentence a single letter counts as it is written: `A` is a choice, `a` an article.
    named = "|".join(
        re.escape(choice) if len(choice) == 1 else f"(?i:{re.escape(choice)})"
        for choice in sorted(choices, key=len, reverse=True)
    )
    edge = r"(?<![^\W_])[(\[*_\"'`]*"
    said = re.findall(rf"(?i:answer|choice|option)(?i:\s+is)?\s*:?\s*{edge}({named})(?![^\W_])", text)
    said = said or re.findall(rf"{edge}({named})(?![^\W_])", text)
    if not said:
        return None
    folded = said[-1].casefold()
    shown = next(choice for choice in choices if choice.casefold() == folded)
    return Extracted(folded, shown)
