"""Counters: they grow, they add up, and callers cannot make them grow for ever."""

from __future__ import annotations

import pickle

from orchestrator.counters import MAX_LABELS, Counters, total


def test_they_add_up() -> None:
    """Over processes; the parts stay what they were."""
    one, two = Counters(), Counters()
    for counters in (one, one, two):
        counters.request("tier:fast", "race", "ok")
        counters.attempt("sim", "a", "ok")
    two.attempt("sim", "b", "cancelled")
    two.arm("tier:trial", "new", "ok")
    assert {
        "requests": [{"selector": "tier:fast", "strategy": "race", "outcome": "ok", "count": 3}],
        "attempts": [
            {"provider": "sim", "model": "a", "outcome": "ok", "count": 3},
            {"provider": "sim", "model": "b", "outcome": "cancelled", "count": 1},
        ],
        "arms": [{"selector": "tier:trial", "arm": "new", "outcome": "ok", "count": 1}],
    } == total([pickle.loads(pickle.dumps(one)), two]).rows()
    assert 2 == one.requests["tier:fast", "race", "ok"]


def test_labels_are_bounded() -> None:
    """What comes beyond is counted together, and nothing is lost."""
    counters = Counters()
    for number in range(MAX_LABELS + 100):
        counters.request(f"sim/{number}", "first", "ok")
        counters.attempt("sim", str(number), "ok")
    counters.request("sim/0", "first", "ok")
    assert (MAX_LABELS + 1, MAX_LABELS + 1) == (len(counters.requests), len(counters.attempts))
    assert (100, 2) == (counters.requests["other", "first", "ok"], counters.requests["sim/0", "first", "ok"])
    assert MAX_LABELS + 100 == sum(counters.attempts.values())
