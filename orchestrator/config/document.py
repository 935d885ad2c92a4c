"""A YAML document with the line of every key, and with its variables filled in.

Guards: at most 1 MB, 20,000 values after aliases are followed (a bomb of aliases stops there), 40 levels, no duplicate
keys, no tags beyond the plain ones. Depth is looked at in the stream of events, before anything recursive sees the
document: libyaml's composer would overflow the stack of the process.

`{api_key: ${NAME}}` is not YAML: within braces, a plain word may hold none. Since everybody writes it, the braces of
variables are put aside before the document is parsed.

No message repeats a value that came out of a variable: it may be a key. `shown` gives the text of the file instead.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any

import yaml

MAX_BYTES = 1_000_000
MAX_VALUES = 20_000
MAX_DEPTH = 40
MAX_PROBLEMS = 50
"""More are not listed: who has so many has one cause."""

Path = tuple[str | int, ...]
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_VARIABLE = re.compile(r"\$\$\{|\$\{([^}]*)(\}?)")
_NAME = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)
_IN_TEXT = re.compile(r"\$\{([^{}\n'\"]*)\}")
_OPEN, _CLOSE = "\uf8f0", "\uf8f1"
"""Stand for the braces of a variable while YAML looks at the document (from the private use area)."""
_MERGE = "tag:yaml.org,2002:merge"
_TAGS = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "timestamp"))


def clean(text: str, limit: int = 80) -> str:
    """One printable line of at most `limit` characters."""
    line = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[: limit + 1])
    return line if len(line) <= limit else line[: limit - 1] + "…"


def dotted(path: Path) -> str:
    """`('tiers', 'fast', 'models', 0)` as `tiers.fast.models[0]`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{clean(part, 60)}" for part in path)
    return text.removeprefix(".") or "document"


def near(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'NAME'?`, or nothing where nothing is spelled alike."""
    alike = [one for one in known if abs(len(one) - len(name)) <= 4][:500]
    found = get_close_matches(name, alike, 1) if len(name) <= 100 else []
    return f"; did you mean '{found[0]}'?" if found else ""


class TooManyProblems(Exception):
    """The list of problems is full."""


class Document:
    """A document's data, its lines, and what is wrong with it so far."""

    def __init__(
        self, source: str, env: Mapping[str, str], answers: Callable[[str], bool], *, variables: bool = True
    ) -> None:
        self.source = clean(source, 500)
        self.env = env
        self.variables = variables
        """Whether it may name any."""
        self.answers = answers
        """Whether somebody listens at an address: asked for optional providers that run on this machine."""
        self.data: Any = None
        self.problems: list[str] = []
        self.missing: dict[Path, str] = {}
        """Variables that are not set, by the place that names them: an error, unless the provider there is optional."""
        self._filled: dict[Path, str] = {}
        """The text of the values that variables were filled into."""
        self._lines: dict[Path, int] = {}
        self._values = 0

    def problem(self, path: Path, what: str) -> None:
        """Notes one: `file:line: key: what`. Raises TooManyProblems."""
        self._note(self.line(path), path, what)

    def _note(self, line: int, path: Path, what: str) -> None:
        if len(self.problems) == MAX_PROBLEMS:
            self.problems.append(f"{self.source}:{line}: document: has more problems than these {MAX_PROBLEMS}")
            raise TooManyProblems
        self.problems.append(f"{self.source}:{line}: {dotted(path)}: {what}")

    def line(self, path: Path) -> int:
        """The line of the nearest key that stands in the file."""
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 1)

    def shown(self, path: Path, value: object, limit: int = 80) -> str:
        """A value for a message, quoted, as it stands in the file: no variable is filled in."""
        if isinstance(value, list | dict):
            return "a list" if isinstance(value, list) else "a mapping"
        return f"'{clean(self._filled.get(path) or str(value), limit)}'"

    def read(self, content: bytes) -> None:
        """Parses YAML. Raises TooManyProblems."""
        if len(content) > MAX_BYTES:
            self._note(1, (), f"is larger than {MAX_BYTES // 1_000_000} MB")
            return
        try:
            text = content.decode("utf-8")
            if _OPEN in text or _CLOSE in text:
                self._note(1, (), "holds the character U+F8F0 or U+F8F1, which has a meaning of its own here")
                return
            text = _IN_TEXT.sub(f"{_OPEN}\\1{_CLOSE}", text)
            _measure(text)
            loader = _Loader(text)
            node = loader.get_single_node()
            if node is not None:
                self.data = self._convert(loader, node, ())
        except UnicodeDecodeError as error:
            self._note(1 + content[: error.start].count(b"\n"), (), f"is not UTF-8 (byte {error.start})")
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            # An end that comes too soon is reported after the last line.
            last = max(1, len(content.splitlines()))
            line = 1 if mark is None else min(mark.line + 1, last)
            what = clean(" ".join(str(error.problem or error.context).split()), 200)
            hint = "; indent with spaces, not tabs" if "cannot start any token" in what else ""
            if error.context_mark and str(error.context).startswith("while parsing a flow"):
                hint = f", {error.context} that begins in line {min(error.context_mark.line + 1, last)}"
            self._note(line, (), f"is not YAML: {_put_back(what)}{hint}")
        except yaml.YAMLError as error:
            self._note(1, (), f"is not YAML: {clean(' '.join(str(error).split()), 200)}")
        except _TooMuch as error:
            self._note(error.line, (), str(error))

    def take(self, data: Any) -> None:
        """Uses data that were parsed elsewhere; variables are filled in all the same. Raises TooManyProblems."""
        try:
            self.data = self._copy(data, ())
        except _TooMuch as error:
            self._note(1, (), str(error))

    def _count(self, path: Path, line: int) -> None:
        self._values += 1
        if self._values > MAX_VALUES or len(path) > MAX_DEPTH:
            raise _TooMuch(line)

    def _convert(self, loader: Any, node: Any, path: Path) -> Any:
        line = node.start_mark.line + 1
        self._lines.setdefault(path, line)
        self._count(path, line)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(loader, node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self._convert(loader, item, (*path, i)) for i, item in enumerate(node.value)]
        if node.tag not in _TAGS:
            self._note(line, path, f"has the tag '{clean(node.tag, 60)}', which means nothing here; leave it out")
            return None
        try:
            value = loader.construct_object(node, deep=True)
            return self._fill(_put_back(value) if isinstance(value, str) else value, path)
        # A date in month 13, a number of 5,000 digits; with a tag (`!!bool maybe`) anything may come where it does not fit.
        except (ValueError, OverflowError, LookupError, AttributeError, TypeError):
            self._note(line, path, f"'{clean(_put_back(node.value))}' cannot be read; put it in quotes if it is text")
            return None

    def _mapping(self, loader: Any, node: Any, path: Path) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        merged: list[Any] = []
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self._note(line, path, "a key has to be a plain word")
                continue
            if key_node.tag == _MERGE:
                merged += value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]
                continue
            key = _put_back(key_node.value)
            inner = (*path, key)
            if key in mapping:
                self._note(line, inner, f"stands twice (first in line {self._lines[inner]}); remove one")
            else:
                self._lines[inner] = line
                mapping[key] = self._convert(loader, value_node, inner)
        for part in merged:
            if not isinstance(part, yaml.MappingNode):
                self._note(part.start_mark.line + 1, path, "'<<' takes a mapping, or a list of them")
                continue
            self._count((*path, "<<"), part.start_mark.line + 1)
            for key, value in self._mapping(loader, part, (*path, "<<")).items():
                if key not in mapping:
                    mapping[key] = value
                    self._lines.setdefault((*path, key), self.line((*path, "<<", key)))
        return mapping

    def _copy(self, value: Any, path: Path) -> Any:
        self._count(path, 1)
        if isinstance(value, Mapping):
            return {str(key): self._copy(inner, (*path, str(key))) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self._copy(inner, (*path, i)) for i, inner in enumerate(value)]
        return self._fill(value, path)

    def _fill(self, value: Any, path: Path) -> Any:
        if not isinstance(value, str) or "${" not in value:
            return value
        if not self.variables:
            self.problem(path, "may hold no '${': variables are not filled in here, where keys could be read by them")
            return ""

        def variable(match: re.Match[str]) -> str:
            if match[1] is None:
                return "${"  # $${ stands for itself
            named = _NAME.fullmatch(match[1])
            if named is None or not match[2] or "${" in match[1]:
                self.problem(
                    path, "has a '${' that names no variable: write ${NAME}, ${NAME:-default}, or $${ for '${'"
                )
                return ""
            found = self.env.get(named[1]) or named[2]
            if found is None:
                self.missing[path] = named[1]
            return found or ""

        self._filled[path] = value
        return _VARIABLE.sub(variable, value)


def _put_back(text: str) -> str:
    return text.replace(_OPEN, "${").replace(_CLOSE, "}")


def _measure(text: str) -> None:
    """Raises _TooMuch for a document that is too deep or has too many values, whatever the errors in it."""
    depth = values = 0
    for event in yaml.parse(text, _Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        values += isinstance(event, yaml.NodeEvent)
        # A mapping's keys are values here.
        if depth > MAX_DEPTH or values > 2 * MAX_VALUES:
            raise _TooMuch(1 if event.start_mark is None else event.start_mark.line + 1)


class _TooMuch(Exception):
    def __init__(self, line: int) -> None:
        super().__init__(f"has over {MAX_VALUES} values or {MAX_DEPTH} levels, aliases followed")
        self.line = line
