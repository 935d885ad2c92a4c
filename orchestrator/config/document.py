"""A YAML document with the line of every key, and with its variables filled in.

Guards: at most 1 MB, 20,000 nodes after aliases are followed (a bomb of aliases stops there), 40 levels, no duplicate
keys, no tags beyond the plain ones.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

MAX_BYTES = 1_000_000
MAX_NODES = 20_000
MAX_DEPTH = 40

Path = tuple[str | int, ...]
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(:-([^}]*))?\}")


def dotted(path: Path) -> str:
    """`('tiers', 'fast', 'models', 0)` as `tiers.fast.models[0]`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".") or "document"


class Document:
    """A document's data, its lines, and what is wrong with it so far."""

    def __init__(self, source: str, env: Mapping[str, str]) -> None:
        self.source = source
        self.env = env
        self.data: Any = None
        self.problems: list[str] = []
        self.missing: dict[Path, str] = {}
        """Variables that are not set, by the place that names them: an error, unless the provider there is optional."""
        self._lines: dict[Path, int] = {}
        self._nodes = 0

    def problem(self, path: Path, what: str) -> None:
        """Notes one: `file:line: key: what`."""
        self.problems.append(f"{self.source}:{self.line(path)}: {dotted(path)}: {what}")

    def line(self, path: Path) -> int:
        """The line of the nearest key that stands in the file."""
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 1)

    def read(self, content: bytes) -> None:
        """Parses YAML."""
        if len(content) > MAX_BYTES:
            self.problems.append(f"{self.source}:1: document: is larger than {MAX_BYTES // 1_000_000} MB")
            return
        try:
            loader = _Loader(content.decode("utf-8"))
            node = loader.get_single_node()
            if node is not None:
                self.data = self._convert(loader, node, ())
        except UnicodeDecodeError as error:
            self.problems.append(f"{self.source}:1: document: is not UTF-8 (byte {error.start})")
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = 1 if mark is None else mark.line + 1
            what = " ".join(str(error.problem or error.context).split())
            hint = "; indent with spaces, not tabs" if "cannot start any token" in what else ""
            self.problems.append(f"{self.source}:{line}: document: is not YAML: {what}{hint}")
        except yaml.YAMLError as error:
            self.problems.append(f"{self.source}:1: document: is not YAML: {' '.join(str(error).split())[:200]}")
        except _TooMuch as error:
            self.problems.append(f"{self.source}:{error.line}: document: {error}")

    def take(self, data: Any) -> None:
        """Uses data that were parsed elsewhere; variables are filled in all the same."""
        self.data = self._fill(data, ())

    def _convert(self, loader: Any, node: Any, path: Path) -> Any:
        line = node.start_mark.line + 1
        self._lines.setdefault(path, line)
        self._nodes += 1
        if self._nodes > MAX_NODES or len(path) > MAX_DEPTH:
            raise _TooMuch(f"has over {MAX_NODES} values or {MAX_DEPTH} levels, aliases followed", line)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(loader, node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self._convert(loader, item, (*path, i)) for i, item in enumerate(node.value)]
        return self._fill(loader.construct_object(node, deep=True), path)

    def _mapping(self, loader: Any, node: Any, path: Path) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self.problems.append(f"{self.source}:{line}: {dotted(path)}: a key has to be a plain word")
                continue
            inner = (*path, key_node.value)
            if key_node.value in mapping:
                what = f"stands twice (first in line {self._lines[inner]}); remove one"
                self.problems.append(f"{self.source}:{line}: {dotted(inner)}: {what}")
                continue
            self._lines[inner] = line
            mapping[key_node.value] = self._convert(loader, value_node, inner)
        return mapping

    def _fill(self, value: Any, path: Path) -> Any:
        if isinstance(value, dict):
            return {str(key): self._fill(inner, (*path, str(key))) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self._fill(inner, (*path, i)) for i, inner in enumerate(value)]
        if not isinstance(value, str) or "${" not in value:
            return value

        def variable(match: re.Match[str]) -> str:
            name, default = match[1], match[3]
            found = self.env.get(name) or default
            if found is None:
                self.missing[path] = name
                return ""
            return found

        return _VARIABLE.sub(variable, value)


class _TooMuch(Exception):
    def __init__(self, what: str, line: int) -> None:
        super().__init__(what)
        self.line = line
