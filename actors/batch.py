"""`python -m actors.batch SPEC.yaml`: a batch evaluation, as a job of a cluster (`ray job submit`) or on a machine of one's
own.

It attaches to the running application of the cluster at hand, so that pools, limits, breakers and budgets hold for both, and
otherwise brings a coordinator of its own over pools that all batches of the same configuration share. Killed in whatever way,
it goes on where it stopped: see `orchestrator.batch.folder`.
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

from actors.cluster import joined
from actors.connected import application
from actors.window import ApplicationWindow, OwnWindow, own_window
from orchestrator.batch.costs import worst_of
from orchestrator.batch.dry import estimate, told
from orchestrator.batch.folder import BadFolder, Folder, Unwritable
from orchestrator.batch.items import Surveyed, survey
from orchestrator.batch.planning import NoPrice, Plan, Wanted, plan_of
from orchestrator.batch.report import write_report
from orchestrator.batch.results import ResultsError
from orchestrator.batch.runner import Runner
from orchestrator.batch.spec import Spec, load_spec, problem
from orchestrator.batch.tally import Progress
from orchestrator.cli.batch import add_run
from orchestrator.config.load import default_config, load
from orchestrator.config.settings import Config
from orchestrator.errors import ConfigError, NoApplication, OrchestratorError
from orchestrator.selectors import Selectors

DONE, FAILED, BAD, STOPPED = 0, 1, 2, 130
"""Exit codes: all answered; not all, which is said; bad input; told to stop, and to be gone on with."""


def run(args: argparse.Namespace) -> int:
    """Runs a batch; returns its exit code."""
    try:
        return asyncio.run(_main(args))
    except (ConfigError, BadFolder, NoPrice, NoApplication) as error:
        _say(str(error), sys.stderr)
        return BAD
    except Unwritable as error:
        _say(f"{error}: what is on the disk can be gone on with", sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return STOPPED


async def _main(args: argparse.Namespace) -> int:
    spec = load_spec(args.spec, output=args.output)
    config = load(spec.config or default_config())
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
    estimated = estimate(plan, config, worst_of(config), args.latency)
    _say(json.dumps(estimated) if args.json else told(estimated))
    return DONE


async def _run(args: argparse.Namespace, plan: Plan, folder: Folder, config: Config, began_at: float) -> int:
    if "runtime_resources/working_dir_files" in plan.spec.output:
        what = "lies in the job's copy of its working directory, which Ray deletes: give --output a path that stays"
        _say(f"warning: {plan.spec.output} {what}", sys.stderr)
    schedule = plan.schedule(worst_of(config))
    async with AsyncExitStack() as stack:
        window = await _open(stack, args, plan.spec, config)
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
        code = _end(args, plan, schedule.out_of_money, stopped)
    if not stopped:
        await asyncio.to_thread(_report, plan.spec.output)
    return code


def _report(folder: str) -> None:
    try:
        write_report(folder)
    except ResultsError as error:
        _say(f"no report was written: {error}", sys.stderr)


def _stop(runner: Runner[Any]) -> None:
    if runner.asker.stopping.is_set():
        os._exit(STOPPED)  # asked twice: what is on the disk is as good as ever
    runner.asker.stop()


async def _open(
    stack: AsyncExitStack, args: argparse.Namespace, spec: Spec, config: Config
) -> ApplicationWindow | OwnWindow:
    """The application's window, else one of one's own. Raises NoApplication where one was named, ConfigError for an arm that
    whoever answers does not know."""
    if args.connect != "never":
        async with AsyncExitStack() as attempt:
            try:
                await attempt.enter_async_context(joined(args.connect))
                handle = await application()
            except NoApplication as reason:
                if args.connect != "auto":
                    raise
                _say(f"no running application is used: {reason}", sys.stderr)
            else:
                for key, selector in spec.named():
                    if await handle.model.remote(selector) is None:
                        raise problem(args.spec, key, f"{selector!r} is no model of the running application")
                stack.push_async_exit(attempt.pop_all())
                return ApplicationWindow(handle)
    selectors = Selectors(config)
    for key, selector in spec.named():
        try:
            selectors.resolve(selector)
        except OrchestratorError as error:
            raise problem(args.spec, key, str(error)) from None
    await stack.enter_async_context(joined(None))
    return await stack.enter_async_context(own_window(config))


def _end(args: argparse.Namespace, plan: Plan, out_of_money: bool, stopped: bool) -> int:
    """Says what it has come to; the exit code."""
    tally, spec = plan.tally, plan.spec
    rest = tally.total - tally.done
    said = [f"{arm}: {code} {count}" for (arm, code), count in sorted(tally.failures.items())]
    result = {
        "name": spec.name,
        "output": spec.output,
        "total": tally.total,
        "done": tally.done,
        "failed": tally.failed,
        "failures": said,
        "spent_usd": tally.spent_usd,
        "unpriced": tally.unpriced,
        "stopped": stopped and rest > 0,
        "out_of_money": out_of_money and rest > 0,
    }
    if args.json:
        _say(json.dumps(result))
    else:
        _say(f"results in {spec.output}")
        if said:
            _say(f"failed: {'; '.join(said)}; --retry-failed asks them again")
        if result["out_of_money"]:
            _say(
                f"the budget of {spec.budget_usd:g} USD does not reach for {rest} more: give a larger one and run it again"
            )
        elif rest:
            _say(f"{rest} are left: run it again to go on")
    if result["stopped"]:
        return STOPPED
    return FAILED if rest or tally.failed else DONE


def _say(text: str, out: Any = None) -> None:
    print(text, file=out or sys.stdout, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m actors.batch`."""
    parser = argparse.ArgumentParser(prog="python -m actors.batch", description="A batch evaluation.")
    add_run(parser)
    return run(parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
