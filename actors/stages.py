"""The stages of a batch as Ray Data has them: what reads, what looks, what writes, and how Ray Data itself is set up."""

from __future__ import annotations

import logging
import os
import pickle
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pyarrow as pa
import ray.data
from pyarrow import parquet
from ray.data import DataContext
from ray.data.block import BlockAccessor, BlockMetadata
from ray.data.checkpoint import CheckpointConfig
from ray.data.datasource import BlockBasedFileDatasink, Datasource, ReadTask
from ray.exceptions import NodeDiedError, ObjectLostError, RayActorError, RayError, WorkerCrashedError
from ray.util.annotations import RayDeprecationWarning

from orchestrator.batch import blocks
from orchestrator.batch.blocks import Files, Looked, Row
from orchestrator.batch.folder import Unwritable
from orchestrator.batch.parquet import CHECKPOINT, ID, expand
from orchestrator.batch.spec import Spec
from orchestrator.errors import ConfigError

CPUS = 0.25
"""What each step asks Ray for: little, since gates bound the load, and something, so that steps do not all run at once."""
FILTERS, FILTER_BYTES = 2, 200_000_000
"""Actors that leave out what is done, and the least memory that each asks Ray for: all ids that are done lie in it."""
LOOKED_BYTES = 1_000_000
"""A block is so large where rows are only looked at."""
_LOST = (RayActorError, WorkerCrashedError, NodeDiedError, ObjectLostError)


class Source(Datasource):
    """The rows of files, as `orchestrator.batch.blocks` reads them; a task a file."""

    def __init__(self, files: Files) -> None:
        super().__init__()
        self._files = files

    def estimate_inmemory_data_size(self) -> int | None:
        """Nobody has looked."""
        return None

    def get_read_tasks(self, *_: Any, **__: Any) -> list[ReadTask]:
        """See Datasource."""
        metadata = BlockMetadata(num_rows=None, size_bytes=None, exec_stats=None, input_files=None)
        filesystem, paths = self._files
        return [ReadTask(partial(_read, filesystem, path, index), metadata) for index, path in enumerate(paths)]


def _read(filesystem: Any, path: str, index: int) -> Iterator[pa.Table]:
    """A file's rows as tables; `index` is the file's."""
    rows: list[Row] = []
    for row in blocks.rows_of(filesystem, path):
        rows.append(row)
        if len(rows) == blocks.ROWS:
            yield _table(index, rows)
            rows = []
    if rows:
        yield _table(index, rows)


def _table(index: int, rows: list[Row]) -> pa.Table:
    return pa.table(
        {
            ID: pa.array([row.id for row in rows], pa.string()),
            "content": pa.array([row.content for row in rows], pa.binary()),
            "file": pa.array([index] * len(rows), pa.int32()),
            "number": pa.array([row.number for row in rows], pa.int64()),
        }
    )


def _rows(files: Files, table: pa.Table) -> Iterator[Row]:
    columns = (table[name].to_pylist() for name in (ID, "content", "file", "number"))
    return (Row(name, content, files.paths[index], at) for name, content, index, at in zip(*columns, strict=True))


class Sink(BlockBasedFileDatasink):
    """The lines of a block's items, as a file of `orchestrator.batch.parquet`."""

    def write_block_to_file(self, block: BlockAccessor, file: Any) -> None:
        """See BlockBasedFileDatasink."""
        parquet.write_table(expand(block.to_arrow()["lines"].to_pylist()), file)


def dataset(files: Files) -> ray.data.Dataset:
    return ray.data.read_datasource(Source(files), override_num_blocks=len(files.paths), num_cpus=CPUS)


def checkpoint(folder: str) -> CheckpointConfig:
    config = CheckpointConfig(ID, os.path.join(folder, CHECKPOINT), delete_checkpoint_on_success=False)
    config.checkpoint_actor_pool_max_size = FILTERS
    config.checkpoint_actor_memory_bytes = FILTER_BYTES
    return config


def look(files: Files, spec: Spec, seed: int | None) -> Looked:
    """Looks at all of the input, so that nothing is asked before it is known that all can be. Raises ConfigError."""
    with context(LOOKED_BYTES, Heard()):
        rows_read = dataset(files)
        looked = Looked()
        try:
            looked = Looked.together(_batches(rows_read, partial(_looked, files=files, spec=spec, seed=seed)))
            problems = looked.problems
            if not problems and (marks := blocks.twice(looked.marks)):
                # Ids of the same mark may still be two.
                rows = [
                    Row(*one)
                    for part in _batches(rows_read, partial(_marked, files=files, marks=marks))
                    for one in part
                ]
                problems = blocks.doubled(rows)
        except (RayError, OSError) as error:
            problems = [str(broken_off(error))]
    if not looked.items and not problems:
        problems = [f"{spec.input}:1: document: holds no item"]
    if problems:
        raise ConfigError(tuple(problems))
    return looked


def _batches(dataset: ray.data.Dataset, do: Any) -> Iterator[Any]:
    """What a function makes of each block, which may be whatever can be pickled."""
    parts = dataset.map_batches(partial(_part, do), batch_size=None, batch_format="pyarrow", num_cpus=CPUS)
    return (pickle.loads(row["part"]) for row in parts.iter_rows())  # noqa: S301 - from our own tasks, by Ray


def _part(do: Any, table: pa.Table) -> pa.Table:
    return pa.table({"part": pa.array([pickle.dumps(do(table))], pa.binary())})


def _looked(table: pa.Table, *, files: Files, spec: Spec, seed: int | None) -> Looked:
    return blocks.look(_rows(files, table), spec.params, next(iter(spec.selectors().values())), seed)


def _marked(table: pa.Table, *, files: Files, marks: frozenset[bytes]) -> list[Row]:
    return [row for row in _rows(files, table) if blocks.mark(row.id) in marks]


class Heard(logging.Handler):
    """What Ray Data says of blocks that it has lost: it says so in its log, and nowhere else."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.failure: str | None = None
        """What was wrong with one that was lost for another reason than that its process or its node was."""

    def emit(self, record: logging.LogRecord) -> None:
        """See logging.Handler."""
        error = record.exc_info[1] if record.exc_info else None
        if error is None or self.failure is not None:
            return
        causes = [*_causes(error)]
        if not any(isinstance(one, _LOST) for one in causes):
            self.failure = str(broken_off(causes[-1]))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and what it comes of."""
    while error is not None:
        yield error
        error = getattr(error, "cause", None) or error.__cause__


@contextmanager
def context(block_bytes: int, heard: Heard) -> Iterator[DataContext]:
    """Ray Data as it is wanted here: blocks of about a size, and nothing said beside our own progress."""
    with warnings.catch_warnings():
        # What Ray thinks of its own fields and files, and of options that have no parameter of their own yet.
        warnings.filterwarnings("ignore", module=r"ray\b")
        warnings.simplefilter("ignore", RayDeprecationWarning)
        found = DataContext.get_current().copy()
        found.target_max_block_size = block_bytes
        found.enable_progress_bars = False
        found.print_on_execution_start = False
        found.enable_auto_log_stats = False
        log = logging.getLogger("ray.data")
        handlers = log.handlers
        # Its file in the session's folder goes on; what it would print does not.
        log.handlers = [one for one in handlers if not isinstance(one, logging.StreamHandler)] + [heard]
        try:
            with DataContext.current(found):
                yield found
        finally:
            log.handlers = handlers


def broken_off(error: BaseException) -> Unwritable:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return Unwritable(f"the run broke off ({type(error).__name__}): {reason}")
