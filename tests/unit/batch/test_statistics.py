"""The statistics of an evaluation, against published examples and scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from orchestrator.batch.statistics import (
    RESAMPLES,
    holm,
    kappa,
    mcnemar,
    mean_intervals,
    paired_difference,
    percentiles,
    wilson,
)


@pytest.mark.parametrize(
    ("right", "of", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_the_interval_of_a_share(right: int, of: int, low: float, high: float) -> None:
    """The four examples of Newcombe, "Two-sided confidence intervals for the single proportion", 1998, table I."""
    assert pytest.approx((low, high), abs=5e-5) == wilson(right, of)


@pytest.mark.parametrize(
    ("first", "second", "p", "exact"),
    [
        (1, 7, 18 / 256, True),  # airway hyper-responsiveness, Bentur et al., 2009
        (150, 86, stats.chi2.sf(63**2 / 236, 1), False),  # approval ratings, Agresti, 2002, section 10.1
        (12, 12, 1.0, True),
        (13, 13, 1.0, False),
        (0, 0, 1.0, True),
    ],
)
def test_mcnemar(first: int, second: int, p: float, exact: bool) -> None:
    """Binomial below 25 discordant items, chi-square with Edwards' correction from there on."""
    found = mcnemar(first, second)
    assert pytest.approx(p) == found.p
    assert exact == found.exact
    assert found == mcnemar(second, first)


@pytest.mark.parametrize(
    ("table", "value", "low", "high"),
    [
        ((36, 12, 2, 0), 0.2, 0.0569, 0.3404),  # Newcombe, 1998, table II
        ((59, 6, 16, 80), -0.0621, -0.1186, -0.0046),  # complete response to therapy, Cavo et al., 2012
        ((794, 150, 86, 570), 0.04, 0.0212, 0.0587),  # approval ratings, Agresti, 2002
        ((20, 0, 0, 0), 0.0, -0.1611, 0.1611),  # all are right: how far off can it be
    ],
)
def test_a_paired_difference(table: tuple[int, int, int, int], value: float, low: float, high: float) -> None:
    """Newcombe's tenth method."""
    found = paired_difference(*table)
    assert pytest.approx((value, low, high), abs=5e-5) == (found.value, *found.interval)


@given(st.tuples(*[st.integers(0, 60)] * 4).filter(any))
def test_a_paired_difference_lies_in_its_interval(table: tuple[int, int, int, int]) -> None:
    """Within -1 and 1, and the other way round it is the same with the other sign."""
    found = paired_difference(*table)
    assert -1 - 1e-9 <= found.interval.low <= found.value + 1e-9
    assert found.value - 1e-9 <= found.interval.high <= 1 + 1e-9
    both, first, second, neither = table
    turned = paired_difference(both, second, first, neither)
    assert pytest.approx((-found.interval.high, -found.interval.low), abs=1e-9) == turned.interval


def test_holm() -> None:
    """The smallest is multiplied by their number, the next by one less; none comes out below one before it, or above 1."""
    assert pytest.approx([0.03, 0.06, 0.06, 0.02]) == holm([0.01, 0.04, 0.03, 0.005])
    assert [1.0, 1.0] == holm([0.9, 0.6])
    assert [] == holm([])


@pytest.mark.parametrize(
    ("table", "value"), [((20, 5, 10, 15), 0.4), ((45, 15, 25, 15), 0.1304), ((25, 35, 5, 35), 0.2593)]
)
def test_kappa(table: tuple[int, int, int, int], value: float) -> None:
    """Two raters who say yes or no: the examples that textbooks compare it by."""
    yes, only, other, no = table
    first = np.array([1] * (yes + only) + [0] * (other + no))
    second = np.array([1] * yes + [0] * only + [1] * other + [0] * no)
    assert pytest.approx(value, abs=5e-5) == kappa(first, second)


def test_kappa_is_not_always_defined() -> None:
    """Without items, and where both say the same of all."""
    assert kappa(np.array([]), np.array([])) is None
    assert kappa(np.array([7, 7]), np.array([7, 7])) is None


def test_the_interval_of_a_mean() -> None:
    """As scipy's bootstrap has it, as far as resampling goes."""
    values = np.random.default_rng(1).exponential(size=300)
    expected = stats.bootstrap((values,), np.mean, n_resamples=4 * RESAMPLES, method="percentile", rng=2)
    (found,) = mean_intervals([values])
    assert found is not None
    assert pytest.approx(tuple(expected.confidence_interval), rel=0.02) == found
    assert [found] == mean_intervals([values])


def test_means_of_columns_with_gaps() -> None:
    """An item that a column lacks takes no part in its mean; fewer than two values have no interval."""
    nan = math.nan
    first, second, third = mean_intervals(
        [np.array([1.0, 2.0, nan]), np.array([nan, nan, 1.0]), np.array([5.0, 5.0, 5.0])]
    )
    assert ((1.0, 2.0), None, (5.0, 5.0)) == (first, second, third)
    assert [] == mean_intervals([])
    assert [None] == mean_intervals([np.array([])])


def test_many_items_are_resampled_in_parts() -> None:
    """The interval of a mean of 20,000 items is as narrow as theory has it."""
    (found,) = mean_intervals([np.random.default_rng(1).normal(size=20_000)])
    assert found is not None
    assert pytest.approx(2 * 1.96 / math.sqrt(20_000), rel=0.1) == found.high - found.low


def test_percentiles() -> None:
    """Interpolated between neighbours; nothing of nothing."""
    assert {"p50": 51.0, "p90": 91.0, "p95": 96.0, "p99": 100.0} == percentiles(np.arange(1.0, 102.0))
    assert {} == percentiles(np.array([]))
