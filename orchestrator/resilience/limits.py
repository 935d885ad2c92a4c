"""Requests and tokens per minute of one account, as token buckets.

The burst is a tenth of the minute's allowance (at least one): over any minute at most 1.1 times the limit is sent, and a
quiet account answers a small burst at once. Tokens are charged by estimate when a call is sent and corrected by what it
really used; the correction may leave the bucket in debt, which later calls wait out.
"""

from __future__ import annotations

from math import inf

BURST_SHARE = 0.1


class Bucket:
    """One token bucket; `per_minute` None never limits."""

    __slots__ = ("_burst", "_level", "_per_s", "_seen_s")

    def __init__(self, per_minute: float | None, now_s: float) -> None:
        self._per_s = inf if per_minute is None else per_minute / 60
        self._burst = inf if per_minute is None else max(1.0, per_minute * BURST_SHARE)
        self._level = self._burst
        self._seen_s = now_s

    def ready_s(self, now_s: float, amount: float) -> float:
        """When `amount` may be taken. More than a burst may be taken once the bucket is full."""
        if self._per_s == inf:
            return now_s
        self._fill(now_s)
        missing = min(amount, self._burst) - self._level
        return now_s if missing <= 1e-9 else now_s + missing / self._per_s

    def take(self, now_s: float, amount: float) -> None:
        """Takes it, into debt if need be; a negative amount gives back."""
        if self._per_s != inf:
            self._fill(now_s)
            self._level = min(self._burst, self._level - amount)

    def _fill(self, now_s: float) -> None:
        self._level = min(self._burst, self._level + (now_s - self._seen_s) * self._per_s)
        self._seen_s = now_s
