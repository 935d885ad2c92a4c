"""Results read line by line, `results.jsonl` or parquet: one line an item and arm, whoever wrote it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import orjson

from orchestrator.batch import parquet
from orchestrator.errors import OrchestratorError
from orchestrator.types import Json

RESULTS = "results.jsonl"
FAILED = "failed.jsonl"
"""Lines that were taken out of the results to be tried again."""
RUN = "run.json"
_NEEDED = {"batch": "statistics and plots need", "data": "inputs of many files, and results in parquet, need"}


class ResultsError(OrchestratorError):
    """A folder whose results cannot be used. Its text is one line of what is wrong."""


class Manifest(NamedTuple):
    """What `run.json` says of a run, as far as it does."""

    name: str
    arms: Mapping[str, str]
    """The selector of each arm that has one."""
    items: int | None
    """How many items each arm has in all."""
    questions: str | None
    """The input, where the runner found it."""


def read(folder: str | Path) -> Iterator[Json]:
    """The lines of a folder's results, as they stand there: those of its parquet, if it has some.

    A last line without its line feed is one whose writing was killed: it is passed over. Raises ResultsError where there are
    no results, or a line is none.
    """
    if (Path(folder) / parquet.RESULTS).is_dir():
        return _parquet(folder, parquet.RESULTS)
    return _lines(Path(folder) / RESULTS)


def failed(folder: str | Path) -> Iterator[Json]:
    """The lines that were taken out to be asked again. Raises ResultsError where one is none."""
    if (Path(folder) / parquet.FAILED).is_dir():
        yield from _parquet(folder, parquet.FAILED)
    elif (path := Path(folder) / FAILED).exists():
        yield from _lines(path)


def _parquet(folder: str | Path, name: str) -> Iterator[Json]:
    require("pyarrow", extra="data")
    # Its errors are ValueErrors and OSErrors: a file that is none, or cannot be read.
    try:
        yield from parquet.lines(folder, name)
    except (ValueError, KeyError, OSError) as error:
        raise ResultsError(f"{Path(folder) / name}: cannot be read: {error}") from None


def _lines(path: Path) -> Iterator[Json]:
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


def require(*modules: str, extra: str = "batch") -> None:
    """Raises ResultsError where a module is missing that comes with an extra."""
    for name in modules:
        try:
            import_module(name)
        except ImportError:
            what = f"{_NEEDED[extra]} {name}: pip install 'orchestrator[{extra}]'"
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
            None if questions is None else str(questions),
        )
    except FileNotFoundError:
        return Manifest(Path(folder).resolve().name, {}, None, None)
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise ResultsError(f"{path}: cannot be read: {error}") from None
