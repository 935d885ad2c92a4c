"""From an answer to what of it is compared: a JSON field, a regular expression's match, a number, a choice, all of the text.

Models wrap JSON in code fences and prose, break it with raw line feeds, or leave a bracket out. It is read all the same
where that is unambiguous: the last object that has the field; else, where an object cannot be read, the field's value if
every place that names it says the same. A value that may have been cut off is none.

Nothing here takes long for any text: regular expressions of users are RE2's, which has no backtracking, at most `TRIES`
places of a text are tried for an object, and numbers and choices are looked for in `WINDOW` characters.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from functools import lru_cache
from typing import Any, NamedTuple

import re2  # type: ignore[import-untyped]

from orchestrator.config.settings import Extract
from orchestrator.consensus import normal
from orchestrator.content import joined
from orchestrator.types import Json

TRIES = 40
WINDOW = 10_000
_JSON = json.JSONDecoder(strict=False)
"""`strict=False` takes raw line feeds within strings. (orjson would round whole numbers beyond 64 bits.)"""
_OPENING = re.compile(r'\{\s{0,99}["}]')
"""Where an object may begin."""


class Extracted(NamedTuple):
    """One answer: `key` is compared, `shown` is how it stood there, as JSON can hold it."""

    key: str
    shown: Any


def text_of(message: Json) -> str:
    """The text of a chat message, its parts joined."""
    content = message.get("content")
    return content if isinstance(content, str) else joined(content)


def is_cut(body: Json) -> bool:
    """Whether the end of the first choice's text is not the end of an answer."""
    reason = body["choices"][0].get("finish_reason")
    return isinstance(reason, str) and reason in ("length", "content_filter")


def extract(body: Json, how: Extract | str) -> Extracted | None:
    """What a chat completion's first choice answers; None: nothing that could be compared.

    An answer that calls tools is compared by its calls, whatever `how` says.
    """
    message = body["choices"][0]["message"]
    if calls := message.get("tool_calls"):
        return _calls(calls)
    text, cut = text_of(message), is_cut(body)
    if isinstance(how, Extract):
        if how.json is not None:
            return field_of(text, how.json)
        if how.regex is not None:
            return _matched(text, how.regex, cut=cut)
    if cut:
        return None
    if isinstance(how, Extract):
        return _number(text, how.number) if how.number is not None else _chosen(text, how.choice)
    return _extracted(normal.text(text), text) if text.strip() else None


def _extracted(key: str | None, shown: Any) -> Extracted | None:
    try:
        return None if key is None else Extracted(key, normal.writable(shown))
    except RecursionError:
        return None


def calls_of(message: Json) -> list[Json]:
    """The functions that a message calls: their names, and their arguments, read where they can be."""
    made: list[Json] = []
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else []:
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            arguments = function.get("arguments")
            with suppress(ValueError, TypeError, RecursionError):  # else compared as it was written
                arguments = _JSON.decode(arguments or "{}")
            made.append({"name": function.get("name"), "arguments": arguments})
    return made


def _calls(calls: Any) -> Extracted | None:
    made = calls_of({"tool_calls": calls})
    return _extracted(normal.value(made), made) if made else None


def object_of(text: str, field: str | None = None) -> Json | None:
    """The JSON object that a text is or holds: the last one that has `field`, where one is named.

    None where one that begins cannot be read: what stands within it is not what was said.
    """
    starts = [match.start() for match in _OPENING.finditer(text)]
    tried = starts if len(starts) <= TRIES else starts[: TRIES // 2] + starts[-TRIES // 2 :]
    found, end = None, 0
    for start in tried:
        if start < end:
            continue  # within the one before
        try:
            one, end = _JSON.raw_decode(text, start)
        except (ValueError, RecursionError):
            return None
        if isinstance(one, dict) and (field is None or _inner(one, field) is not None):
            found = one
    with suppress(RecursionError):
        return None if found is None else dict(normal.writable(found))
    return None


def field_of(text: str, field: str) -> Extracted | None:
    """A field of the object in a text; `a.b` is a field within a field, unless there is one of that very name."""
    found = object_of(text, field)
    shown = None if found is None else _inner(found, field)
    if shown is None:
        shown = _broken(text, field)
    return _extracted(normal.value(shown), shown)


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
    pattern = (
        rf'{name}\s{{0,99}}:\s{{0,99}}("(?:[^"\\\n]|\\.)*"|-?\d[\d.,]{{0,99}}\d|-?\d|true|false)\s{{0,99}}(?=[,}}\]\n])'
    )
    values: list[Any] = []
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


def _matched(text: str, pattern: str, *, cut: bool) -> Extracted | None:
    whole = normal.writable(text)  # RE2 reads UTF-8, which has no halves of characters
    found = None
    for match in expression(pattern).finditer(whole):
        shown = next((group for group in match.groups() if group is not None), match.group(0))
        # `\d*` matches nothing, too; what ends where the text was cut off may have gone on.
        if shown.strip() and not (cut and match.end() == len(whole)):
            found = shown
    return None if found is None else _extracted(normal.text(found), found)


def _number(text: str, which: str) -> Extracted | None:
    found = [match[0] for match in normal.NUMBERS.finditer(text[:WINDOW] if which == "first" else text[-WINDOW:])]
    if not found:
        return None
    shown = found[0] if which == "first" else found[-1]
    return _extracted(normal.number(shown) or normal.text(shown), shown)


def _chosen(text: str, choices: tuple[str, ...]) -> Extracted | None:
    """The choice that a text names: it is one, or says which is the answer, or names it last."""
    text = text[-WINDOW:]
    plain = text.strip(" \t\n\r()[].:*_`\"'")
    for choice in choices:
        if plain.casefold() == choice.casefold():
            return Extracted(choice.casefold(), choice)
    # Within a sentence a single letter counts as it is written: `A` is a choice, `a` an article.
    longest = sorted(choices, key=len, reverse=True)
    named = "|".join(f"({re.escape(one) if len(one) == 1 else f'(?i:{re.escape(one)})'})" for one in longest)
    edge = r"(?<![^\W_])[(\[*_\"'`]{0,8}"
    lead = r"(?i:answer|choice|option)(?i:\s{1,9}is)?\s{0,9}:?\s{0,9}"
    last = None
    for pattern in (rf"{lead}{edge}(?:{named})(?![^\W_])", rf"{edge}(?:{named})(?![^\W_])"):
        for last in re.finditer(pattern, text):  # noqa: B007 - the last one counts
            pass
        if last is not None:
            break
    if last is None:
        return None
    shown = longest[next(at for at, group in enumerate(last.groups()) if group is not None)]
    return Extracted(shown.casefold(), shown)
