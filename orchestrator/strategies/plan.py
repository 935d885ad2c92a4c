"""What a strategy is: a pure generator that says which calls to start and stop, and is told what came of them.

A plan never calls anything and never reads a clock. It yields a `Step` and is sent an `Event`; it returns a `Verdict`.
Three drivers run the same plans: a virtual clock (tests), asyncio (`orchestrator.drive`) and `ray.wait`
(`actors.waiting`), all under one contract suite.

The rules between a plan and its driver:

- Times are seconds since the request began. The first step answers no event: it is taken at 0.
- A call has an identity; two calls of the same candidate are two calls.
- Each call that a plan starts ends in exactly one `Reply`, `Finish` or `Failure` event, unless it is stopped first. A
  streamed call that got its first token sends one `Opened` before.
- A plan may commit to an opened call: from then on its chunks go to the caller. A step that commits stops all others.
  The plan stays alive, so that a cut can be answered by another call.
- An event of a stopped call is never delivered. What is still running when a plan returns is cancelled.
"""

from __future__ import annotations

from collections.abc import Generator
from math import inf
from typing import NamedTuple

from orchestrator.types import Failure, Finish, Json, Opened, Reply, Request, Sent


class Call(NamedTuple):
    """One call of one candidate."""

    id: int
    candidate: int
    """Which member is called; for a driver: the index among the route's leaves."""
    request: Request
    extra: bool = False
    """A hedge: load beyond what was asked for, charged to the budget of the pool that gets it."""


class Step(NamedTuple):
    """What a plan wants now: stop, then start, then wait for an event until `wake_at_s`."""

    start: tuple[Call, ...] = ()
    stop: tuple[int, ...] = ()
    commit: int | None = None
    """The opened call whose chunks go to the caller from now on."""
    wake_at_s: float = inf
    """Send a bare event (`call` None) when this time has come, unless something else happens first."""


Happening = Opened | Reply | Finish | Failure
"""What can happen to a call."""


class Event(NamedTuple):
    """What happened: a call's outcome, or, with `call` None, that the time asked for has come."""

    at_s: float
    call: int | None = None
    outcome: Happening | None = None
    sent: Sent | None = None
    """With the failure of a committed call: what its caller has. None: nobody can go on from there."""


class Verdict(NamedTuple):
    """How a request ended, and by which call (None where no single call stands for it)."""

    outcome: Reply | Finish | Failure
    call: int | None = None
    sent: Sent | None = None
    """With the failure of a stream that had begun: what its caller has, for whoever goes on."""
    consensus: Json | None = None
    """Where a vote was taken: the `consensus` part of the answer object (contract §3)."""


Plan = Generator[Step, Event, Verdict]
