"""Batches whose input outgrows one driver: Ray Data reads it in blocks, workers ask, and results are parquet.

    read (a file a task) -> the ids that are done, left out -> workers (actors/worker.py) -> a file a block -> its ids, done

What is done is Ray Data's checkpoint: it puts the ids of a block on the disk before its results, as pending, and makes them
count after; whoever goes on removes results whose ids are pending, and leaves items out whose ids count. The id is that of
the item, and a row on its way is an item with the lines of all its arms, because Ray leaves out right behind the read, where
there are no arms yet.

Three of its habits do not fit calls that cost money. It would ask a block again that was with a worker that died: here its
tasks are not tried again (`max_task_retries=0`), what they had handed on stays, and another pass over the input asks what is
left. It would end the run for one lost block: here blocks may be lost, and whatever else fails stops the run. And it would
join what a call yields to blocks of 128 MB: a block here is about as large as what a window of answers takes, so that whoever
goes on after a kill pays again for one block at most, and for what was in flight.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import ray
import ray.data
from ray._private import auto_init_hook
from ray.data import ActorPoolStrategy
from ray.exceptions import RayError

from actors import foreman, stages
from actors.running import DONE, STOPPED, end, report, say, who_answers
from actors.worker import Worker
from orchestrator.batch import blocks
from orchestrator.batch.asking import STOP_S
from orchestrator.batch.blocks import Chosen, Files
from orchestrator.batch.costs import judging_of, worst_of
from orchestrator.batch.dry import estimate, told
from orchestrator.batch.folder import Unwritable
from orchestrator.batch.items import Item, item_of
from orchestrator.batch.parquet import CHECKPOINT, FAILED, RESULTS, DataFolder
from orchestrator.batch.planning import pair_of
from orchestrator.batch.runner import LOOK_S
from orchestrator.batch.spec import Spec, problem
from orchestrator.batch.tally import Progress, Tally
from orchestrator.config.settings import Config
from orchestrator.errors import ConfigError, OrchestratorError

WINDOW = 500
"""Requests that one worker has in flight, unless the spec says how many workers there are."""
PLACE_BYTES = 2048
"""A block is so large for each place of a worker's window: about two answers' lines."""
BLOCKS = 64
"""Blocks that a worker has at a time: with them, items of 128 kB still fill its window."""
ENDING_S = 1.0
"""How long the last blocks may take to the disk when a run is told to stop, beside what is in flight."""

# Threads of Ray Data that have not come to their end when the cluster is left would join it again, or start another one.
auto_init_hook.enable_auto_connect = False


async def run_blocks(args: argparse.Namespace, spec: Spec, config: Config) -> int:
    """Runs a batch; returns its exit code. Raises what `actors.batch.run` tells of."""
    if args.limit is not None:
        what = (
            "is read by many, so no items are its first: --sample N instead of --limit, which takes the same for a seed"
        )
        raise problem(args.spec, ("input",), what)
    own = (os.path.join(spec.output, name, "0.parquet") for name in (RESULTS, FAILED, CHECKPOINT))
    if any(blocks.reads(spec.input, one) for one in own):
        what = f"{spec.output} lies in the input {spec.input}, and would be read as items: give one that lies elsewhere"
        raise problem(args.spec, ("output",), what)
    try:
        files = await asyncio.to_thread(blocks.files_of, spec.input)
    except (ValueError, OSError) as error:
        raise problem(args.spec, ("input",), str(error)) from None
    if args.dry_run:
        return await asyncio.to_thread(_dry_run, args, spec, config)
    _check_prices(spec, config)
    async with AsyncExitStack() as stack:
        attached = await who_answers(stack, args, spec, config) is not None
        _on_signals(partial(_leave, asyncio.current_task()))
        looked = await asyncio.to_thread(stages.look, files, spec, args.seed if args.sample else None)
        folder = DataFolder(spec.output)
        run = folder.open(spec, looked.sha256, force=args.force, now_s=time.time())
        stack.callback(folder.close)
        chosen = None if args.sample is None else blocks.chosen(looked, args.sample, args.seed)
        items = looked.items if args.sample is None else min(args.sample, looked.items)
        folder.note({**run, "items": items})
        if args.retry_failed:
            await asyncio.to_thread(folder.take_failed)
        began_at = run["began_at"]
        batch = await asyncio.to_thread(_Batch, spec, config, files, folder, items, chosen, attached, began_at)
        await batch.run()
        code = end(args, spec, batch.tally, out_of_money=batch.out_of_money, stopped=batch.stopping)
    if not batch.stopping:
        await asyncio.to_thread(report, spec.output)
    return code


def _leave(run: asyncio.Task[Any] | None) -> None:
    """Ends a run that has asked nothing yet."""
    assert run is not None
    run.cancel()
    # Whoever looks at the input in a thread may not hear of it.
    asyncio.get_running_loop().call_later(STOP_S + ENDING_S, os._exit, STOPPED)


def _on_signals(do: Callable[[], object]) -> None:
    """What is done when somebody wants it to stop. To be called after Ray is there, which has handlers of its own."""
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, do)


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
        self._gone_usd = 0.0
        """What a budget counts of the passes before: with what is on the disk, what workers that were lost had been lent."""

    async def run(self) -> None:
        """Passes over the input until all is done, nothing more can be, or it was told to stop. Raises Unwritable where the
        results cannot be written, or a worker cannot go on, and NoPrice where it came upon what has none."""
        _on_signals(self._stop)
        before = self.tally.done
        while not self.stopping and self.tally.done < self._total:
            done, self.out_of_money = self.tally.done, False
            await self._pass()
            self.tally = self._progress.tally = await asyncio.to_thread(self._counted)
            self.tally.here = self.tally.done - before
            if self.tally.done == done:
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
            max(held.spent_usd, self._gone_usd),
            self._chosen,
            held.had,
        )
        await self._foreman.begin.remote(job)
        if self.stopping:
            return
        heard = stages.Heard()
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        # Not in the loop's executor, which whoever ends waits for: a run that was stopped does not.
        threading.Thread(target=self._execute, args=(heard, loop, ended), daemon=True).start()
        until_s = math.inf
        failure: OrchestratorError | None = None
        while not ended.done() and time.monotonic() < until_s:
            await asyncio.wait([ended], timeout=LOOK_S)
            news = await self._news()
            for arm, outcome, cost in news.lines:
                self.tally.add(arm, outcome, cost, here=True)
            self._progress.look()
            self.out_of_money = self.out_of_money or news.refused
            failure = failure or news.failure or (Unwritable(heard.failure) if heard.failure else None)
            if failure is not None:
                await self._hurry()
            if (failure is not None or self.stopping) and until_s == math.inf:
                until_s = time.monotonic() + STOP_S + ENDING_S
        if failure is not None:
            raise failure
        if ended.done():
            ended.result()
        self._gone_usd = await self._gone()
        ray.kill(self._foreman)

    async def _gone(self) -> float:
        try:
            gone_usd: float = await self._foreman.gone_usd.remote()
        except RayError as error:
            raise _lost(error) from None
        return gone_usd

    async def _news(self) -> foreman.News:
        try:
            news: foreman.News = await self._foreman.news.remote()
        except RayError as error:
            return foreman.News(failure=_lost(error))
        return news

    async def _hurry(self) -> None:
        try:
            await self._foreman.stop.remote()
        except RayError:
            return  # without it, workers stop by themselves

    def _execute(self, heard: stages.Heard, loop: asyncio.AbstractEventLoop, ended: asyncio.Future[None]) -> None:
        error: BaseException | None = None
        try:
            with stages.context(max(1, self._spec.concurrency // self._workers) * PLACE_BYTES, heard) as context:
                context.max_errored_blocks = -1
                context.autoscaling_config.actor_pool_util_downscaling_threshold = 0.0
                context.checkpoint_config = stages.checkpoint(self._folder.path)
                self._ask(stages.dataset(self._files))
        except BaseException as caught:
            error = caught

        def tell() -> None:
            if not ended.done():
                ended.set_result(None) if error is None else ended.set_exception(stages.broken_off(error))

        try:
            loop.call_soon_threadsafe(tell)
        except RuntimeError:
            return  # the loop is closed: nobody waits any more

    def _ask(self, dataset: ray.data.Dataset) -> None:
        sink = stages.Sink(os.path.join(self._folder.path, RESULTS), file_format="parquet")
        self._lines(dataset).write_datasink(sink, ray_remote_args={"num_cpus": stages.CPUS})

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
            num_cpus=stages.CPUS,
            max_task_retries=0,
        )

    def _counted(self) -> Tally:
        """What is on the disk."""
        tally, arms = Tally(self._total), self._spec.selectors()
        for item, arm, outcome, cost, _ in self._folder.rows():
            if arm in arms and (self._chosen is None or item in self._chosen):
                tally.add(arm, outcome, cost, here=False)
        return tally


def _lost(error: RayError) -> Unwritable:
    return Unwritable(f"the actor that hands out the work was lost ({type(error).__name__})")


def _workers(concurrency: int) -> int:
    """As many as a window takes, and as there are processors for."""
    return max(1, min(math.ceil(concurrency / WINDOW), int(ray.cluster_resources().get("CPU", 1))))


def _check_prices(spec: Spec, config: Config) -> None:
    """Raises NoPrice where a budget cannot be kept, as far as that is known by the arms' names."""
    worst, judging = worst_of(config), judging_of(config, spec)
    probe = Item(1, "probe", "/v1/chat/completions", {"messages": [{"role": "user", "content": "?"}]}, expected="?")
    for arm in spec.arms:
        pair_of(probe, arm, spec, worst, judging)


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
    try:
        estimated = estimate(_Rest(args, spec), config, worst_of(config), args.latency, judging_of(config, spec))
    except (ValueError, TypeError, OSError) as error:  # of a file that is none, or has what JSON has not
        raise problem(args.spec, ("input",), str(error).splitlines()[0]) from None
    say(json.dumps(estimated) if args.json else told(estimated))
    return DONE
