"""The items that are worth a look: where most arms fail, and where arms disagree."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson

from orchestrator.batch.blocks import in_blocks, rows_in
from orchestrator.batch.columns import ABSENT, FAILED, RIGHT, UNSCORED, WRONG, Columns
from orchestrator.batch.grading import told
from orchestrator.types import Json

EACH = 8
"""So many items of each kind."""
CHARACTERS = 3_000
"""A text is shown up to here."""


class Worst(NamedTuple):
    """Items by why they are shown."""

    failing: list[str]
    """Most arms are wrong or failed; the worst first."""
    disputed: list[str]
    """Some arms are right and some wrong, or, where nothing is scored, they answer differently; the most even first."""


def worst(columns: Columns) -> Worst:
    """Which items to show: the same for the same results."""
    if not columns.items:
        return Worst([], [])
    states = np.stack([arm.state for arm in columns.arms.values()])
    labels = np.stack([arm.label for arm in columns.arms.values()])
    bad, right = ((states == FAILED) | (states == WRONG)).sum(axis=0), (states == RIGHT).sum(axis=0)
    there = (states != ABSENT).sum(axis=0)
    failing = _first(bad, (bad > 0) & (2 * bad >= there), columns.items, set())
    if (states >= WRONG).any():
        wrong = (states == WRONG).sum(axis=0)
        split = np.minimum(right, wrong)
    else:
        given = [{int(label) for label in labels[:, at][states[:, at] == UNSCORED]} for at in range(len(columns.items))]
        split = np.array([len(one) - 1 for one in given])
    return Worst(failing, _first(split, split > 0, columns.items, set(failing)))


def _first(rank: Any, eligible: Any, items: list[str], taken: Set[str]) -> list[str]:
    order = (items[at] for at in np.argsort(-rank, kind="stable") if eligible[at])
    return [item for item, _ in zip((item for item in order if item not in taken), range(EACH), strict=False)]


def rows_of(rows: Iterable[Json], wanted: Set[str]) -> dict[str, dict[str, Json]]:
    """The lines of some items, by item and arm."""
    found: dict[str, dict[str, Json]] = {item: {} for item in wanted}
    for row in rows:
        if (item := str(row["item"])) in found:
            found[item][str(row["arm"])] = row
    return found


def questions_of(path: str | None, wanted: Set[str]) -> dict[str, str]:
    """What some items ask, from the input of the run, which is read until all are found; what is not is left out."""
    found: dict[str, str] = {}
    if path is not None:
        for item, text in _asked(path):
            if item in wanted:
                found[item] = text
                if len(found) == len(wanted):
                    break
    return found


def _asked(path: str) -> Iterator[tuple[str, str]]:
    for line in _lines(path):
        try:
            row = orjson.loads(line)
        except ValueError:
            continue  # the runner has said what is wrong with it
        if isinstance(row, dict):
            body: Json = row["body"] if isinstance(row.get("body"), dict) else row
            said = body.get("prompt") or body.get("input") or told(body.get("messages") or [])
            yield str(row.get("id") or row.get("custom_id")), said if isinstance(said, str) else str(said)


def _lines(path: str) -> Iterator[bytes]:
    """The lines of an input, as far as it is still there."""
    if in_blocks(path):
        try:
            for row in rows_in(path):
                yield row.content
        except (ValueError, OSError):
            return
    elif Path(path).is_file():
        with open(path, "rb") as file:
            yield from file


def clipped(text: str) -> str:
    """A text up to `CHARACTERS`."""
    more = len(text) - CHARACTERS
    return text if more <= 0 else f"{text[:CHARACTERS]}\n… {more:,} more characters"
