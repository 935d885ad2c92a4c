"""The statistics of an evaluation: how sure a share, a mean or a difference is.

All is a function of its arguments: resampling is seeded, so the same results give the same figures. Needs scipy (the extra
`orchestrator[batch]`); nothing but `orchestrator.batch.summing` and what stands on it imports this module.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from orchestrator import intervals

LEVEL = 0.95
"""Of all intervals."""
EXACT_BELOW = 25
"""Discordant items below which McNemar's test is exact: above, chi-square is a good approximation (Fleiss, Levin and Paik,
"Statistical Methods for Rates and Proportions", 3rd ed., 2003, section 13.1)."""
RESAMPLES = 1_000
"""What an interval by percentiles needs (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, section 14.3)."""
SEED = 20_240_601
"""Of the resampling."""
_BATCH = 1_000_000
"""So many numbers are drawn at a time: memory stays flat for any number of items."""
PERCENTILES = (50, 90, 95, 99)

Floats = NDArray[np.float64]


class Interval(NamedTuple):
    """Bounds at `LEVEL`."""

    low: float
    high: float


class Difference(NamedTuple):
    """Of two shares or means over the same items: the first less the second."""

    value: float
    interval: Interval


class McNemar(NamedTuple):
    """Whether two arms are right equally often, by the items on which only one of them is."""

    p: float
    exact: bool


def wilson(right: int, of: int) -> Interval:
    """The score interval of a share (Wilson, "Probable Inference", JASA 22, 1927). Raises ValueError for none of none."""
    found = intervals.wilson(right, of)
    if found is None:
        raise ValueError("there is no share of none")
    return Interval(*found)


def mcnemar(first: int, second: int) -> McNemar:
    """The two-sided test (McNemar, Psychometrika 12, 1947): `first` items are right in the first arm only, `second` likewise.

    Exact (binomial) for few of them, else chi-square with Edwards' correction for continuity.
    """
    discordant = first + second
    if discordant == 0:
        return McNemar(1.0, True)
    if discordant < EXACT_BELOW:
        return McNemar(float(stats.binomtest(first, discordant).pvalue), True)
    statistic = max(0, abs(first - second) - 1) ** 2 / discordant
    return McNemar(float(stats.chi2.sf(statistic, 1)), False)


def paired_difference(both: int, first: int, second: int, neither: int) -> Difference:
    """The difference of two shares over the same items, by how many of them are right in both, one, and none.

    The interval is Newcombe's tenth ("Improved confidence intervals for the difference between binomial proportions based on
    paired data", Statistics in Medicine 17, 1998): Wilson's two, put together with the correlation of the pairs. It holds for
    few items and for shares near 0 and 1, where the usual one does not. Raises ValueError for no items.
    """
    n = both + first + second + neither
    one, other = (both + first) / n, (both + second) / n
    low_one, high_one = wilson(both + first, n)
    low_other, high_other = wilson(both + second, n)
    phi = _correlation(both, first, second, neither)
    value = one - other
    down = _hypotenuse(one - low_one, high_other - other, phi)
    up = _hypotenuse(high_one - one, other - low_other, phi)
    return Difference(value, Interval(value - down, value + up))


def _hypotenuse(one: float, other: float, phi: float) -> float:
    return math.sqrt(max(0.0, one**2 - 2 * phi * one * other + other**2))


def _correlation(both: int, first: int, second: int, neither: int) -> float:
    """Phi, corrected for continuity where it is positive, as Newcombe has it."""
    margins = (both + first) * (second + neither) * (both + second) * (first + neither)
    if margins == 0:
        return 0.0
    product: float = both * neither - first * second
    if product > 0:
        product = max(0.0, product - (both + first + second + neither) / 2)
    return product / math.sqrt(margins)


def holm(p_values: Sequence[float]) -> list[float]:
    """Corrected for their number (Holm, "A simple sequentially rejective multiple test procedure", 1979), in their order."""
    order = sorted(range(len(p_values)), key=lambda at: p_values[at])
    corrected = [1.0] * len(p_values)
    greatest = 0.0
    for rank, at in enumerate(order):
        greatest = max(greatest, min(1.0, (len(p_values) - rank) * p_values[at]))
        corrected[at] = greatest
    return corrected


def kappa(first: NDArray[Any], second: NDArray[Any]) -> float | None:
    """Cohen's kappa of two raters' labels ("A coefficient of agreement for nominal scales", 1960).

    None where it is not defined: without items, or where both give one and the same label to all.
    """
    if not len(first):
        return None
    observed = float(np.mean(first == second))
    labels, codes = np.unique(np.concatenate((first, second)), return_inverse=True)
    counts = [
        np.bincount(part, minlength=len(labels)) / len(first) for part in (codes[: len(first)], codes[len(first) :])
    ]
    by_chance = float(np.dot(*counts))
    return None if by_chance == 1.0 else (observed - by_chance) / (1 - by_chance)


def mean_intervals(columns: Sequence[Floats]) -> list[Interval | None]:
    """The interval of each column's mean: percentiles of `RESAMPLES` resampled means (the same book, chapter 13).

    A row is an item, and NaN stands for what an item lacks. Items are drawn once for all columns: 50,000 items of 6 arms and
    their 15 pairs take seconds, where a resampling of each column took minutes. None for a column with fewer than two values.
    """
    values = np.column_stack(columns) if columns else np.empty((0, 0))
    there = ~np.isnan(values)
    # Most columns are of the same items: those are counted once.
    kinds: dict[bytes, int] = {}
    kind = [kinds.setdefault(there[:, at].tobytes(), len(kinds)) for at in range(there.shape[1])]
    first = [kind.index(one) for one in range(len(kinds))]
    weighed, counted = np.where(there, values, 0.0), there[:, first].astype(np.float64)
    count = len(values)
    draws = np.random.default_rng(SEED)
    rows = max(1, _BATCH // max(1, count))
    means = []
    for start in range(0, RESAMPLES if count else 0, rows):
        size = min(rows, RESAMPLES - start)
        # How often each item is drawn, in each of `size` resamples.
        drawn = draws.integers(0, count, (size, count)) + np.arange(size)[:, None] * count
        times = np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count).astype(np.float64)
        with np.errstate(invalid="ignore"):  # a resample may hold none of a column that has few
            means.append((times @ weighed) / (times @ counted)[:, kind])
    enough = there.sum(axis=0) >= 2
    tails = (50 * (1 - LEVEL), 50 * (1 + LEVEL))
    return [
        Interval(*(float(bound) for bound in np.nanpercentile(np.concatenate(means)[:, at], tails)))
        if enough[at]
        else None
        for at in range(values.shape[1])
    ]


def percentiles(values: Floats) -> dict[str, float]:
    """`p50` and so on, interpolated between neighbours. Nothing for no values."""
    if not len(values):
        return {}
    return {f"p{at}": float(found) for at, found in zip(PERCENTILES, np.percentile(values, PERCENTILES), strict=True)}
