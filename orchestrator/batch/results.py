"""`results.jsonl` read line by line: one line an item and arm, whoever wrote it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import orjson

from orchestrator.errors import OrchestratorError
from orchestrator.types import Json

RESULTS = "results.jsonl"
FAILED = "failed.jsonl"
"""Lines that were taken out of the results to be tried again."""
RUN = "run.json"


class ResultsError(OrchestratorError):
    """A folder whose results cannot be used. Its text is one line of what is wrong."""


class Manifest(NamedTuple):
    """What `run.json` says of a run, as far as it does."""

    name: str
    arms: Mapping[str, str]
    """The selector of each arm that has one."""
    items: int | None
    """How many items each arm has in all."""
    questions: Path | None
    """The input, where the runner found it."""


def read(folder: str | Path, name: str = RESULTS) -> Iterator[Json]:
    """The lines of a folder's results, as they stand there.

    A last line without its line feed is one whose writing was killed: it is passed over. Raises ResultsError where there are
    no results, or a line is none.
    """
    path = Path(folder) / name
    try:
        file = path.open("rb")
    except OSError as error:
        raise ResultsError(f"{path}: there are no results: {error.strerror}") from None
    with file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            try:
                row = orjson.loads(line)
                _ = row["item"], row["arm"], row["outcome"]
            except (ValueError, TypeError, KeyError):
                raise ResultsError(f"{path}:{number}: is no line of results: item, arm and outcome as JSON") from None
            yield row


def require(*modules: str) -> None:
    """Raises ResultsError where a module is missing that comes with the extra `orchestrator[batch]`."""
    for name in modules:
        try:
            import_module(name)
        except ImportError:
            what = f"statistics and plots need {name}: pip install 'orchestrator[batch]'"
            raise ResultsError(what) from None


def manifest(folder: str | Path) -> Manifest:
    """What is known of a run beside its results. Raises ResultsError for a `run.json` that cannot be read."""
    path = Path(folder) / RUN
    try:
        said = orjson.loads(path.read_bytes())
        arms = {name: str(selector) for name, selector in (said.get("arms") or {}).items() if selector is not None}
        questions = said.get("input")
        return Manifest(
            str(said.get("name") or Path(folder).resolve().name),
            arms,
            said.get("items"),
            None if questions is None else Path(questions),
        )
    except FileNotFoundError:
        return Manifest(Path(folder).resolve().name, {}, None, None)
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise ResultsError(f"{path}: cannot be read: {error}") from None
