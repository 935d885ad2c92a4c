"""Results in parquet, as many workers write them: a file a block, in the folder `results` of a batch's folder.

A row has the columns of a line of `results.jsonl` (`orchestrator.batch.lines`); what may be of any shape (an expected answer,
a vote, tool calls, a response in OpenAI's shape) is JSON in it. A file counts once its block is done, which the file of the
same name in `checkpoint` says: there, Ray Data keeps the ids of the items that it need not ask again. An item of which some
arms are to be asked again has lines and no id there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from orchestrator.batch.folder import OK, BadFolder, Claim, Unwritable
from orchestrator.batch.folder import RESULTS as LINES
from orchestrator.batch.lines import counted_usd, paid_usd
from orchestrator.files import replace
from orchestrator.types import Json

if TYPE_CHECKING:
    import pyarrow as pa

RESULTS, FAILED, CHECKPOINT = "results", "failed", "checkpoint"
"""Folders: lines that count; lines that were taken out to be asked again; ids of items that are done."""
ID = "id"
"""The column of `checkpoint`."""
_JSON = frozenset({"expected", "consensus", "tool_calls", "response"})
_MAYBE = frozenset({"finish_reason", "tool_calls", "charged_usd", "custom_id", "response"})
"""What a line has only where there is something to say."""
_MONEY = ("cost_usd", "charged_usd", "score.cost_usd")
ROWS = 1024
"""Rows that are read at a time."""


def schema() -> pa.Schema:
    """The columns."""
    import pyarrow as pa

    error = pa.struct([("code", pa.string()), ("message", pa.string())])
    score = pa.struct(
        [("correct", pa.bool_()), ("extracted", pa.string()), ("why", pa.string()), ("cost_usd", pa.float64())]
    )
    texts = ("item", "arm", "outcome", "text", "expected", "provider", "model", "winner", "consensus", "request_id")
    numbers = ("cost_usd", "charged_usd", "latency_s", "waited_s", "at", "start_s")
    counts = ("input_tokens", "output_tokens", "attempts", "asks")
    return pa.schema(
        [
            *((name, pa.string()) for name in (*texts, "finish_reason", "tool_calls", "custom_id", "response")),
            *((name, pa.float64()) for name in numbers),
            *((name, pa.int64()) for name in counts),
            ("cost_is_estimate", pa.bool_()),
            ("error", error),
            ("score", score),
        ]
    )


def table_of(lines: Iterable[Json]) -> pa.Table:
    """Lines of results as rows."""
    import pyarrow as pa

    return pa.Table.from_pylist([{**line, **_written(line)} for line in lines], schema=schema())


def _written(line: Json) -> Json:
    return {name: orjson.dumps(line[name]).decode() for name in _JSON if line.get(name) is not None}


def _line(row: Json) -> Json:
    for name in _JSON:
        if row[name] is not None:
            row[name] = orjson.loads(row[name])
    return {name: value for name, value in row.items() if value is not None or name not in _MAYBE}


def lines(folder: str | Path, name: str = RESULTS) -> Iterator[Json]:
    """The lines of a folder, file by file."""
    from pyarrow import parquet

    for path in _files(Path(folder), name):
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(ROWS):
                yield from map(_line, batch.to_pylist())


def _files(folder: Path, name: str = RESULTS) -> list[Path]:
    """Those that count."""
    files = sorted((folder / name).glob("*.parquet"))
    checkpoint = folder / CHECKPOINT
    return [one for one in files if name != RESULTS or (checkpoint / one.name).exists()]


@dataclass(slots=True)
class Held:
    """What a folder holds."""

    had: dict[str, frozenset[str]] = field(default_factory=dict)
    """Items that are not done, and the arms that they have lines of."""
    spent_usd: float = 0.0
    """What a budget counts, lines that were asked again included."""


class DataFolder(Claim):
    """The folder of a batch whose results are parquet, held by this process from `open` to `close`."""

    def _begin(self) -> None:
        if os.path.exists(self._at(LINES)):
            raise BadFolder(f"{self.path}: holds a {LINES}, of a run with one file of input: give another `output`")
        for name in (RESULTS, CHECKPOINT):
            os.makedirs(self._at(name), exist_ok=True)

    def _forced(self, differs: Sequence[str]) -> bool:
        # Items that are done are left out, whatever their arms; those of another input would count as this one's.
        return [*differs] == ["params"]

    def rows(self) -> Iterator[tuple[str, str, str, float | None, float]]:
        """Item, arm, outcome, cost (a judge's included), and what a budget counts, of each line. Raises BadFolder."""
        return _rows(Path(self.path), RESULTS)

    def held(self) -> Held:
        """What is there. Raises BadFolder."""
        held = Held(spent_usd=sum(row[4] for row in _rows(Path(self.path), FAILED)))
        for path in _files(Path(self.path)):
            table = _table(path, ["item", "arm", *_MONEY])
            held.spent_usd += sum(map(counted_usd, table.drop_columns(["item", "arm"]).to_pylist()))
            done = set(_table(Path(self.path) / CHECKPOINT / path.name)[ID].to_pylist())
            for item, arm in zip(table["item"].to_pylist(), table["arm"].to_pylist(), strict=True):
                if item not in done:
                    held.had[item] = held.had.get(item, frozenset()) | {arm}
        done_elsewhere = self._done(held.had)
        held.had = {item: arms for item, arms in held.had.items() if item not in done_elsewhere}
        return held

    def _done(self, items: Mapping[str, Any]) -> set[str]:
        """Those of some items that are done: asked again since, in another file."""
        if not items:
            return set()
        done: set[str] = set()
        for path in (Path(self.path) / CHECKPOINT / one.name for one in _files(Path(self.path))):
            done.update(item for item in _table(path)[ID].to_pylist() if item in items)
        return done

    def take_failed(self) -> int:
        """Moves lines that are no answers from the results to the folder of those that failed, and has their items asked
        again; how many. Raises Unwritable and BadFolder.

        Killed in between, it leaves items that are not done and whose failures stand: another run takes them as they are,
        and has them done in a file of its own. So their ids are looked for in all files, before any failure is taken out.
        """
        try:
            paths = _files(Path(self.path))
            found = {path: items for path in paths if (items := self._copy_failed(path))}
            again = set().union(*found.values())
            for path in paths if again else ():
                _keep(
                    Path(self.path) / CHECKPOINT / path.name,
                    lambda ids: [one not in again for one in ids[ID].to_pylist()],
                )
            return sum(_keep(path, _ok) for path in found)
        except OSError as error:
            raise Unwritable(f"{self.path} cannot be written: {error.strerror or error}") from None

    def _copy_failed(self, path: Path) -> set[str]:
        """Puts the failures of a file with those that failed; their items."""
        import pyarrow as pa
        import pyarrow.compute as pc

        table = _table(path)
        failed = table.filter(pc.not_equal(table["outcome"], OK))
        items = set(failed["item"].to_pylist())
        if not items:
            return items
        aside = Path(self.path) / FAILED / path.name
        aside.parent.mkdir(exist_ok=True)
        if aside.exists():
            before = _table(aside)
            new = pc.invert(pc.is_in(failed["request_id"], before["request_id"].combine_chunks()))
            failed = pa.concat_tables([before, failed.filter(new)])
        _replace(aside, failed)
        return items


def _rows(folder: Path, name: str) -> Iterator[tuple[str, str, str, float | None, float]]:
    from pyarrow import parquet

    columns = ["item", "arm", "outcome", *_MONEY]
    for path in _files(folder, name):
        with _reading(path), parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(ROWS, columns=columns):
                for row in batch.to_pylist():
                    yield row["item"], row["arm"], row["outcome"], paid_usd(row), counted_usd(row)


def _table(path: Path, columns: list[str] | None = None) -> pa.Table:
    from pyarrow import parquet

    with _reading(path), parquet.ParquetFile(path) as file:
        return file.read(columns)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (ValueError, OSError) as error:  # Arrow's own are among them
        what = f"without {path.name} in {RESULTS} and in {CHECKPOINT}, its items are asked again"
        raise BadFolder(f"{path}: cannot be read: {str(error).splitlines()[0]}; {what}") from None


def _ok(table: pa.Table) -> list[bool]:
    return [outcome == OK for outcome in table["outcome"].to_pylist()]


def _keep(path: Path, wanted: Callable[[pa.Table], list[bool]]) -> int:
    """Takes the rows out of a file that are not wanted; how many."""
    import pyarrow as pa

    table = _table(path)
    rest = table.filter(pa.array(wanted(table), pa.bool_()))
    if rest.num_rows < table.num_rows:
        _replace(path, rest)
    return int(table.num_rows - rest.num_rows)


def _replace(path: Path, table: pa.Table) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    sink = pa.BufferOutputStream()
    parquet.write_table(table, sink)
    replace(path, sink.getvalue().to_pybytes())


def expand(blocks: Sequence[bytes]) -> pa.Table:
    """What workers have of items (`orchestrator.batch.feed.Done.lines`), as rows."""
    return table_of(orjson.loads(line) for lines in blocks for line in lines.splitlines())
