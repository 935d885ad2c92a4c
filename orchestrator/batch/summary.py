"""`summary.json`: the figures of a run, made of its results."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from orchestrator.batch.results import failed, manifest, read, require
from orchestrator.files import replace
from orchestrator.types import Json

if TYPE_CHECKING:
    from orchestrator.batch.columns import Columns

SUMMARY = "summary.json"


def write_summary(folder: str | Path) -> Json:
    """Writes a folder's `summary.json`, whole or not at all, and returns what it says.

    The same lines in any order give the same bytes. Reads the results once, line by line. Raises ResultsError where they
    cannot be used, or the extra `orchestrator[batch]` is missing; OSError where the folder cannot be written.
    """
    return summed(folder)[0]


def summed(folder: str | Path) -> tuple[Json, Columns]:
    """The same; also the columns that it was made of."""
    require("scipy")
    from orchestrator.batch.columns import columns
    from orchestrator.batch.summing import Retried, summarise

    costs = [float(row.get("cost_usd") or 0.0) for row in failed(folder)]
    retried = Retried(len(costs), math.fsum(costs))
    found = columns(read(folder))
    summary = summarise(found, manifest(folder), retried)
    replace(Path(folder) / SUMMARY, orjson.dumps(summary, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n")
    return summary, found
