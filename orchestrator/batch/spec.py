"""What a batch evaluation is to do: the YAML of contract §7, validated, every problem in one line with its place."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

from annotated_types import Ge, Gt, Le, MaxLen, MinLen

from orchestrator.batch.blocks import in_blocks
from orchestrator.batch.score import Score, read_score
from orchestrator.batch.scoring import Scorer
from orchestrator.config.document import MAX_BYTES, Document, TooManyProblems
from orchestrator.config.load import answers
from orchestrator.config.scalars import STRICT
from orchestrator.config.sections import read_section
from orchestrator.config.votes import Wrong
from orchestrator.errors import ConfigError
from orchestrator.wire.checks import CHAT, check_fields
from orchestrator.wire.http import Refused

MAX_ARMS = 64
MAX_PATH = 4096
"""Characters of a path in a message: its end is what it is looked for by."""
OWN = "own"
"""The arm of OpenAI Batch lines that are asked of the model which each names itself."""
_ARM = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_NOT_PARAMS = {
    "model": "the arms say which",
    "messages": "they are the items'",
    "stream": "a batch has whole answers",
}


@dataclass(frozen=True, slots=True)
class Spec:
    """A batch evaluation. Paths are absolute once it is loaded."""

    __pydantic_config__: ClassVar = STRICT
    name: Annotated[str, MinLen(1), MaxLen(100)]
    input: Annotated[str, MinLen(1)]
    """Items: a file of JSONL; or, for many workers, what `orchestrator.batch.blocks` reads."""
    output: Annotated[str, MinLen(1)]
    """The folder of the results."""
    config: str | None = None
    """The configuration that is used where no running application is attached to; None: the default one."""
    arms: dict[str, str] = field(default_factory=dict)
    """Name -> selector. Empty: OpenAI Batch lines, each asked of its own `model`."""
    params: dict[str, Any] = field(default_factory=dict)
    """Parameters of all requests; an item's own win."""
    concurrency: Annotated[int, Gt(0), Le(10_000)] = 64
    """Requests in flight."""
    workers: Annotated[int, Gt(0), Le(1_000)] | None = None
    """By how many processes an input of many files is asked; None: as many as `concurrency` takes. One file has one."""
    score: Any = None
    """When an answer is right (`orchestrator.batch.score`); None: nothing is scored."""
    budget_usd: Annotated[float, Ge(0)] | None = None
    """What all of it may cost at the most, runs before this one included."""

    def selectors(self) -> Mapping[str, str | None]:
        """The arms; None: the item's own model."""
        return self.arms or {OWN: None}

    def named(self) -> list[tuple[tuple[str, ...], str]]:
        """The selectors that stand in it, each with its place."""
        named: list[tuple[tuple[str, ...], str]] = [(("arms", arm), selector) for arm, selector in self.arms.items()]
        scorer = self.scorer()
        if scorer is not None and scorer.judge is not None:
            named.append((("score", "judge"), scorer.judge))
        return named

    def scorer(self) -> Scorer | None:
        """What scores the answers of a spec that was loaded."""
        rule = None if self.score is None else read_score(self.score)
        return Scorer(rule) if isinstance(rule, Score) else None


def load_spec(path: str | os.PathLike[str], env: Mapping[str, str] | None = None, *, output: str | None = None) -> Spec:
    """Reads a spec; relative paths in it begin at its folder. `output`: another folder of results. Raises ConfigError."""
    document = Document(str(path), os.environ if env is None else env, answers)
    try:
        _parse(document, path)
        if not document.problems:
            spec = _read(document, Path(path).resolve().parent, output)
            if spec is not None and not document.problems:
                return spec
    except TooManyProblems:
        pass
    raise ConfigError(tuple(document.problems))


def problem(path: str | os.PathLike[str], key: tuple[str, ...], what: str) -> ConfigError:
    """What turns out later to be wrong with a key of a spec that was loaded."""
    document = Document(str(path), os.environ, answers)
    _parse(document, path)
    document.problem(key, what)
    return ConfigError(tuple(document.problems))


def _parse(document: Document, path: str | os.PathLike[str]) -> None:
    """Raises TooManyProblems, and ConfigError for a file that cannot be read."""
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError((f"{document.source}:1: document: cannot be read: {reason}",)) from None
    document.read(content)


def _read(document: Document, folder: Path, output: str | None) -> Spec | None:
    for at, variable in document.missing.items():
        what = f"the environment variable {variable} is not set; export it, or give a default: ${{{variable}:-…}}"
        document.problem(at, what)
    if document.missing:
        return None
    if not isinstance(document.data, dict):
        document.problem((), "has to be a mapping with the keys name, input, output and arms")
        return None
    read: Spec | None = read_section(document, (), Spec, document.data)
    if read is None:
        return None
    _check_arms(document, read)
    if read.score is not None and isinstance(wrong := read_score(read.score), Wrong):
        document.problem(("score",) if wrong.key == "score" else ("score", wrong.key), wrong.reason)
    for name in read.params:
        if name in _NOT_PARAMS:
            document.problem(("params", name), f"is no parameter here: {_NOT_PARAMS[name]}")
    try:
        check_fields(read.params, CHAT)
    except Refused as refused:
        param = refused.param or ""
        document.problem(("params", param.partition(".")[0]), str(refused).removeprefix(f"'{param}' "))
    given = read.input if "://" in read.input else os.path.normpath(folder / read.input)
    config = None if read.config is None else os.path.normpath(folder / read.config)
    results = os.path.normpath(folder / read.output) if output is None else os.path.abspath(output)
    # What many files hold is seen when they are listed.
    for key, path in (("input", None if in_blocks(given) else given), ("config", config)):
        if path is not None and not os.path.isfile(path):
            document.problem((key,), f"{document.shown((key,), path, MAX_PATH)} is no file")
    if os.path.exists(results) and not os.path.isdir(results):
        document.problem(("output",), f"{document.shown(('output',), results, MAX_PATH)} is no folder")
    return replace(read, input=given, config=config, output=results)


def _check_arms(document: Document, spec: Spec) -> None:
    if len(spec.arms) > MAX_ARMS:
        document.problem(("arms",), f"has over {MAX_ARMS} entries")
    for name, selector in spec.arms.items():
        if not _ARM.fullmatch(name):
            document.problem(
                ("arms", name), "is called what no arm can be: letters, digits, '_', '-' and '.', 64 at most"
            )
        if not selector:
            document.problem(("arms", name), "has to be a selector, such as 'openai/gpt-4o-mini' or 'tier:fast'")
