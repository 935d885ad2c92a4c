"""Which replica of a local model answers a call: the one that has the conversation's beginning in its cache, unless it is
busier than the others.

A conversation grows at its end: all that comes before its first answer is in each of its requests. So what is hashed is the
model's name and the messages up to the first one of the user's, and each hash has a home by rendezvous (Thaler and
Ravishankar, 1998): when a replica comes or goes, only the conversations move whose home it becomes, or was.

How busy a replica is: the calls that it was sent and has not answered, those that it has from elsewhere or made of one call
(`n`), those that it has queued, which wait for others as this one would, and its KV cache, which preempts when it is full.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple, Protocol, TypeVar

import orjson

from orchestrator.types import Request

SLACK_CALLS, SLACK_SHARE = 4.0, 0.25
"""A home may be busier than the least busy replica by so many calls, and so much more of that one's: beyond it, computing a
prefix anew is taken to cost less than waiting. Chosen, not measured: what a prefix is worth depends on model and GPU."""
FULL_CACHE_CALLS = 8.0
"""What a full KV cache counts for."""


class Load(NamedTuple):
    """How busy a replica says that it is."""

    running: float = 0.0
    waiting: float = 0.0
    cache: float = 0.0
    """Share of its KV cache that is in use."""

    def without(self, in_flight: int) -> Load:
        """The same with only those running that are none of these calls."""
        return self._replace(running=max(0.0, self.running + self.waiting - in_flight))


class _Placed(Protocol):
    @property
    def replica(self) -> int | None: ...


class Busy(Protocol):
    """A replica as admission knows it."""

    in_flight: int
    calls: int
    load: Load
    """`without` its calls in flight."""

    @property
    def upstream(self) -> _Placed:
        """Which one it is."""
        ...


B = TypeVar("B", bound=Busy)


def busyness(one: Busy) -> float:
    """In calls."""
    load = one.load
    return one.in_flight + load.running + load.waiting + FULL_CACHE_CALLS * load.cache


def nearest(replicas: Sequence[B], affinity: bytes) -> B:
    """The one of `replicas`, at least one, that is to answer; without an affinity the least busy, of equals the one with the
    fewest calls."""
    least = min(replicas, key=lambda one: (busyness(one), one.calls))
    if not affinity:
        return least
    home = max(replicas, key=lambda one: blake2b(b"%d" % (one.upstream.replica or 0), key=affinity).digest())
    bound = busyness(least) * (1 + SLACK_SHARE) + SLACK_CALLS
    return home if busyness(home) <= bound else least


def affinity_of(request: Request, model: str) -> bytes:
    """What the requests of a conversation have in common; empty: nothing that a cache would help with."""
    messages = request.body.get("messages")
    if not isinstance(messages, list):
        return b""
    first = next((i for i, one in enumerate(messages) if isinstance(one, dict) and one.get("role") == "user"), None)
    if first is None:
        return b""
    try:
        beginning = orjson.dumps([model, messages[: first + 1]])
    except orjson.JSONEncodeError:
        return b""  # the dialect will say so
    return blake2b(beginning, digest_size=16).digest()
