"""What was used in the last 60 seconds, to a tenth of a second."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

WINDOW_S = 60.0
BUCKET_S = 0.1
"""Uses within it are counted as one, and forgotten with the last of them: never early, and at most so much late."""


class Window:
    """A sum over the last 60 seconds. Amounts are whole, so that what is taken away again leaves nothing behind."""

    __slots__ = ("_amounts", "_ends", "_first", "total")

    def __init__(self) -> None:
        self._ends: list[int] = []
        """The buckets that hold something, by number, the oldest first."""
        self._amounts: list[int] = []
        self._first = 0
        """The oldest that was not forgotten: lists are cut when half of them is."""
        self.total = 0

    def add(self, now_s: float, at_s: float, amount: int) -> None:
        """Uses an amount at `at_s`; a negative one takes back what was used then. What is forgotten by now is let be."""
        bucket = int(at_s / BUCKET_S)
        ends = self._ends
        if ends and ends[-1] == bucket and self._first < len(ends):
            self._amounts[-1] += amount
            self.total += amount
            return
        if _forgotten_s(bucket) <= now_s:
            return
        self.total += amount
        if len(ends) == self._first or bucket > ends[-1]:
            ends.append(bucket)
            self._amounts.append(amount)
            return
        place = bisect_left(ends, bucket, self._first)
        if ends[place] == bucket:
            self._amounts[place] += amount
        else:
            ends.insert(place, bucket)
            self._amounts.insert(place, amount)

    def forget(self, now_s: float) -> int:
        """Forgets what is older, and says what is left."""
        first, ends = self._first, self._ends
        while first < len(ends) and _forgotten_s(ends[first]) <= now_s:
            self.total -= self._amounts[first]
            first += 1
        if first > len(ends) // 2:
            del ends[:first], self._amounts[:first]
            first = 0
        self._first = first
        return self.total

    def any(self) -> bool:
        """Whether anything was used that was not forgotten, be it taken back."""
        return len(self._ends) > self._first

    def forgets(self) -> Iterator[tuple[float, int]]:
        """When each amount will be forgotten, the first first."""
        for place in range(self._first, len(self._ends)):
            yield _forgotten_s(self._ends[place]), self._amounts[place]

    def ages(self, now_s: float) -> tuple[tuple[float, int], ...]:
        """Each amount with how long ago it was used, for another clock: at least so long."""
        return tuple((now_s + WINDOW_S - at_s, amount) for at_s, amount in self.forgets())


def _forgotten_s(bucket: int) -> float:
    return (bucket + 1) * BUCKET_S + WINDOW_S
