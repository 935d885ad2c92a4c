"""The arguments of a run, which `orchestrator batch` and `python -m actors.batch` share."""

from __future__ import annotations

import argparse


def add_run(parser: argparse.ArgumentParser) -> None:
    """The arguments of `batch run`."""
    add_choice(parser)
    parser.add_argument("--dry-run", action="store_true", help="ask nobody; say what it comes to")
    parser.add_argument("--latency", type=_seconds, help="seconds an answer takes, for --dry-run")
    parser.add_argument("--json", action="store_true", help="what it has come to as JSON, on the last line")


def add_choice(parser: argparse.ArgumentParser) -> None:
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
