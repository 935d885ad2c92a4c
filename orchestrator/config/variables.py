"""`${NAME}` and `${NAME:-default}` in a configuration.

YAML would read the braces of an unquoted `{api_key: ${KEY}}` as a mapping. So variables are taken out of the text before
it is parsed (`protect`) and put back into the parsed strings (`restore`), which leaves every line where it was.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}\n]*))?\}")
# Two characters of Unicode's private use area: YAML allows them in plain words, and nobody writes them.
_OPEN, _CLOSE = "\ue000", "\ue001"
_TOKEN = re.compile(f"{_OPEN}([0-9]+){_CLOSE}")
_PLAIN_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,17})?")


class Filled(NamedTuple):
    """A text after its variables were filled in."""

    value: str | int | float | bool
    missing: tuple[str, ...]
    """The names that are not set (an empty value counts as not set) and have no default."""
    shown: str | None
    """The text as it may be shown: with the variables' names, without values and defaults. None: it had none."""
    malformed: bool
    """A `${` is left that is no variable."""


def protect(text: str) -> tuple[str, tuple[str, ...]]:
    """Replaces each variable by a word that YAML leaves alone. Raises ValueError if the text has such words itself."""
    if _OPEN in text:
        raise ValueError(f"line {text[: text.index(_OPEN)].count(chr(10)) + 1} has the character U+E000")
    found: list[str] = []

    def take(match: re.Match[str]) -> str:
        found.append(match[0])
        return f"{_OPEN}{len(found) - 1}{_CLOSE}"

    return _VARIABLE.sub(take, text), tuple(found)


def restore(text: str, found: tuple[str, ...]) -> str:
    """The text before `protect`."""
    return _TOKEN.sub(lambda match: found[int(match[1])], text)


def fill(text: str, env: Mapping[str, str], *, literal: bool = False) -> Filled:
    """Fills the variables in. A text that is one variable and nothing else becomes a number or a truth value if it
    reads as one, unless `literal` (keys of accounts may well be digits)."""
    missing: list[str] = []

    def value_of(match: re.Match[str]) -> str:
        value = env.get(match[1]) or match[2]
        if value is None:
            missing.append(match[1])
        return value or ""

    value = _VARIABLE.sub(value_of, text)
    named = _VARIABLE.sub(lambda match: f"${{{match[1]}}}", text)
    whole = _VARIABLE.fullmatch(text) is not None and not literal
    return Filled(
        _plain(value) if whole else value,
        tuple(missing),
        named if _VARIABLE.search(text) else None,
        "${" in _VARIABLE.sub("", text),
    )


def _plain(value: str) -> str | int | float | bool:
    if value in ("true", "false"):
        return value == "true"
    if match := _PLAIN_NUMBER.fullmatch(value):
        return float(value) if match[2] else int(value)
    return value
