"""`python -m actors.batch SPEC.yaml`: a batch evaluation, as a job of a cluster (`ray job submit`) or on a machine of one's
own.

It attaches to the running application of the cluster at hand, so that pools, limits, breakers and budgets hold for both, and
otherwise brings a coordinator of its own over pools that all batches of the same configuration share. Killed in whatever way,
it goes on where it stopped: see `orchestrator.batch.folder`. An input of many files has many workers: see `actors.data`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

from actors.running import BAD, DONE, FAILED, STOPPED, end, report, say, who_answers
from actors.window import ApplicationWindow, OwnWindow, own_window
from orchestrator.batch.arguments import add_run
from orchestrator.batch.blocks import in_blocks
from orchestrator.batch.costs import judging_of, worst_of
from orchestrator.batch.dry import estimate, told
from orchestrator.batch.folder import BadFolder, Folder, Unwritable
from orchestrator.batch.items import Surveyed, survey
from orchestrator.batch.planning import NoPrice, Plan, Wanted, plan_of
from orchestrator.batch.results import ResultsError, require
from orchestrator.batch.runner import Runner
from orchestrator.batch.spec import Spec, load_spec
from orchestrator.batch.tally import Progress
from orchestrator.config.load import default_config, load
from orchestrator.config.settings import Config
from orchestrator.errors import ConfigError, NoApplication


def run(args: argparse.Namespace) -> int:
    """Runs a batch; returns its exit code."""
    try:
        return asyncio.run(_main(args))
    except (ConfigError, BadFolder, NoPrice, NoApplication, ResultsError) as error:
        say(str(error), sys.stderr)
        return BAD
    except Unwritable as error:
        say(f"{error}: what is on the disk can be gone on with", sys.stderr)
        return FAILED
    except (KeyboardInterrupt, asyncio.CancelledError):
        return STOPPED


async def _main(args: argparse.Namespace) -> int:
    spec = load_spec(args.spec, output=args.output)
    config = load(spec.config or default_config())
    if "runtime_resources/working_dir_files" in spec.output:
        what = "lies in the job's copy of its working directory, which Ray deletes: give --output a path that stays"
        say(f"warning: {spec.output} {what}", sys.stderr)
    if in_blocks(spec.input):
        require("pyarrow", "pandas", extra="data")
        from actors.data import run_blocks

        return await run_blocks(args, spec, config)
    surveyed = survey(spec.input, spec.params, next(iter(spec.selectors().values())))
    wanted = Wanted(args.limit, args.sample, args.seed)
    if args.dry_run:
        return _dry_run(args, spec, config, surveyed, wanted)
    folder = Folder(spec.output)
    run = folder.open(spec, surveyed.sha256, force=args.force, now_s=time.time())
    try:
        if args.retry_failed:
            folder.take_failed()
        plan = plan_of(spec, surveyed, folder, wanted)
        folder.note({**run, "items": plan.items, "questions": spec.input})
        return await _run(args, plan, folder, config, run["began_at"])
    finally:
        folder.close()


def _dry_run(args: argparse.Namespace, spec: Spec, config: Config, surveyed: Surveyed, wanted: Wanted) -> int:
    held = Folder(spec.output)
    plan = plan_of(spec, surveyed, held, wanted)
    estimated = estimate(plan, config, worst_of(config), args.latency, judging_of(config, spec))
    say(json.dumps(estimated) if args.json else told(estimated))
    return DONE


async def _run(args: argparse.Namespace, plan: Plan, folder: Folder, config: Config, began_at: float) -> int:
    schedule = plan.schedule(worst_of(config), judging_of(config, plan.spec))
    async with AsyncExitStack() as stack:
        handle = await who_answers(stack, args, plan.spec, config)
        window: ApplicationWindow | OwnWindow
        if handle is None:
            window = await stack.enter_async_context(own_window(config))
        else:
            window = ApplicationWindow(handle)
        progress = Progress(plan.spec.name, plan.tally, sys.stdout)
        runner: Runner[Any] = Runner(
            schedule,
            window,
            folder,
            progress,
            concurrency=plan.spec.concurrency,
            began_at=began_at,
            scorer=plan.spec.scorer(),
        )
        # After Ray, which has handlers of its own.
        for name in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(name, _stop, runner)
        await runner.run()
        stopped = runner.asker.stopping.is_set()
        progress.end()
        # Before the pools are let go of: a job that is told to stop is killed 3 s later.
        code = end(args, plan.spec, plan.tally, out_of_money=schedule.out_of_money, stopped=stopped)
    if not stopped:
        await asyncio.to_thread(report, plan.spec.output)
    return code


def _stop(runner: Runner[Any]) -> None:
    if runner.asker.stopping.is_set():
        os._exit(STOPPED)  # asked twice: what is on the disk is as good as ever
    runner.asker.stop()


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m actors.batch`."""
    parser = argparse.ArgumentParser(prog="python -m actors.batch", description="A batch evaluation.")
    add_run(parser)
    return run(parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
