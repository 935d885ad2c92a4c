"""A configuration's data with the line of every key, its variables filled in, and all that is wrong with it so far.

Guards: 1 MB, 20,000 values after aliases are followed (a bomb of aliases stops there), 40 levels, no duplicate keys, no
tags beyond YAML's plain ones. Sizes and levels are checked before anything is built, so a hostile file is refused fast.
A problem never repeats a value that came out of a variable: `shown` gives the variable's name instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

import yaml

from orchestrator.config.variables import fill, protect, restore

MAX_BYTES = 1_000_000
MAX_VALUES = 20_000
MAX_LEVELS = 40
SHOWN_CHARACTERS = 80
"""Of a name or value within a problem; a problem is one line."""

Keys = tuple[str | int, ...]
"""Where a value stands: `("tiers", "fast", "models", 0)`."""

# libyaml is 5 times faster where PyYAML was built with it.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_QUOTED = re.compile(r"'[^'<]{3,}'|\"[^\"<]{3,}\"")


def dotted(keys: Keys) -> str:
    """`("tiers", "fast", "models", 0)` as `tiers.fast.models[0]`; `document` for the whole."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{one_line(part)}" for part in keys)
    return text.removeprefix(".") or "document"


def one_line(text: str) -> str:
    """A text that is safe within one line: short, and without control characters."""
    short = text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "…"
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in short)


def hint(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` or, where nothing is near, nothing."""
    near = get_close_matches(name[:SHOWN_CHARACTERS], list(known), 1)
    return f"; did you mean '{one_line(near[0])}'?" if near else ""


class Document:
    """What was read. `data` is plain dicts, lists and scalars; it is None where nothing could be read."""

    def __init__(self, source: str, env: Mapping[str, str]) -> None:
        self.source = source
        self.env = env
        self.data: Any = None
        self.problems: list[str] = []
        self.missing: dict[Keys, tuple[str, ...]] = {}
        """Variables that are not set, by the place that names them: an error, unless the provider there is optional."""
        self._lines: dict[Keys, int] = {}
        self._shown: dict[Keys, str] = {}
        self._values = 0

    def problem(self, keys: Keys, what: str, line: int | None = None) -> None:
        """Notes one as `file:line: key: what`. A value whose variable is missing has that problem and no other."""
        if keys not in self.missing:
            self.problems.append(f"{self.source}:{line or self._line(keys)}: {dotted(keys)}: {what}")

    def not_set(self, keys: Keys) -> None:
        """Notes the missing variables of a value as problems."""
        for name in self.missing[keys]:
            what = f"the environment variable {name} is not set; export it, or write ${{{name}:-default}}"
            self.problems.append(f"{self.source}:{self._line(keys)}: {dotted(keys)}: {what}")

    def shown(self, keys: Keys, value: object) -> str:
        """A value as a problem may repeat it."""
        return f"'{one_line(self._shown.get(keys, str(value)))}'"

    def read(self, content: bytes) -> None:
        """Parses YAML in UTF-8. What is wrong with it is noted in `problems`."""
        if len(content) > MAX_BYTES:
            self.problem((), f"is larger than {MAX_BYTES // 1_000_000} MB; a configuration never is")
            return
        try:
            text, variables = protect(content.decode("utf-8-sig"))
        except UnicodeDecodeError as error:
            self.problem((), "is not UTF-8; save it as UTF-8", content[: error.start].count(b"\n") + 1)
            return
        except ValueError as error:
            self.problem((), f"{error}, which is reserved; remove it")
            return
        try:
            _guard(text)
            loader = _Loader(text)
            node = loader.get_single_node()
            if node is None:
                self.problem((), "is empty; it needs at least `providers: {sim: {simulate: {}}}`")
                return
            data = self._built(loader, node, (), variables)
        except _TooMuch as error:
            self.problem((), str(error), error.line)
        except yaml.MarkedYAMLError as error:
            self._syntax(text, error)
        except yaml.YAMLError:
            self.problem((), "is not YAML: it has control characters; remove them")
        else:
            self.data = data

    def take(self, data: Any) -> None:
        """Uses data that were parsed elsewhere, under the same limits; variables are filled in all the same."""
        try:
            self.data = self._copied(data, ())
        except _TooMuch as error:
            self.problem((), str(error))

    def _line(self, keys: Keys) -> int:
        """The line of the nearest key that stands in the file."""
        while keys not in self._lines:
            if not keys:
                return 1
            keys = keys[:-1]
        return self._lines[keys]

    def _syntax(self, text: str, error: yaml.MarkedYAMLError) -> None:
        mark = error.problem_mark or error.context_mark
        number = 0 if mark is None else mark.line
        # YAML's own words may quote the file, and the file may hold a key.
        what = _QUOTED.sub("'…'", " ".join(str(error.problem or error.context).split()))
        lines = text.splitlines()
        tabs = number < len(lines) and "\t" in lines[number]
        self.problem((), f"is not YAML: {what}" + ("; indent with spaces, not tabs" if tabs else ""), number + 1)

    def _count(self, keys: Keys, line: int) -> None:
        self._values += 1
        if self._values > MAX_VALUES or len(keys) > MAX_LEVELS:
            raise _TooMuch(line)

    def _built(self, loader: Any, node: Any, keys: Keys, variables: tuple[str, ...]) -> Any:
        line = node.start_mark.line + 1
        self._lines.setdefault(keys, line)
        self._count(keys, line)
        if isinstance(node, yaml.SequenceNode):
            return [self._built(loader, item, (*keys, place), variables) for place, item in enumerate(node.value)]
        if not isinstance(node, yaml.MappingNode):
            return self._scalar(loader, node, keys, variables)
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key_line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self.problem(keys, "a key has to be a plain word", key_line)
                continue
            key = restore(key_node.value, variables)
            inner = (*keys, key)
            if key in mapping:
                self.problem(inner, f"stands twice, first in line {self._lines[inner]}; remove one", key_line)
                continue
            self._lines[inner] = key_line
            mapping[key] = self._built(loader, value_node, inner, variables)
        return mapping

    def _scalar(self, loader: Any, node: Any, keys: Keys, variables: tuple[str, ...]) -> Any:
        try:
            value = loader.construct_object(node)
        except (ValueError, KeyError, AttributeError):
            # PyYAML lets these out for words that look like a date or a number and are none.
            self.problem(keys, "looks like a date or a number and is none; put it in quotes")
            return None
        return self._filled(restore(value, variables), keys) if isinstance(value, str) else value

    def _copied(self, value: Any, keys: Keys) -> Any:
        self._count(keys, 1)
        if isinstance(value, Mapping):
            return {str(key): self._copied(inner, (*keys, str(key))) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self._copied(inner, (*keys, place)) for place, inner in enumerate(value)]
        return self._filled(value, keys) if isinstance(value, str) else value

    def _filled(self, text: str, keys: Keys) -> Any:
        filled = fill(text, self.env, literal="api_key" in keys)
        if filled.malformed:
            self.problem(keys, "has a '${' that is no variable; write ${NAME} or ${NAME:-default}")
        if filled.shown is not None:
            self._shown[keys] = filled.shown
        if filled.missing:
            self.missing[keys] = filled.missing
        return filled.value


class _TooMuch(Exception):
    def __init__(self, line: int) -> None:
        super().__init__(f"has over {MAX_VALUES} values or {MAX_LEVELS} levels, aliases followed; make it smaller")
        self.line = line


def _guard(text: str) -> None:
    """Refuses what is too deep or too long before nodes are built from it."""
    level = values = 0
    for event in yaml.parse(text, _Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            level += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            level -= 1
        values += 1
        # Keys and the ends of collections are events too: at most three for each value that `_count` counts.
        if level > MAX_LEVELS + 1 or values > 4 * MAX_VALUES:
            raise _TooMuch(event.start_mark.line + 1)
