"""The control actor: it watches the configuration's file and publishes what it says; it adds up counters, and grants what
callers' keys may ask for in a minute.

A named, detached actor, like the pools. Coordinators ask it for whatever is newer than what they have and wait for the
answer (a long poll), and bring their counters along. It keeps nothing that cannot be made anew: killed, it comes back,
reads the file, and nobody notices; if the file has become unusable meanwhile, it takes the last good configuration from the
coordinators, who still have it. What it has added up begins at 0 again then, as the counters of any process that was
restarted do, and nothing is lost or seen twice: see `actors.tally`. It also has prices fetched, as often as the configuration
wants.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import ray

from actors.export import RayExport
from actors.pool import detached, on_the_head
from actors.tally import Brought, Tally
from orchestrator import logs
from orchestrator.asks import Reloaded
from orchestrator.config.live import Live, Snapshot
from orchestrator.counters import LOST, Counters
from orchestrator.limits.central import Central, Grant, Take
from orchestrator.pricing.openrouter import NotFetched
from orchestrator.pricing.refresh import Schedule, refresh
from orchestrator.types import Json

NAME = "control"
LOOK_S = 0.15
"""A change is read when it has been there, unchanged, for so long."""
POLL_S = 5.0
"""How long a poll waits; coordinators bring their counters as often."""
GONE_S = 30.0
"""A coordinator that has not asked for so long is gone; what it had counted stays."""
FRESH_S = 1.0
"""How long is waited for coordinators to bring their counters when somebody wants to see them."""
EXPORT_S = 5.0
"""How often Ray's own metrics are given what is new."""
LONELY_S = 60.0
REFRESH_LOOK_S = 1.0
"""How often it is looked whether prices are to be fetched."""

_log = logging.getLogger("orchestrator.control")


class Control:
    """The actor. Its methods run on one event loop."""

    def __init__(self, path: str) -> None:
        self._live = Live(path)
        self._reading = asyncio.Lock()
        """Threads read one after the other: a look, a reload that was asked for, what a coordinator brings."""
        self._changed = asyncio.Event()
        self._tally = Tally()
        self._brought = asyncio.Event()
        """Set, and replaced, when a coordinator has brought its counters."""
        self._export = RayExport()
        self._exported_s = time.monotonic()
        self._looked_s = 0.0
        """When somebody last wanted to see them."""
        self._asked_s = time.monotonic()
        self._limits = Central(self._asked_s)
        self._draining: set[str] | None = None
        """Set while the application is being stopped: the coordinators that have been told."""
        self._drained: set[str] = set()
        self._live.reload()
        if self._live.snapshot is not None:
            logs.configure(self._live.snapshot.config.logs, "control")
        self._watching = asyncio.ensure_future(self._watch())
        self._schedule = Schedule()
        self._refreshing = asyncio.ensure_future(self._refresh())

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                # Reading may take a while (a second for the largest); polls go on meanwhile.
                async with self._reading:
                    changed = await asyncio.to_thread(self._live.look)
                if changed:
                    self._publish()
            except Exception:
                # Whatever it was, the last good configuration stays, and the next look may fare better.
                _log.exception("the configuration could not be looked at")
            now_s = time.monotonic()
            self._tally.bury(now_s - GONE_S)
            if now_s - self._exported_s > EXPORT_S:
                self._exported_s = now_s
                try:
                    self._export.update(self._tally.total())
                except Exception:
                    # What Ray makes of it is not worth the watching.
                    _log.exception("Ray's metrics were not given what is new")
            if now_s - self._asked_s > LONELY_S:
                ray.kill(ray.get_runtime_context().current_actor, no_restart=True)

    async def _refresh(self) -> None:
        """Fetches prices when it is time to, in a thread; the new file is then seen as any change is."""
        while True:
            await asyncio.sleep(REFRESH_LOOK_S)
            snapshot = self._live.snapshot
            if snapshot is None or not self._schedule.due(snapshot.config.prices):
                continue
            problem: str | None = None
            try:
                await asyncio.to_thread(refresh, snapshot.config.prices.cache)
            except (NotFetched, OSError) as error:
                problem = " ".join(str(error).split())
            except Exception as error:  # a mistake of ours stops no refresh for good
                problem = f"{type(error).__name__}: {error}"
                _log.exception("prices could not be refreshed")
            self._schedule.ended(problem)

    def _publish(self) -> None:
        assert self._live.snapshot is not None
        logs.configure(self._live.snapshot.config.logs, "control")
        _log.info("version %d of the configuration is published", self._live.snapshot.version)
        self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def follow(self, path: str) -> None:
        """Watches this file from now on."""
        if path != self._live.path:
            live, before = Live(path), self._live.snapshot
            await asyncio.to_thread(live.reload)
            if live.snapshot is not None and before is not None:
                live.publish(live.snapshot.config, before.version + 1)
            self._live = live
            if live.snapshot is not None:
                self._publish()

    async def take(self, coordinator: str, brought: Brought) -> None:
        """What a coordinator has counted. Comes before each `next`, by itself, so that it is known at once to be taken."""
        self._tally.take(coordinator, time.monotonic(), brought)
        came, self._brought = self._brought, asyncio.Event()
        came.set()

    async def next(self, coordinator: str, version: int) -> Snapshot | Literal["unknown", "drain"] | None:
        """What is newer than `version`, as soon as there is something; None when there was nothing for a while.

        `unknown`: something is lacking here, and whoever has a snapshot is asked for it (`restore`). `drain`: said once to
        each coordinator when the application is being stopped; it says so (`drained`) when it has nothing in flight.
        """
        self._asked_s = time.monotonic()
        if self._draining is not None and coordinator not in self._draining:
            self._draining.add(coordinator)
            return "drain"
        if self._live.snapshot is not None and self._live.snapshot.version < version:
            # Made before this coordinator's, by the clock of another machine: it is what counts all the same.
            self._live.publish(self._live.snapshot.config, version + 1)
        if version and (self._live.snapshot is None or self._live.unsure):
            return "unknown"
        if self._live.snapshot is None or self._live.snapshot.version == version:
            if self._tally.asked(coordinator) < self._looked_s:
                return None  # it is wanted to bring its counters
            try:
                async with asyncio.timeout(POLL_S):
                    await self._changed.wait()
            except TimeoutError:
                return None
        if self._live.snapshot is None or self._live.snapshot.version == version:
            return None  # woken by something else
        return self._live.snapshot

    async def restore(self, snapshot: Snapshot) -> None:
        """The last good snapshot, from a coordinator; taken as far as there is none here."""
        async with self._reading:
            changed = await asyncio.to_thread(self._live.restore, snapshot)
        if changed:
            self._publish()

    async def drain(self, limit_s: float) -> bool:
        """Has all coordinators refuse what comes, and waits for what they have in flight. False: some had more than
        could be waited for."""
        self._draining = self._draining or set()
        self._wake()
        now_s = time.monotonic()
        try:
            async with asyncio.timeout(limit_s):
                while any(
                    now_s - self._tally.asked(name) < GONE_S for name in self._tally.coordinators - self._drained
                ):
                    await asyncio.sleep(0.05)
        except TimeoutError:
            return False
        return True

    async def drained(self, coordinator: str) -> None:
        """A coordinator has nothing in flight any more."""
        self._drained.add(coordinator)

    async def permits(self, takes: Sequence[Take]) -> list[Grant | None]:
        """Permits of keys' limits, one answer for each: see `orchestrator.limits.central`."""
        now_s = time.monotonic()
        return [self._limits.take(now_s, take) for take in takes]

    async def reload(self) -> Reloaded:
        """Reads the file now."""
        async with self._reading:
            changed = await asyncio.to_thread(self._live.reload)
        if changed:
            self._publish()
        snapshot = self._live.snapshot
        version = 0 if snapshot is None else snapshot.version
        return Reloaded(version, self._live.problems, _lines(self._live.user_problems))

    async def counters(self) -> Counters:
        """All that was counted, as it is now: coordinators bring theirs first, and those that do not within a second count
        as they last were."""
        since_s = self._looked_s = time.monotonic()
        self._wake()
        try:
            async with asyncio.timeout(FRESH_S):
                while any(self._tally.asked(name) < since_s for name in self._tally.coordinators):
                    await self._brought.wait()
        except TimeoutError:
            _log.info("a coordinator did not bring its counters within %g s", FRESH_S)
        return self._tally.total()

    async def status(self) -> Json:
        """What /admin/config shows: no keys, only how many there are."""
        live = self._live
        counted = self._tally.total()
        return {
            "source": live.path,
            "problems": [*live.problems, *_lines(live.user_problems)],
            "problems_since": live.problems_since,
            "counters": counted.rows(),
            "lost": int(counted.counted(LOST)),
            "coordinators": len(self._tally.coordinators),
        }


def _lines(problems: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(line for lines in problems.values() for line in lines)


def find_or_make(path: str) -> Any:
    """The handle of the control actor; the first who asks makes it. Blocks."""
    # On the head: files are the same on all nodes only to begin with, and there is one place where a change of them counts.
    return detached(Control, NAME, path, max_concurrency=1_000, resources=on_the_head())
