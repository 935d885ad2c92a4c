"""`orchestrator batch`: its commands."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from typing import Any

from orchestrator.batch.arguments import add_choice, add_run


def add_batch(commands: Any) -> None:
    """The command `batch` and what stands below it."""
    batch = commands.add_parser("batch", help="evaluate a file of items by one or several models")
    below = batch.add_subparsers(dest="batch", required=True)
    add_run(below.add_parser("run", help="run it here, or go on with it"))

    submit = below.add_parser("submit", help="run it as a job of a Ray cluster")
    add_choice(submit)
    submit.add_argument(
        "--address", help="the cluster's dashboard; default: RAY_API_SERVER_ADDRESS, else this machine's"
    )
    submit.add_argument("--python", default="python", help="the interpreter on the cluster (default python)")

    for name, what in (
        ("report", "write summary.json and report.html of a folder of results"),
        ("weights", "turn a folder of results into weights for a consensus"),
    ):
        below.add_parser(name, help=what).add_argument("folder")


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
