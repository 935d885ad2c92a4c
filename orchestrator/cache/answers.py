"""Answers by their requests' digests: least recently used go first, none is older than anybody allows, bytes are bounded.

Pure: time is given. The same class serves one process (`orchestrator.cache.flights`) and, in an actor, many
(`actors.answers`); for those it also knows who is making an answer, so that others wait for it instead of making it, too.
A claim is worth as much as its owner's last sign of life.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

OVERHEAD_BYTES = 400
"""What an entry takes beside its key and value: 315 bytes on CPython 3.11, over 100,000 entries (tracemalloc), and what the
allocator adds."""
LARGEST_SHARE = 0.1
"""Of all bytes that one answer may take: a few huge ones would drive out everything else."""
DEAD_S = 5.0
"""A claim whose owner has given no sign of life for so long is void."""
LONGEST_S = 900.0
"""So is one that is as old as this, however alive its owner: longer than any call with the default time-outs."""


class Looked(NamedTuple):
    """What came of a look."""

    value: bytes | None = None
    """The answer."""
    yours: bool = False
    """There is none, and whoever looked is the one to make it. Neither: somebody else is making it."""


@dataclass(slots=True)
class _Entry:
    value: bytes
    at_s: float
    ttl_s: float
    size_bytes: int


@dataclass(slots=True)
class _Claim:
    owner: str
    at_s: float
    heard_s: float


class Answers:
    """The answers, and the claims on those that are being made."""

    def __init__(self, max_bytes: int = 0) -> None:
        self.size_bytes = 0
        self._max_bytes = max_bytes
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        """The least recently used first."""
        self._claims: dict[bytes, _Claim] = {}

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def claims(self) -> int:
        """How many answers are being made."""
        return len(self._claims)

    def is_claimed(self, key: bytes) -> bool:
        """Whether somebody is making this one."""
        return key in self._claims

    def bound(self, max_bytes: int) -> None:
        """From now on there may be so many bytes, overhead included; what is too much goes at once."""
        self._max_bytes = max_bytes
        self._shrink()

    def look(self, key: bytes, owner: str, ttl_s: float, now_s: float) -> Looked:
        """An answer younger than `ttl_s`, and than whoever gave it allowed; or a claim, if nobody has one."""
        entry = self._entries.get(key)
        if entry is not None:
            age_s = now_s - entry.at_s
            if age_s < min(ttl_s, entry.ttl_s):
                self._entries.move_to_end(key)
                return Looked(entry.value)
            if age_s >= entry.ttl_s:
                self._drop(key)
        claim = self._claims.get(key)
        if claim is not None and claim.owner != owner and _holds(claim, now_s):
            return Looked()
        self._claims[key] = _Claim(owner, now_s, now_s)
        return Looked(yours=True)

    def give(self, key: bytes, owner: str, value: bytes | None, ttl_s: float, now_s: float) -> None:
        """Ends the owner's claim, if it has one, with the answer; None: there is none to keep."""
        claim = self._claims.get(key)
        if claim is not None and claim.owner == owner:
            del self._claims[key]
        if value is None:
            return
        # An older one is none any more, also where the new one is too large to be kept.
        self._drop(key)
        size_bytes = len(key) + len(value) + OVERHEAD_BYTES
        if ttl_s > 0 and size_bytes <= self._max_bytes * LARGEST_SHARE:
            self._entries[key] = _Entry(value, now_s, ttl_s, size_bytes)
            self.size_bytes += size_bytes
            self._shrink()

    def beat(self, owners: Collection[str], now_s: float) -> None:
        """These owners still make what they have claimed; claims that are void by now are let go of."""
        for key, claim in [*self._claims.items()]:
            if claim.owner in owners:
                claim.heard_s = now_s
            if not _holds(claim, now_s):
                del self._claims[key]

    def _shrink(self) -> None:
        while self.size_bytes > self._max_bytes:
            _, entry = self._entries.popitem(last=False)
            self.size_bytes -= entry.size_bytes

    def _drop(self, key: bytes) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.size_bytes -= entry.size_bytes


def _holds(claim: _Claim, now_s: float) -> bool:
    return now_s - claim.heard_s < DEAD_S and now_s - claim.at_s < LONGEST_S
