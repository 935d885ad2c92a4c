"""Weights for `method: weighted`, from what a batch has measured.

The best weight of a voter who is right with probability p, independently of the others, is its log-odds, ln(p / (1 - p))
(Nitzan and Paroush, "Optimal Decision Rules in Uncertain Dichotomous Choice Situations", International Economic Review 23,
1982; Shapley and Grofman, Public Choice 43, 1984). p is estimated with a Beta prior around what all arms together have, worth
`PRIOR_ITEMS` items: few items then give nearly equal weights, which is a plain majority, and no model that made no mistake
in ten an endless one (shrinkage: Efron and Morris, "Data Analysis Using Stein's Estimator and its Generalizations", JASA 70,
1975). Weights are scaled to a mean of 1, so that a quorum means what it means among equals.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from orchestrator.batch.results import ResultsError, manifest, read

PRIOR_ITEMS = 20.0
"""How many items the prior is worth."""
LEAST_ODDS = math.log(1.05)
"""The log-odds of a model that is right half the time or less: its vote counts next to nothing, and never against itself."""


class Measured(NamedTuple):
    """What a model did."""

    correct: int
    scored: int
    weight: float


@dataclass(frozen=True, slots=True)
class Weights:
    """The weight of each model, by its selector; their mean is 1."""

    name: str
    models: dict[str, Measured]

    def yaml(self) -> str:
        """A tier's `weights:`, with what they come from as comments."""
        lines = [
            f"# from the batch {json.dumps(self.name)}: log-odds of accuracy, prior of {PRIOR_ITEMS:g} items, mean 1",
            "weights:",
        ]
        for selector, (correct, scored, weight) in self.models.items():
            lines.append(f"  {json.dumps(selector)}: {weight:.3f}  # {correct / scored:.1%} of {scored}")
        return "\n".join(lines) + "\n"


def weights_of(folder: str | Path) -> Weights:
    """The weights of a folder's arms, of which each has to be a single model.

    Reads the results once. Raises ResultsError that names the arm and what it is else, or says what is missing.
    """
    run = manifest(folder)
    right: dict[str, int] = {}
    scored: dict[str, int] = {}
    models: dict[str, str] = {}
    for row in read(folder):
        arm, score = str(row["arm"]), row.get("score") or {}
        scored.setdefault(arm, 0)
        if row["outcome"] != "ok":
            continue
        if row.get("consensus"):
            raise ResultsError(f"arm {arm!r} is a vote: weights are for its members: run each as an arm of its own")
        model = str(row.get("winner") or f"{row.get('provider')}/{row.get('model')}")
        if (known := models.setdefault(arm, model)) != model:
            raise ResultsError(f"arm {arm!r} was answered by {known} and by {model}: weights are for single models")
        if score.get("correct") is not None:
            scored[arm] += 1
            right[arm] = right.get(arm, 0) + bool(score["correct"])
    selectors: dict[str, str] = {}
    for arm, count in scored.items():
        selector = run.arms.get(arm) or models.get(arm, "")
        if selector.partition(":")[0] in ("tier", "user"):
            raise ResultsError(
                f"arm {arm!r} is {selector}, no single model: run each of its members as an arm of its own"
            )
        if not count:
            raise ResultsError(f"arm {arm!r} has no scored answer: set `score:` in the specification")
        if selector in selectors.values():
            raise ResultsError(f"arm {arm!r} is {selector}, which another arm is, too")
        selectors[arm] = selector
    if not selectors:
        raise ResultsError(f"{folder}: the results hold no line")
    pooled = (sum(right.values()) + 0.5) / (sum(scored.values()) + 1)
    odds = {arm: _log_odds(right.get(arm, 0), scored[arm], pooled) for arm in selectors}
    mean = math.fsum(odds.values()) / len(odds)
    return Weights(
        run.name,
        {selectors[arm]: Measured(right.get(arm, 0), scored[arm], odds[arm] / mean) for arm in sorted(selectors)},
    )


def _log_odds(right: int, of: int, prior: float) -> float:
    share = (right + prior * PRIOR_ITEMS) / (of + PRIOR_ITEMS)
    return max(LEAST_ODDS, math.log(share / (1 - share)))
