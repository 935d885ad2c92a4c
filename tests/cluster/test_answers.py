"""The cache that coordinators share: an actor."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any
from uuid import uuid4

import httpx
import pytest

from orchestrator import create_models
from orchestrator.cache.flights import Flights
from orchestrator.coordinator import Coordinator
from orchestrator.lasting import Lasting
from tests.upstream import Upstream
from tests.wire.conftest import Stack

HIT, MISS = "hit", "miss"


class Two:
    """Two coordinators, as of two replicas, over one upstream and one cache."""

    def __init__(self, stacks: list[Stack], stores: list[Any], upstream: Upstream, name: str) -> None:
        self.stacks = stacks
        self.stores = stores
        self.upstream = upstream
        self.name = name

    async def ask(self, which: int, model: str = "up/ok", **fields: Any) -> httpx.Response:
        answer = await self.stacks[which].chat(model, temperature=0, **fields)
        assert 200 == answer.status_code
        return answer


@pytest.fixture
async def two(cluster: Any) -> AsyncIterator[Two]:
    from actors.answers import RayAnswers

    upstream, name = Upstream(), uuid4().hex
    await upstream.start()
    config = {
        "providers": {"up": {"base_url": f"http://127.0.0.1:{upstream.port}/v1", "models": []}},
        "cache": {"ttl_s": 60},
    }
    async with AsyncExitStack() as leaving:
        stacks, stores = [], []
        for _ in range(2):
            stack, store = Stack(config), RayAnswers(name)
            leaving.push_async_callback(store.aclose)
            leaving.push_async_callback(stack.aclose)
            await stack.pools.start()
            lasting = Lasting(cache=Flights(store))
            stack.coordinator = Coordinator(stack.config, stack.runtime, stack.pools, lasting=lasting)
            await store.apply(stack.config)
            stacks.append(stack)
            stores.append(store)
        yield Two(stacks, stores, upstream, f"answers:{name}")
    await upstream.stop()


def cached(answers: list[httpx.Response]) -> list[str]:
    return sorted(answer.headers["x-orchestrator-cache"] for answer in answers)


async def stats(two: Two) -> dict[str, int]:
    import ray

    actor = await asyncio.to_thread(ray.get_actor, two.name, "orchestrator")
    found: dict[str, int] = await actor.stats.remote()
    return found


@pytest.mark.parametrize("stream", [False, True])
async def test_one_call_for_both(two: Two, stream: bool) -> None:
    """Equal requests at once at both, then a hit at either."""
    both = [two.ask(i % 2, "up/slow-0.4", stream=stream) for i in range(20)]
    assert [HIT] * 19 + [MISS] == cached(list(await asyncio.gather(*both)))
    later = [await two.ask(i, "up/slow-0.4", stream=not stream) for i in range(2)]
    assert ([HIT, HIT], 1) == (cached(later), len(two.upstream.attempts("slow-0.4")))
    found = await stats(two)
    assert (1, 0, True) == (found["answers"], found["claims"], found["bytes"] < 2_000)


async def test_a_large_answer(two: Two) -> None:
    """What travels through the object store is an answer, too."""
    assert [MISS] == cached([await two.ask(0, "up/huge")])
    assert [HIT] == cached([await two.ask(1, "up/huge")])


async def test_who_leaves_is_followed_by_the_next(two: Two) -> None:
    """The other one's call begins at once."""
    leaving = asyncio.ensure_future(two.ask(0, "up/slow-1"))
    await asyncio.sleep(0.3)
    waiting = asyncio.ensure_future(two.ask(1, "up/slow-1"))
    await asyncio.sleep(0.3)
    assert 1 == len(two.upstream.attempts("slow-1"))
    leaving.cancel()
    began_s = time.monotonic()
    assert [MISS] == cached([await waiting])
    assert time.monotonic() - began_s < 1.9
    assert 2 == len(two.upstream.attempts("slow-1"))


async def test_the_claim_of_one_who_died_is_void(two: Two, cluster: Any) -> None:
    """A process that was killed says nothing: after a while the next one makes the answer."""
    import ray

    actor = await asyncio.to_thread(ray.get_actor, two.name, "orchestrator")
    terms_key, dead = b"k" * 24, "dead"
    assert (await actor.look.remote(terms_key, dead, 60, 0)).yours
    assert not (await actor.look.remote(terms_key, "next", 60, 0)).yours
    began_s = time.monotonic()
    assert None is await asyncio.wait_for(two.stores[0].take(terms_key, "next", 60), 12)
    assert 3 < time.monotonic() - began_s < 10
    two.stores[0].give(terms_key, "next", None, 60)


async def test_one_who_left_gets_no_claim(two: Two) -> None:
    """Whoever waits and goes away is not the next to make it."""
    store, other = two.stores
    assert None is await store.take(b"k", "maker", 60)
    waiting = asyncio.ensure_future(other.take(b"k", "leaver", 60))
    await asyncio.sleep(0.2)
    waiting.cancel()
    other.give(b"k", "leaver", None, 60)
    await asyncio.sleep(0.2)
    store.give(b"k", "maker", None, 60)
    began_s = time.monotonic()
    assert None is await other.take(b"k", "next", 60)
    assert time.monotonic() - began_s < 1
    other.give(b"k", "next", b"yes", 60)
    assert b"yes" == await store.take(b"k", "later", 60)


async def test_without_the_actor(two: Two, caplog: pytest.LogCaptureFixture) -> None:
    """Killed, it is said once, and requests go on; it comes back, empty, and answers are kept again."""
    assert [MISS] == cached([await two.ask(0)])
    pid = (await stats(two))["pid"]
    with caplog.at_level(logging.WARNING, "orchestrator.answers"):
        os.kill(pid, signal.SIGKILL)
        for which in (0, 0, 0, 1, 1, 1):
            await two.ask(which)
    deadline_s = time.monotonic() + 20
    while cached([await two.ask(0, "up/new")]) == [MISS] and time.monotonic() < deadline_s:
        await asyncio.sleep(0.2)
    assert [HIT] == cached([await two.ask(0, "up/new")])
    assert len([one for one in caplog.records if "the cache is away" in one.message]) <= 2


async def test_models_of_two_processes_share_it(cluster: Any) -> None:
    """Those of the Python API that use the same configuration; the actor goes with the last of them."""
    config = {"providers": {"sim": {"simulate": {"latency_s": {"median": 0.01, "p99": 0.02}}}}, "cache": {"ttl_s": 60}}
    async with create_models(config) as one, create_models(config) as two:
        replies = [await models.model("sim/chat").generate("hi", temperature=0) for models in (one, two)]
        assert [MISS, HIT] == [reply.report["cache"] for reply in replies]
        assert 1 == len({reply.text for reply in replies})
        assert 1 == len(await named(cluster))
    deadline_s = time.monotonic() + 10
    while await named(cluster) and time.monotonic() < deadline_s:
        await asyncio.sleep(0.1)
    assert [] == await named(cluster)


async def named(cluster: Any) -> list[str]:
    found = await asyncio.to_thread(cluster.util.list_named_actors, all_namespaces=True)
    return [row["name"] for row in found if row["name"].startswith("answers:")]
