"""Intervals, against values that were worked out elsewhere."""

from __future__ import annotations

import math

import pytest

from orchestrator.intervals import around_mean, wilson


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        # Newcombe, Statistics in Medicine 17 (1998), 857-872, table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (20, 20, 1 - 0.1611, 1.0),
    ],
)
def test_wilson(successes: int, trials: int, low: float, high: float) -> None:
    """As published; at the ends of the scale they are exact."""
    found = wilson(successes, trials)
    assert found is not None
    assert (low, high) == pytest.approx(found, abs=5e-5)
    assert (found[0] == 0) == (successes == 0)
    assert (found[1] == 1) == (successes == trials)


def test_a_mean() -> None:
    """1 to 5: mean 3, standard deviation sqrt(2.5)."""
    half = 1.959964 * math.sqrt(2.5 / 5)
    assert (3 - half, 3 + half) == pytest.approx(around_mean(5, 15.0, 55.0))
    assert (0.1, 0.1) == pytest.approx(around_mean(3, 0.1 * 3, 0.1**2 * 3))


def test_nothing_is_said_of_too_few() -> None:
    """No share of nothing, no spread of one."""
    assert wilson(0, 0) is None
    assert around_mean(1, 5.0, 25.0) is None
