"""How much extra load there may be: retries and hedges together stay under a share of the calls that were asked for.

A token bucket after Finagle's RetryBudget: each ordinary call deposits `share` of a token, each extra call takes a whole
one. A floor of extra calls a second lets a quiet system retry at all. The bucket holds at most ten seconds' worth of the
floor plus a hundred tokens, so that a quiet hour does not pay for a storm of retries.
"""

from __future__ import annotations

FLOOR_PER_S = 1.0
CAPACITY = 100.0


class Budget:
    """A budget of extra calls."""

    __slots__ = ("_filled_s", "_floor_per_s", "_share", "_tokens")

    def __init__(self, share: float, now_s: float, *, floor_per_s: float = FLOOR_PER_S) -> None:
        self._share = share
        self._floor_per_s = floor_per_s
        self._tokens = 10 * floor_per_s
        self._filled_s = now_s

    def deposit(self, now_s: float) -> None:
        """An ordinary call is made."""
        self._fill(now_s)
        self._tokens = min(self._tokens + self._share, CAPACITY)

    def take(self, now_s: float) -> bool:
        """Whether an extra call may be made now; if so, it is charged."""
        self._fill(now_s)
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def _fill(self, now_s: float) -> None:
        floor = self._floor_per_s * 10
        if self._tokens < floor:
            self._tokens = min(floor, self._tokens + (now_s - self._filled_s) * self._floor_per_s)
        self._filled_s = now_s
