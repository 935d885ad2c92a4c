"""The results of a run in columns: what statistics need of each item and arm, 33 bytes of them, and none of the texts.

Lines may come in any order: items and arms are sorted at the end, so that all that is made of the columns is the same for the
same lines.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.batch.results import ResultsError
from orchestrator.batch.statistics import Floats
from orchestrator.consensus import normal
from orchestrator.money import units_of
from orchestrator.types import Json

ABSENT, FAILED, UNSCORED, WRONG, RIGHT = range(5)
"""What an item came to in an arm."""
NAN = math.nan


@dataclass(slots=True)
class Votes:
    """What an arm's votes came to, summed up."""

    count: int = 0
    ballots: int = 0
    unanimous: int = 0
    unanimous_right: int = 0
    unanimous_scored: int = 0
    escalated: int = 0
    saved: int = 0
    methods: Counter[str] = field(default_factory=Counter)
    agreements: list[float] = field(default_factory=list)

    def add(self, consensus: Json, state: int) -> None:
        """Takes in the `consensus` of one line."""
        agreement = float(consensus.get("agreement") or 0.0)
        self.count += 1
        self.ballots += len(consensus.get("votes") or ())
        self.agreements.append(agreement)
        self.escalated += bool(consensus.get("escalated"))
        self.saved += int(consensus.get("calls_saved") or 0)
        self.methods[str(consensus.get("method"))] += 1
        if agreement >= 1.0 and not consensus.get("escalated"):
            self.unanimous += 1
            self.unanimous_scored += state >= WRONG
            self.unanimous_right += state == RIGHT


class Arm:
    """One arm's columns; an item's place in them is the same in all arms."""

    def __init__(self) -> None:
        self._state, self._cost, self._latency = array("b"), array("d"), array("d")
        self._label, self._end = array("Q"), array("d")
        self.errors: Counter[str] = Counter()
        self.tokens = [0, 0]
        self.tokens_known = 0
        self.estimates = 0
        self.judge_units = 0
        self.judged = 0
        self.votes = Votes()

    def add(self, place: int, row: Json) -> None:
        """Takes in a line. Raises ResultsError for a second one of the same item."""
        if place < len(self._state) and self._state[place] != ABSENT:
            raise ResultsError(f"item {row['item']!r} of arm {row['arm']!r} has two lines")
        for column, nothing in ((self._state, ABSENT), (self._label, 0)):
            column.extend([nothing] * (place + 1 - len(column)))
        for floats in (self._cost, self._latency, self._end):
            floats.extend([NAN] * (place + 1 - len(floats)))
        ok, score = row["outcome"] == "ok", row.get("score") or {}
        state = _state(ok, score)
        self._state[place] = state
        self._cost[place] = _number(row.get("cost_usd"))
        self._end[place] = _number(row.get("at"))
        if not ok:
            self.errors[str(row["outcome"])] += 1
            return
        self._latency[place] = _number(row.get("latency_s"))
        self._label[place] = label(score.get("extracted") if score else row.get("text"))
        self.estimates += bool(row.get("cost_is_estimate"))
        counts = row.get("input_tokens"), row.get("output_tokens")
        if None not in counts:
            self.tokens_known += 1
            self.tokens = [had + int(more or 0) for had, more in zip(self.tokens, counts, strict=True)]
        if score.get("cost_usd") is not None:
            self.judged += 1
            self.judge_units += units_of(score["cost_usd"])
        if row.get("consensus"):
            self.votes.add(row["consensus"], state)

    def take(self, order: NDArray[np.intp]) -> None:
        """Puts the items in their order; from then on the columns can be read."""

        def whole(column: array[Any], nothing: float, kind: Any) -> NDArray[Any]:
            column.extend([nothing] * (len(order) - len(column)))
            return np.array(column, dtype=kind)[order]

        self.state: NDArray[np.int8] = whole(self._state, ABSENT, np.int8)
        self.cost: Floats = whole(self._cost, NAN, np.float64)
        self.latency: Floats = whole(self._latency, NAN, np.float64)
        self.end: Floats = whole(self._end, NAN, np.float64)
        self.label: NDArray[np.uint64] = whole(self._label, 0, np.uint64)
        del self._state, self._cost, self._latency, self._end, self._label


@dataclass(frozen=True, slots=True)
class Columns:
    """All arms of a run, by name, and the items in the order of the columns."""

    items: list[str]
    arms: dict[str, Arm]


def columns(rows: Iterable[Json]) -> Columns:
    """Reads lines of results."""
    places: dict[str, int] = {}
    arms: dict[str, Arm] = {}
    for row in rows:
        arm = arms.setdefault(str(row["arm"]), Arm())
        arm.add(places.setdefault(str(row["item"]), len(places)), row)
    items = sorted(places)
    order = np.array([places[item] for item in items], dtype=np.intp)
    for arm in arms.values():
        arm.take(order)
    return Columns(items, dict(sorted(arms.items())))


def label(said: Any) -> int:
    """What stands for an answer where answers are compared: equal for equal normal forms, 0 for none."""
    key = normal.value(said)
    return 0 if key is None else int.from_bytes(blake2b(key.encode("utf-8", "replace"), digest_size=8).digest(), "big")


def _state(ok: bool, score: Json) -> int:
    if not ok:
        return FAILED
    correct = score.get("correct")
    return UNSCORED if correct is None else RIGHT if correct else WRONG


def _number(value: Any) -> float:
    return NAN if value is None else float(value)
