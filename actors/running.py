"""What both ways of running a batch have in common, in one process or by many workers: who answers, and what is said in the
end."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import AsyncExitStack
from typing import Any

from actors.cluster import joined
from actors.connected import application
from orchestrator.batch.report import write_report
from orchestrator.batch.results import ResultsError
from orchestrator.batch.spec import Spec, problem
from orchestrator.batch.tally import Tally
from orchestrator.config.settings import Config
from orchestrator.errors import NoApplication, OrchestratorError
from orchestrator.selectors import Selectors

DONE, FAILED, BAD, STOPPED = 0, 1, 2, 130
"""Exit codes: all answered; not all, which is said; bad input; told to stop, and to be gone on with."""


async def who_answers(stack: AsyncExitStack, args: argparse.Namespace, spec: Spec, config: Config) -> Any:
    """The handle of the running application; None: whoever asks has to have a coordinator of its own. In either case, this
    process is in the cluster from then on.

    Raises NoApplication where one was named, ConfigError for an arm that whoever answers does not know.
    """
    if args.connect != "never":
        async with AsyncExitStack() as attempt:
            try:
                await attempt.enter_async_context(joined(args.connect))
                handle = await application()
            except NoApplication as reason:
                if args.connect != "auto":
                    raise
                say(f"no running application is used: {reason}", sys.stderr)
            else:
                for key, selector in spec.named():
                    if await handle.model.remote(selector) is None:
                        raise problem(args.spec, key, f"{selector!r} is no model of the running application")
                stack.push_async_exit(attempt.pop_all())
                return handle
    selectors = Selectors(config)
    for key, selector in spec.named():
        try:
            selectors.resolve(selector)
        except OrchestratorError as error:
            raise problem(args.spec, key, str(error)) from None
    await stack.enter_async_context(joined(None))
    return None


def end(args: argparse.Namespace, spec: Spec, tally: Tally, *, out_of_money: bool, stopped: bool) -> int:
    """Says what it has come to; the exit code."""
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
        say(json.dumps(result))
    else:
        say(f"results in {spec.output}")
        if said:
            say(f"failed: {'; '.join(said)}; --retry-failed asks them again")
        if result["out_of_money"]:
            say(
                f"the budget of {spec.budget_usd:g} USD does not reach for {rest} more: give a larger one and run it again"
            )
        elif rest:
            say(f"{rest} are left: run it again to go on")
    if result["stopped"]:
        return STOPPED
    return FAILED if rest or tally.failed else DONE


def report(folder: str) -> None:
    """Writes the report, or says why not."""
    try:
        write_report(folder)
    except ResultsError as error:
        say(f"no report was written: {error}", sys.stderr)


def say(text: str, out: Any = None) -> None:
    """A line, at once."""
    print(text, file=out or sys.stdout, flush=True)
