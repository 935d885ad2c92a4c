"""Quantiles of how long a model takes."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.resilience.latency import ENOUGH, EVERY, MODELS, SHARES, WINDOW, Latencies


def filled(samples: list[float]) -> Latencies:
    latencies = Latencies()
    for sample in samples:
        latencies.record("m", sample, stream=False)
    return latencies


def test_nothing_is_said_of_too_few() -> None:
    """Fifty are enough; streams and whole answers are apart, and so are models."""
    latencies = filled([1.0] * (ENOUGH - 1))
    assert latencies.quantiles("m", stream=False) is None
    latencies.record("m", 1.0, stream=True)
    latencies.record("n", 1.0, stream=False)
    assert latencies.quantiles("m", stream=False) is None
    latencies.record("m", 1.0, stream=False)
    assert latencies.quantiles("m", stream=False) == dict.fromkeys(SHARES, 1.0)


@given(st.lists(st.floats(0, 100), min_size=ENOUGH, max_size=WINDOW))
def test_they_are_order_statistics(samples: list[float]) -> None:
    """At most the share of the samples lies below each."""
    quantiles = filled(samples).quantiles("m", stream=False)
    assert quantiles is not None
    for share, value in quantiles.items():
        assert value in samples
        assert sum(sample < value for sample in samples) <= share * len(samples)
        assert sum(sample <= value for sample in samples) >= share * len(samples)


def test_they_follow_a_provider_that_becomes_slow() -> None:
    """What is older than the window counts no more; new samples show after a few."""
    latencies = filled([1.0] * WINDOW)
    assert latencies.quantiles("m", stream=False) == dict.fromkeys(SHARES, 1.0)
    for _ in range(WINDOW):
        latencies.record("m", 5.0, stream=False)
    assert latencies.quantiles("m", stream=False) == dict.fromkeys(SHARES, 5.0)
    for _ in range(EVERY - 1):
        latencies.record("m", 9.0, stream=False)
    quantiles = latencies.quantiles("m", stream=False)
    assert quantiles is not None
    assert quantiles[0.99] == 5.0


def test_calls_that_were_cut_off_count_where_they_tell_something() -> None:
    """A hedge's slow first stays slow; the loser of a race says nothing, nor does anything before there is a median."""
    latencies = Latencies()
    for _ in range(2 * ENOUGH):
        latencies.record("m", 0.01, stream=False, cut_off=True)
    assert latencies.quantiles("m", stream=False) is None
    for _ in range(ENOUGH):
        latencies.record("m", 1.0, stream=False)
    for _ in range(ENOUGH):
        latencies.record("m", 0.01, stream=False, cut_off=True)
    assert latencies.quantiles("m", stream=False) == dict.fromkeys(SHARES, 1.0)
    for _ in range(EVERY):
        latencies.record("m", 3.0, stream=False, cut_off=True)
    quantiles = latencies.quantiles("m", stream=False)
    assert quantiles is not None
    assert (1.0, 3.0) == (quantiles[0.5], quantiles[0.9])


def test_a_heavy_tail_is_estimated_within_a_quarter() -> None:
    """p95 of a log-normal (median 0.4, p99 3.0: p95 is 1.66), over 512 samples."""
    rng = random.Random(3)
    quantiles = filled([rng.lognormvariate(-0.916, 0.866) for _ in range(WINDOW)]).quantiles("m", stream=False)
    assert quantiles is not None
    assert quantiles[0.95] == pytest.approx(1.66, rel=0.25)


def test_models_are_bounded() -> None:
    """Callers choose their names; the oldest is forgotten."""
    latencies = Latencies()
    for number in range(MODELS + 1):
        for _ in range(ENOUGH if number in (0, MODELS) else 1):
            latencies.record(str(number), 1.0, stream=False)
    assert latencies.quantiles("0", stream=False) is None
    assert latencies.quantiles(str(MODELS), stream=False) is not None
