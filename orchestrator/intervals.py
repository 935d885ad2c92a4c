"""95 % intervals of what arms are compared by."""

from __future__ import annotations

import math

Z = 1.959963984540054
"""The normal distribution's quantile at 97.5 %."""


def wilson(successes: int, trials: int) -> tuple[float, float] | None:
    """Wilson's score interval of a share (JASA 22, 1927, 209-212); None: nothing was tried.

    It holds at shares of 0 and 1 and for few trials, where the usual one has no width.
    """
    if not trials:
        return None
    share, square = successes / trials, Z * Z
    middle = share + square / (2 * trials)
    half = Z * math.sqrt(share * (1 - share) / trials + square / (4 * trials * trials))
    scale = 1 + square / trials
    # The ends are exact where all is said: rounding would put them beside 0 and 1.
    low = 0.0 if successes == 0 else (middle - half) / scale
    high = 1.0 if successes == trials else (middle + half) / scale
    return low, high


def around_mean(count: int, total: float, squares: float) -> tuple[float, float] | None:
    """The normal interval of a mean, by the sum of the values and of their squares; None: fewer than two values.

    By the central limit theorem, which costs and latencies, skewed as they are, need some hundred values for.
    """
    if count < 2:
        return None
    mean = total / count
    variance = max(0.0, (squares - total * mean) / (count - 1))
    half = Z * math.sqrt(variance / count)
    return mean - half, mean + half
