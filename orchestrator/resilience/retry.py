"""Whether, and after how long, the same candidate is asked again.

Full jitter, after the AWS Architecture Blog ("Exponential Backoff and Jitter", 2015): uniform between 0 and the
exponential bound. A rate limit is not backed off here: its model is paused for everybody (`admission`), and the retry
waits there like any other call.
"""

from __future__ import annotations

import random

from orchestrator.config import settings
from orchestrator.types import Failure, FailureKind


def wait_s(policy: settings.Retry, failure: Failure, tries: int, rng: random.Random) -> float | None:
    """Seconds to wait before try number `tries` + 1, or None: do not try again."""
    if tries >= policy.attempts or not failure.kind.traits.retry_same:
        return None
    asked_s = failure.retry_after_s
    if asked_s is not None and asked_s > policy.honour_retry_after_s:
        return None
    if failure.kind is FailureKind.RATE_LIMITED:
        return 0.0
    return asked_s if asked_s is not None else rng.uniform(0, backoff_s(policy, tries))


def backoff_s(policy: settings.Retry, tries: int) -> float:
    """The exponential bound after `tries` tries."""
    return float(min(policy.backoff_max_s, policy.backoff_s * 2 ** (tries - 1)))
