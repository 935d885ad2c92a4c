"""Batches whose input outgrows one driver: Ray Data reads it in blocks, workers ask, and results are parquet.

    read (a file a task) -> the ids that are done, left out -> workers (actors/worker.py) -> a file a block -> its ids, done

What is done is Ray Data's checkpoint: it puts the ids of a block on the disk before its results, as pending, and makes them
count after; whoever goes on removes results whose ids are pending, and leaves items out whose ids count. The id is the item's,
and a row on its way is an item with the lines of all its arms, because Ray leaves out right behind the read, where there are
no arms yet.

Three of its habits do not fit calls that cost money. It would ask a block again that was with a worker that died: here its
tasks are not tried again (`max_task_retries=0`), what they had handed on stays, and another pass over the input asks what is
left. It would end the run for one lost block: here blocks may be lost, and whatever else fails stops the run. And it would
join what a call yields to blocks of 128 MB: a block here is about as large as what a window of answers takes, so that a killed
run has paid twice for one block at most, and for what was in flight.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import math
import os
import pickle
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from typing import Any

import pyarrow as pa
import ray
import ray.data
from pyarrow import parquet
from ray.data import ActorPoolStrategy, DataContext
from ray.data.block import BlockAccessor, BlockMetadata
from ray.data.checkpoint import CheckpointConfig
from ray.data.datasource import BlockBasedFileDatasink, Datasource, ReadTask
from ray.exceptions import ObjectLostError, RayActorError, RayError, WorkerCrashedError
from ray.util.annotations import RayDeprecationWarning

from actors import foreman
from actors.running import DONE, STOPPED, end, report, say, who_answers
from actors.worker import Worker
from orchestrator.batch import blocks
from orchestrator.batch.asking import STOP_S
from orchestrator.batch.blocks import Chosen, Files, Looked, Row
from orchestrator.batch.costs import worst_of
from orchestrator.batch.dry import estimate, told
from orchestrator.batch.folder import Unwritable
from orchestrator.batch.items import Item, asked_of, item_of
from orchestrator.batch.parquet import CHECKPOINT, ID, RESULTS, DataFolder, expand
from orchestrator.batch.planning import NoPrice
from orchestrator.batch.runner import LOOK_S
from orchestrator.batch.spec import Spec, problem
from orchestrator.batch.tally import Progress, Tally
from orchestrator.config.settings import Config
from orchestrator.errors import ConfigError

WINDOW = 500
"""Requests that one worker has in flight, unless the spec says how many workers there are."""
PLACE_BYTES = 2048
"""A block is so large for each place of a worker's window: about two answers' lines."""
BLOCKS = 64
"""Blocks that a worker has at a time: with them, items of 128 kB still fill its window."""
CPUS = 0.25
"""What each step asks Ray for: little, since gates bound the load, and something, so that steps do not all run at once."""
FILTERS, FILTER_BYTES = 2, 200_000_000
"""Actors that leave out what is done, and the least memory that each asks Ray for: all ids that are done lie in it."""
ENDING_S = 1.0
"""How long the last blocks may take to the disk when a run is told to stop, beside what is in flight."""
_LOST = (RayActorError, WorkerCrashedError, ObjectLostError)


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


async def run_blocks(args: argparse.Namespace, spec: Spec, config: Config) -> int:
    """Runs a batch; returns its exit code. Raises what `actors.batch.run` tells of."""
    if args.limit is not None:
        what = "has no first items, since files are read beside one another: --sample N takes N of them, the same for a seed"
        raise problem(args.spec, ("input",), what)
    try:
        files = await asyncio.to_thread(blocks.files_of, spec.input)
    except (ValueError, OSError) as error:
        raise problem(args.spec, ("input",), str(error)) from None
    if args.dry_run:
        return await asyncio.to_thread(_dry_run, args, spec, config)
    _check_prices(spec, config)
    async with AsyncExitStack() as stack:
        attached = await who_answers(stack, args, spec, config) is not None
        looked = await asyncio.to_thread(_look, files, spec, args.seed if args.sample else None)
        folder = DataFolder(spec.output)
        run = folder.open(spec, looked.sha256, force=args.force, now_s=time.time())
        stack.callback(folder.close)
        chosen = None if args.sample is None else blocks.chosen(looked, args.sample, args.seed)
        items = looked.items if args.sample is None else min(args.sample, looked.items)
        folder.note({**run, "items": items})
        if args.retry_failed:
            await asyncio.to_thread(folder.take_failed)
        batch = _Batch(spec, config, files, folder, items, chosen, attached, run["began_at"])
        await batch.run()
        code = end(args, spec, batch.tally, out_of_money=batch.out_of_money, stopped=batch.stopping)
    if not batch.stopping:
        await asyncio.to_thread(report, spec.output)
    return code


class _Batch:
    """A run that is under way."""

    def __init__(
        self,
        spec: Spec,
        config: Config,
        files: Files,
        folder: DataFolder,
        items: int,
        chosen: Chosen | None,
        attached: bool,
        began_at: float,
    ) -> None:
        self.stopping = False
        self.out_of_money = False
        self._spec = spec
        self._config = config
        self._files = files
        self._folder = folder
        self._total = items * len(spec.selectors())
        self._chosen = chosen
        self._attached = attached
        self._began_at = began_at
        self._workers = spec.workers or _workers(spec.concurrency)
        self.tally = self._counted()
        self._progress = Progress(spec.name, self.tally, sys.stdout)
        self._foreman: Any = None

    async def run(self) -> None:
        """Passes over the input until all is done, nothing more can be, or it was told to stop. Raises Unwritable where the
        results cannot be written, and ConfigError where a worker says that it cannot go on."""
        for name in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(name, self._stop)
        before = self.tally.done
        while not self.stopping and self.tally.done < self._total:
            done = self.tally.done
            await self._pass()
            self.tally = self._progress.tally = await asyncio.to_thread(self._counted)
            self.tally.here = self.tally.done - before
            if self.out_of_money or self.tally.done == done:
                break
        self._progress.end()

    def _stop(self) -> None:
        if self.stopping:
            os._exit(STOPPED)  # asked twice: what is on the disk is as good as ever
        self.stopping = True
        if self._foreman is not None:
            self._foreman.stop.remote()

    async def _pass(self) -> None:
        """One pass over the input."""
        held = await asyncio.to_thread(self._folder.held)
        self._foreman = foreman.make()
        job = foreman.Job(
            self._spec,
            self._config,
            self._attached,
            self._began_at,
            self._workers,
            held.spent_usd,
            self._chosen,
            held.had,
        )
        await self._foreman.begin.remote(job)
        heard = _Heard()
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        # Not in the loop's executor, which whoever ends waits for: a run that was stopped does not.
        threading.Thread(target=self._execute, args=(heard, loop, ended), daemon=True).start()
        until_s = math.inf
        failure: str | None = None
        while not ended.done() and time.monotonic() < until_s:
            await asyncio.wait([ended], timeout=LOOK_S)
            news = await self._news()
            for arm, outcome, cost in news.lines:
                self.tally.add(arm, outcome, cost, here=True)
            self._progress.look()
            self.out_of_money = self.out_of_money or news.refused
            failure = failure or news.failure or heard.failure
            if failure is not None:
                await self._hurry()
            if (failure is not None or self.stopping) and until_s == math.inf:
                until_s = time.monotonic() + STOP_S + ENDING_S
        if failure is not None:
            raise Unwritable(failure)
        if ended.done():
            ended.result()
        ray.kill(self._foreman)

    async def _news(self) -> foreman.News:
        try:
            news: foreman.News = await self._foreman.news.remote()
        except RayError as error:
            return foreman.News(failure=f"the actor that hands out the work was lost ({type(error).__name__})")
        return news

    async def _hurry(self) -> None:
        try:
            await self._foreman.stop.remote()
        except RayError:
            return  # without it, workers stop by themselves

    def _execute(self, heard: _Heard, loop: asyncio.AbstractEventLoop, ended: asyncio.Future[None]) -> None:
        error: BaseException | None = None
        try:
            with _context(max(1, self._spec.concurrency // self._workers) * PLACE_BYTES, heard) as context:
                context.max_errored_blocks = -1
                context.autoscaling_config.actor_pool_util_downscaling_threshold = 0.0
                context.checkpoint_config = _checkpoint(self._folder.path)
                self._ask(_dataset(self._files))
        except BaseException as caught:
            error = caught

        def tell() -> None:
            if not ended.done():
                ended.set_result(None) if error is None else ended.set_exception(_told(error))

        try:
            loop.call_soon_threadsafe(tell)
        except RuntimeError:
            return  # the loop is closed: nobody waits any more

    def _ask(self, dataset: ray.data.Dataset) -> None:
        with warnings.catch_warnings():
            # `max_task_retries` has no parameter of its own yet, and options without one are to go.
            warnings.simplefilter("ignore", RayDeprecationWarning)
            lines = self._lines(dataset)
        lines.write_datasink(
            Sink(os.path.join(self._folder.path, RESULTS), file_format="parquet"), ray_remote_args={"num_cpus": CPUS}
        )

    def _lines(self, dataset: ray.data.Dataset) -> ray.data.Dataset:
        return dataset.map_batches(
            Worker,
            fn_constructor_args=(self._foreman,),
            batch_size=None,
            batch_format="pyarrow",
            # One at the least: with few blocks left, Ray warns of any more.
            compute=ActorPoolStrategy(
                min_size=1,
                max_size=self._workers,
                initial_size=self._workers,
                max_tasks_in_flight_per_actor=BLOCKS,
                max_concurrent_calls_per_actor=BLOCKS,
                enable_true_multi_threading=True,
            ),
            num_cpus=CPUS,
            max_task_retries=0,
        )

    def _counted(self) -> Tally:
        """What is on the disk."""
        tally, arms = Tally(self._total), self._spec.selectors()
        for item, arm, outcome, cost, _ in self._folder.rows():
            if arm in arms and (self._chosen is None or item in self._chosen):
                tally.add(arm, outcome, cost, here=False)
        return tally


def _workers(concurrency: int) -> int:
    """As many as a window takes, and as there are processors for."""
    return max(1, min(math.ceil(concurrency / WINDOW), int(ray.cluster_resources().get("CPU", 1))))


def _told(error: BaseException) -> Unwritable:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return Unwritable(f"the run broke off ({type(error).__name__}): {reason}")


def _dataset(files: Files) -> ray.data.Dataset:
    return ray.data.read_datasource(Source(files), override_num_blocks=len(files.paths), num_cpus=CPUS)


def _checkpoint(folder: str) -> CheckpointConfig:
    config = CheckpointConfig(ID, os.path.join(folder, CHECKPOINT), delete_checkpoint_on_success=False)
    config.checkpoint_actor_pool_max_size = FILTERS
    config.checkpoint_actor_memory_bytes = FILTER_BYTES
    return config


def _look(files: Files, spec: Spec, seed: int | None) -> Looked:
    """Looks at all of the input, so that nothing is asked before it is known that all can be. Raises ConfigError."""
    with _context(1_000_000, _Heard()):
        dataset = _dataset(files)
        looked = Looked()
        try:
            looked = sum(_batches(dataset, partial(_looked, files=files, spec=spec, seed=seed)), looked)
            problems = looked.problems
            if not problems and (marks := blocks.twice(looked.marks)):
                # Ids of the same mark may still be two.
                rows = [
                    Row(*one) for part in _batches(dataset, partial(_marked, files=files, marks=marks)) for one in part
                ]
                problems = blocks.doubled(rows)
        except (RayError, OSError) as error:
            problems = [str(_told(error))]
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


class _Heard(logging.Handler):
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
            self.failure = str(_told(causes[-1]))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and what it comes of."""
    while error is not None:
        yield error
        error = getattr(error, "cause", None) or error.__cause__


@contextmanager
def _context(block_bytes: int, heard: _Heard) -> Iterator[DataContext]:
    """Ray Data as it is wanted here: blocks of about a size, and nothing said beside our own progress."""
    context = DataContext.get_current().copy()
    context.target_max_block_size = block_bytes
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.enable_auto_log_stats = False
    log = logging.getLogger("ray.data")
    handlers = log.handlers
    # Its file in the session's folder goes on; what it would print does not.
    log.handlers = [one for one in handlers if not isinstance(one, logging.StreamHandler)] + [heard]
    try:
        with DataContext.current(context):
            yield context
    finally:
        log.handlers = handlers


def _check_prices(spec: Spec, config: Config) -> None:
    """Raises NoPrice where a budget cannot be kept, as far as that is known by the arms' names."""
    worst = worst_of(config)
    probe = Item(1, "probe", "/v1/chat/completions", {"messages": [{"role": "user", "content": "?"}]})
    for arm, selector in spec.selectors().items():
        if spec.budget_usd is not None and selector is not None:
            asked = asked_of(probe, selector, spec.params)
            if worst(asked) is None:
                raise NoPrice.of(arm, asked)


class _Rest:
    """What there is to do, for `--dry-run`: read here, one file after the other, and once for each arm."""

    def __init__(self, args: argparse.Namespace, spec: Spec) -> None:
        selector = next(iter(spec.selectors().values()))
        looked = blocks.look(blocks.rows_in(spec.input), spec.params, selector, args.seed if args.sample else None)
        if looked.problems:
            raise ConfigError(tuple(looked.problems))
        folder = DataFolder(spec.output)
        self.spec = spec
        self.items = looked.items if args.sample is None else min(args.sample, looked.items)
        self.tally = Tally(self.items * len(spec.selectors()))
        self._chosen = None if args.sample is None else blocks.chosen(looked, args.sample, args.seed)
        self._done = {(item, arm) for item, arm, *_ in folder.rows()}
        for item, arm, outcome, cost, _ in folder.rows():
            if self._chosen is None or item in self._chosen:
                self.tally.add(arm, outcome, cost, here=False)

    def rest(self, arm: str) -> Iterator[Item]:
        """See `orchestrator.batch.dry.Planned`."""
        for row in blocks.rows_in(self.spec.input):
            if (row.id, arm) not in self._done and (self._chosen is None or row.id in self._chosen):
                yield item_of(row.number, row.content)


def _dry_run(args: argparse.Namespace, spec: Spec, config: Config) -> int:
    estimated = estimate(_Rest(args, spec), config, worst_of(config), args.latency)
    say(json.dumps(estimated) if args.json else told(estimated))
    return DONE
