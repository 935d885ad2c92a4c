"""The cache that all coordinators share: a named, detached actor around `orchestrator.cache.answers.Answers`.

It is made where a configuration, or a request, wants answers kept, and ends itself when no coordinator has given a sign of
life for a while. What it holds may be lost: while it is away, requests are answered as if there were no cache. Coordinators
have no second cache of their own: a look costs a call of an actor, 1 ms against the seconds of a model, and an answer that
was made anew (`no-cache`) is the one that everybody gets.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Collection
from contextlib import suppress
from typing import Any
from uuid import uuid4

import ray
from ray.exceptions import RayError

from actors.pool import detached
from orchestrator.cache.answers import Answers, Looked
from orchestrator.cache.terms import is_wanted
from orchestrator.config.settings import Config

NAME = "answers"
WAIT_S = 4.0
"""How long a look waits in the actor while somebody else makes the answer; then it is asked again."""
ASK_S = 2.0
"""How long the actor may take beyond that; then it is away."""
UP_S = 10.0
"""How long a coordinator waits for it before it begins without."""
AGAIN_S = 1.0
"""After so long it is looked for again, where it was away."""
BEAT_S = 1.0
"""How often a coordinator says which answers it is still making."""
LONELY_S = 60.0
MAX_CONCURRENCY = 100_000
"""Looks that wait at once."""

_log = logging.getLogger("orchestrator.answers")


class AnswersActor:
    """The actor. Its methods run on one event loop."""

    def __init__(self) -> None:
        self._answers = Answers()
        self._changed: dict[bytes, asyncio.Event] = {}
        """For those who wait for an answer that is being made."""
        self._waiting: set[str] = set()
        self._heard: dict[str, float] = {}
        """Coordinator -> its last sign of life."""
        self._heard_s = time.monotonic()
        self._watch = asyncio.ensure_future(self._end_when_lonely())

    async def look(self, key: bytes, owner: str, ttl_s: float, wait_s: float) -> Looked:
        """See `Answers.look`; where somebody else is making the answer, it is waited for, but not for ever."""
        looked = self._answers.look(key, owner, ttl_s, time.monotonic())
        until_s = time.monotonic() + wait_s
        self._waiting.add(owner)
        while looked == Looked() and (left_s := until_s - time.monotonic()) > 0:
            changed = self._changed.setdefault(key, asyncio.Event())
            with suppress(TimeoutError):
                # A claim may become void without anybody's doing.
                async with asyncio.timeout(min(left_s, BEAT_S)):
                    await changed.wait()
            if owner not in self._waiting:
                return looked  # it has left meanwhile: a claim would be nobody's
            looked = self._answers.look(key, owner, ttl_s, time.monotonic())
        self._waiting.discard(owner)
        return looked

    async def give(self, key: bytes, owner: str, value: bytes | None, ttl_s: float) -> None:
        """See `Answers.give`."""
        self._waiting.discard(owner)
        self._answers.give(key, owner, value, ttl_s, time.monotonic())
        changed = self._changed.pop(key, None)
        if changed is not None:
            changed.set()

    async def beat(self, coordinator: str, owners: Collection[str], max_bytes: int) -> None:
        """A coordinator lives, makes these answers, and says how much may be kept."""
        self._heard_s = self._heard[coordinator] = time.monotonic()
        self._answers.beat(owners, self._heard_s)
        for key in [key for key in self._changed if not self._answers.is_claimed(key)]:
            self._changed.pop(key).set()
        self._answers.bound(max_bytes)

    async def leave(self, coordinator: str) -> None:
        """A coordinator has no use for it any more; the last one ends it."""
        self._heard.pop(coordinator, None)
        if not self._heard:
            ray.kill(ray.get_runtime_context().current_actor, no_restart=True)

    async def stats(self) -> dict[str, int]:
        """How much there is."""
        answers = self._answers
        return {
            "answers": len(answers),
            "bytes": answers.size_bytes,
            "claims": answers.claims,
            "pid": os.getpid(),
        }

    async def _end_when_lonely(self) -> None:
        while time.monotonic() - self._heard_s < LONELY_S:
            await asyncio.sleep(BEAT_S)
            gone_s = time.monotonic() - LONELY_S
            self._heard = {name: at_s for name, at_s in self._heard.items() if at_s > gone_s}
        _log.info("no coordinator any more: the cache ends")
        ray.kill(ray.get_runtime_context().current_actor, no_restart=True)


class RayAnswers:
    """`orchestrator.cache.flights.Store` over the actor. `group` tells it apart from others' (see `actors.pools`)."""

    def __init__(self, group: str = "") -> None:
        self._name = f"{NAME}:{group}" if group else NAME
        self._me = uuid4().hex
        self._max_bytes = 0
        self._actor: Any = None
        self._connecting: asyncio.Task[None] | None = None
        self._beating: asyncio.Task[None] | None = None
        self._owners: set[str] = set()
        """Who makes an answer, or waits for one."""
        self._away_s = -AGAIN_S
        """When it was last found to be away."""
        self._said = False
        """Whether it has been said that it is away."""

    async def apply(self, config: Config) -> None:
        """Makes the actor if the configuration wants it, and waits for it, but not for ever."""
        if is_wanted(config):
            self._connect()
            assert self._connecting is not None
            await asyncio.wait([self._connecting], timeout=UP_S)

    def bound(self, max_bytes: int) -> None:
        """See `Store`: the actor learns it with the next beat."""
        self._max_bytes = max_bytes

    async def take(self, key: bytes, owner: str, ttl_s: float) -> bytes | None:
        """See `Store`. While the actor is away there is nothing, and everybody makes their own."""
        self._owners.add(owner)
        while True:
            if self._actor is None:
                # Not waited for: an answer that is made once more is better than one that is late.
                self._connect()
                return None
            try:
                async with asyncio.timeout(WAIT_S + ASK_S):
                    looked: Looked = await self._actor.look.remote(key, owner, ttl_s, WAIT_S)
            except (RayError, TimeoutError) as error:
                self._lose(error)
                return None
            if looked.value is not None or looked.yours:
                return looked.value

    def give(self, key: bytes, owner: str, value: bytes | None, ttl_s: float) -> None:
        """See `Store`."""
        self._owners.discard(owner)
        if self._actor is not None:
            try:
                self._actor.give.remote(key, owner, value, ttl_s)
            except RayError as error:
                self._lose(error)

    def _connect(self) -> None:
        """Finds or makes the actor, unless that is going on, or was tried a moment ago."""
        again = time.monotonic() - self._away_s >= AGAIN_S
        if self._actor is None and again and (self._connecting is None or self._connecting.done()):
            self._connecting = asyncio.ensure_future(self._reach())

    async def _reach(self) -> None:
        try:
            actor = await asyncio.to_thread(detached, AnswersActor, self._name, max_concurrency=MAX_CONCURRENCY)
            await self._beat(actor)
        except (RayError, TimeoutError, ValueError) as error:
            self._lose(error)
            return
        self._actor, self._said = actor, False
        if self._beating is None:
            self._beating = asyncio.ensure_future(self._keep_beating())

    async def _keep_beating(self) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            if self._actor is None:
                self._connect()
                continue
            try:
                await self._beat(self._actor)
            except (RayError, TimeoutError) as error:
                self._lose(error)

    async def _beat(self, actor: Any) -> None:
        # The first one is answered when the actor is up.
        limit_s = UP_S if self._actor is None else ASK_S
        async with asyncio.timeout(limit_s):
            await actor.beat.remote(self._me, [*self._owners], self._max_bytes)

    def _lose(self, error: Exception) -> None:
        self._actor, self._away_s = None, time.monotonic()
        if not self._said:
            self._said = True
            _log.warning("the cache is away (%s): requests go on without it", type(error).__name__)

    async def aclose(self) -> None:
        """No use for it any more."""
        for task in (self._connecting, self._beating):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
        if self._actor is not None:
            self._actor.leave.remote(self._me)
            self._actor = None
