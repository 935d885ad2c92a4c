"""What `summary.json` says, from the columns of a run.

All but `run` is the same for the same answers, whatever the clock said: a run that was killed and resumed and one that was
not have the same. (Save for votes, whose calls end in an order of their own: what they cost and saved may differ a little.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from orchestrator.batch import statistics
from orchestrator.batch.columns import ABSENT, FAILED, RIGHT, UNSCORED, WRONG, Arm, Columns
from orchestrator.batch.results import Manifest
from orchestrator.batch.statistics import Floats, Interval
from orchestrator.batch.timeline import timeline
from orchestrator.money import on_grid, usd_of
from orchestrator.types import Json

SCHEMA = 1
"""Of `summary.json`: another number where a field changes its meaning or goes."""


class Retried(NamedTuple):
    """Failed lines that were tried again: no part of the results, but paid for."""

    lines: int = 0
    cost_usd: float = 0.0


def summarise(columns: Columns, manifest: Manifest, retried: Retried) -> Json:
    """The whole summary."""
    arms, names = columns.arms, list(columns.arms)
    pairs = list(combinations(names, 2))
    # One resampling for all means, and for the differences between them.
    means = [arm.cost for arm in arms.values()] + [arm.latency for arm in arms.values()]
    means += [arms[a].cost - arms[b].cost for a, b in pairs] + [arms[a].latency - arms[b].latency for a, b in pairs]
    intervals = iter(statistics.mean_intervals(means))
    costs, latencies, cost_pairs, latency_pairs = ([next(intervals) for _ in of] for of in (names, names, pairs, pairs))
    compared = [_pair(a, b, arms, interval) for (a, b), interval in zip(pairs, cost_pairs, strict=True)]
    tested = [pair for pair in compared if pair["p"] is not None]
    for pair, p in zip(tested, statistics.holm([pair["p"] for pair in tested]), strict=True):
        pair["p_holm"] = _short(p)
    whole: Json = {
        "schema": SCHEMA,
        "name": manifest.name,
        "items": len(columns.items) if manifest.items is None else manifest.items,
        "level": statistics.LEVEL,
        "cost_usd": on_grid(math.fsum(_known(arm.cost).sum() for arm in arms.values())),
        "retried": {"lines": retried.lines, "cost_usd": on_grid(retried.cost_usd)},
        "arms": {
            name: _arm(arm, manifest.arms.get(name), interval)
            for (name, arm), interval in zip(arms.items(), costs, strict=True)
        },
        "pairs": compared,
    }
    for arm in whole["arms"].values():
        arm["missing"] = whole["items"] - arm["n"]
    run = {
        **timeline(arms.values()),
        "latency_s": {
            name: {"mean": _mean(arm.latency), "mean_interval": _bounds(interval), **_percentiles(arm.latency)}
            for (name, arm), interval in zip(arms.items(), latencies, strict=True)
        },
        "pairs": [
            {
                "arms": [a, b],
                "latency_difference_s": _mean(arms[a].latency - arms[b].latency),
                "latency_difference_interval": _bounds(interval),
            }
            for (a, b), interval in zip(pairs, latency_pairs, strict=True)
        ],
    }
    return whole | {"run": run}


def _arm(arm: Arm, selector: str | None, interval: Interval | None) -> Json:
    answered = arm.state >= UNSCORED
    scored, right = int((arm.state >= WRONG).sum()), int((arm.state == RIGHT).sum())
    known = _known(arm.cost)
    unknown = int(np.isnan(arm.cost[answered]).sum())
    sum_usd = on_grid(math.fsum(known)) if len(known) else None
    return {
        "selector": selector,
        "n": int((arm.state != ABSENT).sum()),
        "answered": int(answered.sum()),
        "failed": int((arm.state == FAILED).sum()),
        "errors": dict(sorted(arm.errors.items())),
        "scored": scored,
        "correct": right,
        "accuracy": _short(right / scored) if scored else None,
        "accuracy_interval": _bounds(statistics.wilson(right, scored)) if scored else None,
        "tokens": {"input": arm.tokens[0], "output": arm.tokens[1], "unknown": int(answered.sum()) - arm.tokens_known},
        "cost": {
            "sum_usd": sum_usd,
            "unknown": unknown,
            "estimated": arm.estimates,
            "mean_usd": _mean(arm.cost),
            "mean_interval_usd": _bounds(interval),
            "per_correct_usd": None if sum_usd is None or unknown or not right else _short(sum_usd / right),
        },
        "judge": {"judged": arm.judged, "cost_usd": usd_of(arm.judge_units)} if arm.judged else None,
        "consensus": _votes(arm) if arm.votes.count else None,
    }


def _votes(arm: Arm) -> Json:
    votes = arm.votes
    return {
        "n": votes.count,
        "methods": dict(sorted(votes.methods.items())),
        "votes_mean": _short(votes.ballots / votes.count),
        "agreement_mean": _short(math.fsum(votes.agreements) / votes.count),
        "unanimous": votes.unanimous,
        "unanimous_accuracy": _short(votes.unanimous_right / votes.unanimous_scored)
        if votes.unanimous_scored
        else None,
        "escalated": votes.escalated,
        "calls_saved": votes.saved,
    }


def _pair(a: str, b: str, arms: dict[str, Arm], interval: Interval | None) -> Json:
    one, other = arms[a], arms[b]
    scored = (one.state >= WRONG) & (other.state >= WRONG)
    answered = (one.state >= UNSCORED) & (other.state >= UNSCORED)
    right, also = one.state[scored] == RIGHT, other.state[scored] == RIGHT
    both, first = int((right & also).sum()), int((right & ~also).sum())
    second, neither = int((~right & also).sum()), int((~right & ~also).sum())
    labels, others = one.label[answered], other.label[answered]
    pair: Json = {
        "arms": [a, b],
        "items": int(answered.sum()),
        "scored": int(scored.sum()),
        "both_right": both,
        "first_only": first,
        "second_only": second,
        "neither": neither,
        "difference": None,
        "difference_interval": None,
        "p": None,
        "p_exact": None,
        "p_holm": None,
        "agreement": _short(float(np.mean(labels == others))) if len(labels) else None,
        "kappa": _short(statistics.kappa(labels, others)),
        "cost_difference_usd": _mean(one.cost - other.cost),
        "cost_difference_interval_usd": _bounds(interval),
    }
    if pair["scored"]:
        difference = statistics.paired_difference(both, first, second, neither)
        test = statistics.mcnemar(first, second)
        pair |= {"difference": _short(difference.value), "difference_interval": _bounds(difference.interval)}
        pair |= {"p": _short(test.p), "p_exact": test.exact}
    return pair


def _known(values: Floats) -> Floats:
    return values[~np.isnan(values)]


def _mean(values: Floats) -> float | None:
    known = _known(values)
    return _short(math.fsum(known) / len(known)) if len(known) else None


def _percentiles(values: Floats) -> dict[str, float | None]:
    return {name: _short(value) for name, value in statistics.percentiles(_known(values)).items()}


def _bounds(interval: Sequence[float] | None) -> list[float | None] | None:
    return None if interval is None else [_short(bound) for bound in interval]


def _short(value: float | None) -> Any:
    """To ten digits: what is beyond may differ between machines."""
    return None if value is None else float(f"{value:.10g}")
