"""`orchestrator batch`: its arguments, which `python -m actors.batch` shares, and the commands that need no cluster."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from typing import Any


def add_batch(commands: Any) -> None:
    """The command `batch` and what stands below it."""
    batch = commands.add_parser("batch", help="evaluate a file of items by one or several models")
    below = batch.add_subparsers(dest="batch", required=True)
    add_run(below.add_parser("run", help="run it here, or go on with it"))

    submit = below.add_parser("submit", help="run it as a job of a Ray cluster")
    _add_choice(submit)
    submit.add_argument(
        "--address", help="the cluster's dashboard; default: RAY_API_SERVER_ADDRESS, else this machine's"
    )
    submit.add_argument("--python", default="python", help="the interpreter on the cluster (default python)")

    for name, what in (
        ("report", "write summary.json and report.html of a folder of results"),
        ("weights", "turn a folder of results into weights for a consensus"),
    ):
        below.add_parser(name, help=what).add_argument("folder")


def add_run(parser: argparse.ArgumentParser) -> None:
    """The arguments of `batch run`."""
    _add_choice(parser)
    parser.add_argument("--dry-run", action="store_true", help="ask nobody; say what it comes to")
    parser.add_argument("--latency", type=_seconds, help="seconds an answer takes, for --dry-run")
    parser.add_argument("--json", action="store_true", help="what it has come to as JSON, on the last line")


def _add_choice(parser: argparse.ArgumentParser) -> None:
    """What is run, and how."""
    parser.add_argument("spec", help="a YAML file")
    parser.add_argument("--limit", type=_count, help="the first so many items")
    parser.add_argument("--sample", type=_count, help="so many items, the same for the same seed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--retry-failed", action="store_true", help="ask those again that have failed")
    parser.add_argument("--output", help="the folder of the results, instead of the spec's")
    parser.add_argument("--force", action="store_true", help="go on in a folder of another spec")
    parser.add_argument(
        "--connect",
        default="auto",
        help="the cluster of the running application: an address; auto (default): one that is found; never: a "
        "coordinator of its own",
    )


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError("has to be at least 1")
    return count


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds <= 86_400:
        raise argparse.ArgumentTypeError("has to be above 0 and at most 86400 seconds")
    return seconds


def batch(args: argparse.Namespace) -> int:
    """Runs one of them; returns its exit code."""
    code: int
    if args.batch == "run":
        code = import_module("actors.batch").run(args)
        return code
    if args.batch == "submit":
        code = import_module("actors.jobs").submit(args)
        return code
    from orchestrator.batch.results import ResultsError

    try:
        return _report(args.folder) if args.batch == "report" else _weights(args.folder)
    except ResultsError as error:
        print(error, file=sys.stderr)
        return 2


def _report(folder: str) -> int:
    from orchestrator.batch.report import write_report

    print(write_report(folder))
    return 0


def _weights(folder: str) -> int:
    from orchestrator.batch.weights import weights_of

    print(weights_of(folder).yaml().rstrip())
    return 0
