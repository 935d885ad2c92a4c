"""What the modules over Ray do by themselves: no cluster is started here."""

from __future__ import annotations

import asyncio
import sys
import time
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from orchestrator.config.live import Snapshot
from orchestrator.config.load import load_mapping
from orchestrator.config.settings import Rollout
from orchestrator.errors import NoApplication

SNAPSHOT = Snapshot(1, load_mapping({"providers": {"sim": {"simulate": {}}}}, {}))


@pytest.fixture(autouse=True)
def _imported() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own
        import actors.connected
        import actors.pools  # noqa: F401


class Here:
    """Stands in for the cluster that is joined, which takes its time."""

    def __init__(self, *, fails: bool = False) -> None:
        self.users = 0
        self.joins = 0
        self._fails = fails

    def join(self, _address: str | None) -> None:
        time.sleep(0.2)
        if self._fails:
            raise NoApplication("nobody is there")
        self.users += 1
        self.joins += 1

    def leave(self) -> None:
        self.users -= 1


@pytest.mark.parametrize("times", [0, 1, 3])
async def test_a_cluster_is_left_however_often_joining_it_was_interrupted(
    monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """A thread that starts one cannot be cancelled: what it has begun is ended when it has."""
    from actors import cluster

    here = Here()
    monkeypatch.setattr(cluster, "_here", here)

    async def use() -> None:
        async with cluster.joined(None):
            await asyncio.sleep(0)

    task = asyncio.ensure_future(use())
    for _ in range(times):
        await asyncio.sleep(0.03)
        task.cancel()
    await asyncio.wait([task])
    assert bool(times) == task.cancelled()
    await asyncio.get_running_loop().shutdown_default_executor()
    assert (1, 0) == (here.joins, here.users)


async def test_a_cluster_that_cannot_be_joined_is_not_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nothing to leave."""
    from actors import cluster

    here = Here(fails=True)
    monkeypatch.setattr(cluster, "_here", here)
    with pytest.raises(NoApplication, match="nobody is there"):
        async with cluster.joined(None):
            raise AssertionError
    assert 0 == here.users


class Handle:
    """Of an application that answers its first question in some way."""

    def __init__(self, answer: Any) -> None:
        self.rollout = self
        self._answer = answer

    def options(self, **_: Any) -> None: ...

    async def remote(self) -> Rollout:
        if isinstance(self._answer, BaseException):
            raise self._answer
        await asyncio.sleep(self._answer)
        return Rollout(0)


@pytest.fixture
def opening(monkeypatch: pytest.MonkeyPatch) -> Any:
    from actors import connected

    @asynccontextmanager
    async def joined(_: str) -> AsyncIterator[None]:
        yield

    async def opened(answer: Any) -> bool:
        monkeypatch.setattr(connected, "joined", joined)
        monkeypatch.setattr(connected, "_handle", lambda: Handle(answer))
        monkeypatch.setattr(connected, "OPENING_S", 0.2)
        async with connected.connected("auto") as application:
            return bool(application.rollout("john")["use"])

    return opened


async def test_an_application_that_does_not_answer_is_none(opening: Any) -> None:
    """Whether it is silent or fails: NoApplication, which may be tried again; never a wait without end."""
    from ray.exceptions import RayActorError
    from ray.serve.exceptions import RayServeException

    assert not await opening(0)
    for answer, said in (
        (5, r"within 0\.2 s"),
        (RayServeException("gone"), "RayServeException"),
        (RayActorError(), "RayActorError"),
    ):
        with pytest.raises(NoApplication, match=said) as raised:
            await asyncio.wait_for(opening(answer), 3)
        assert raised.value.retryable


async def test_a_pool_that_nobody_uses_ends_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one whose maker was gone before it opened a session."""
    import ray

    from actors import pool
    from actors.names import RELAY_HOST

    class Context:
        current_actor = "the pool"

    ended: asyncio.Queue[tuple[str, bool]] = asyncio.Queue()
    monkeypatch.setenv(RELAY_HOST, "127.0.0.1")
    monkeypatch.setattr(pool, "LONELY_S", 0.5)
    monkeypatch.setattr(ray, "get_runtime_context", Context)
    monkeypatch.setattr(ray, "kill", lambda actor, *, no_restart: ended.put_nowait((actor, no_restart)))
    one = pool.Pool()
    assert ("the pool", True) == await asyncio.wait_for(ended.get(), 5)
    one._watch.cancel()


async def test_making_pools_may_be_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing goes on to wait for them."""
    pools = sys.modules["actors.pools"]

    class Link:
        def __init__(self, *_: Any) -> None:
            self.up = asyncio.Event()

    monkeypatch.setattr(pools, "Link", Link)
    task = asyncio.ensure_future(pools.RayPools().apply(SNAPSHOT, 60))
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait([task])
    await asyncio.sleep(0.01)
    assert {asyncio.current_task()} == asyncio.all_tasks()
