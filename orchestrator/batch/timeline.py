"""When answers came: throughput and failures over the time that a run was at work.

A run that was killed and resumed a day later was not at work in between: pauses are left out, and their places kept.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from orchestrator.batch.columns import FAILED, Arm
from orchestrator.types import Json

PAUSE_S = 900.0
"""Nothing ended for so long: the run was not at work. (A call may take 600 s, by default.)"""
BINS = 60
_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21_600, 86_400)


def timeline(arms: Iterable[Arm]) -> Json:
    """`started_at`, `ended_at` (Unix seconds), `active_s`, `per_s` (lines a second of that), and `timeline`: bins of `bin_s`
    seconds with how many lines ended in each, answered and failed, and where in them (seconds) pauses were left out."""
    held = list(arms)
    ends = np.concatenate([arm.end for arm in held]) if held else np.empty(0)
    failed = np.concatenate([arm.state == FAILED for arm in held]) if held else np.empty(0, dtype=bool)
    took = np.concatenate([arm.latency for arm in held]) if held else np.empty(0)
    there = ~np.isnan(ends)
    ends, failed, took = ends[there], failed[there], np.nan_to_num(took[there])
    if not len(ends):
        return {"started_at": None, "ended_at": None, "active_s": None, "per_s": None, "timeline": None}
    order = np.argsort(ends, kind="stable")
    ends, failed, took = ends[order], failed[order], took[order]
    started = float((ends - took).min())
    steps = np.diff(ends, prepend=started)
    paused = steps > PAUSE_S
    at = np.cumsum(np.where(paused, 0.0, steps))
    active_s = float(at[-1])
    bin_s = next((step for step in _STEPS_S if active_s / step <= BINS), _STEPS_S[-1])
    place = np.minimum((at / bin_s).astype(int), int(active_s / bin_s))
    count = int(place[-1]) + 1
    return {
        "started_at": round(started, 3),
        "ended_at": round(float(ends[-1]), 3),
        "active_s": round(active_s, 3),
        "per_s": round(len(ends) / active_s, 4) if active_s else None,
        "timeline": {
            "bin_s": bin_s,
            "answered": np.bincount(place[~failed], minlength=count).tolist(),
            "failed": np.bincount(place[failed], minlength=count).tolist(),
            "pauses_s": [round(float(one), 3) for one in at[paused]],
        },
    }
