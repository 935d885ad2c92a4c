"""The runtime of production: pool actors, sessions, and decisions by `ray.wait`."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from orchestrator.config.live import Snapshot
from orchestrator.config.load import load_mapping
from orchestrator.config.settings import Strategy
from orchestrator.drive import drive
from orchestrator.routes import Candidate, Route
from orchestrator.strategies import plan
from orchestrator.types import Failure, FailureKind, Reply
from tests.contract.running import REQUEST, Collected, ran
from tests.contract.scenarios import SCENARIOS, Scenario

CONFIG = {
    "providers": {
        "sim": {
            "simulate": {"latency_s": {"median": 0.01, "p99": 0.02}},
            "retry": {"attempts": 1},
            "breaker": {"failures": 1000},
        },
    }
}


SNAPSHOT = Snapshot(1, load_mapping(CONFIG, {}))


@pytest.fixture
async def pools(cluster: Any) -> AsyncIterator[Any]:
    from actors.pools import RayPools

    pools = RayPools()
    await pools.apply(SNAPSHOT, 30)
    assert await pools.ready() == {}
    yield pools
    await pools.aclose()


async def settled(pools: Any) -> Any:
    """The pool's state once nothing is in flight, at most a second later."""
    (stats,) = await pools.stats()
    for _ in range(20):
        if stats["in_flight"] == 0:
            break
        await asyncio.sleep(0.05)
        (stats,) = await pools.stats()
    return stats


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
async def test_every_scenario(scenario: Scenario, stream: bool, pools: Any) -> None:
    """The same suite as the other two drivers; and nothing runs on afterwards."""
    assert scenario.expected == await ran(scenario, pools.calls, stream=stream)
    assert (await settled(pools))["in_flight"] == 0


def race(*models: str) -> Route:
    return Route("t", Strategy("race"), tuple(Candidate("sim", model) for model in models))


async def test_the_winner_comes_from_the_ready_list_of_ray_wait(pools: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace it, and the decision changes: what it lists first has won."""
    import ray

    real = ray.wait
    route = race("latency-0.2+rate-0", "latency-0.2+rate-0+b")

    async def winner() -> str:
        run = await drive(plan(route, REQUEST), tuple(route.leaves()), pools.calls, clock=time.monotonic)
        assert isinstance(run.outcome, Reply)
        return run.outcome.model

    for index, expected in enumerate(("latency-0.2+rate-0", "latency-0.2+rate-0+b")):

        def wait(refs: list[Any], index: int = index, **options: Any) -> Any:
            # Only when both are there: then nothing but this list can decide.
            real(refs, num_returns=len(refs), timeout=5)
            return [refs[index]], []

        monkeypatch.setattr(ray, "wait", wait)
        assert await winner() == expected


async def test_a_lost_pool_fails_its_calls_at_once_and_comes_back(pools: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """kill -9: the call in flight is known to be lost within a second, and made again on the restarted actor."""
    # How soon it is back is the machine's: beside another file's clusters, two cores need longer than callers are given.
    monkeypatch.setattr("actors.waiting.RESTART_S", 60)
    (stats,) = await pools.stats()
    route = Route("t", Strategy("first"), (Candidate("sim", "latency-1+rate-0"),))
    running = asyncio.ensure_future(
        drive(plan(route, REQUEST), tuple(route.leaves()), pools.calls, clock=time.monotonic)
    )
    await asyncio.sleep(0.3)
    os.kill(stats["pid"], signal.SIGKILL)
    run = await running
    assert isinstance(run.outcome, Reply)
    lost, again = run.records
    assert isinstance(lost.outcome, Failure)
    assert lost.outcome.kind is FailureKind.POOL_LOST
    assert lost.end_s is not None
    assert lost.end_s < 1.3
    assert again.end_s is not None


async def test_the_end_of_a_session_cancels_all_that_it_started(pools: Any) -> None:
    """A coordinator that is gone, in whichever way: its calls end, unary and streamed."""
    from actors.pools import RayPools

    other = RayPools()
    await other.apply(SNAPSHOT, 30)
    routes = [Route("t", Strategy("first"), (Candidate("sim", "latency-0.1+tokens-500+rate-10"),)) for _ in range(2)]
    runs = [
        asyncio.ensure_future(
            drive(
                plan(route, REQUEST._replace(stream=stream)),
                tuple(route.leaves()),
                other.calls,
                sink=Collected(),
                clock=time.monotonic,
            )
        )
        for route, stream in zip(routes, (False, True), strict=True)
    ]
    await asyncio.sleep(0.6)
    (stats,) = await pools.stats()
    assert stats["in_flight"] == 2
    await other.aclose()
    assert (await settled(pools))["in_flight"] == 0
    for run in runs:
        run.cancel()
    await asyncio.wait(runs)


async def test_an_early_cancel_is_kept_for_its_call(pools: Any) -> None:
    """The socket may be faster than Ray: a call that was cancelled before it arrived never goes upstream."""
    link = pools.calls._links["sim"]
    call = link.next_call()
    assert link.cancel(link.session, call)
    await asyncio.sleep(0.2)
    outcome, _ = pickle.loads(await link.handle.call.remote(pickle.dumps((link.session, call, "chat", REQUEST, False))))
    assert outcome.kind is FailureKind.CANCELLED


async def test_a_call_without_a_session_is_refused(pools: Any) -> None:
    """A pool that was restarted does not know its callers any more."""
    link = pools.calls._links["sim"]
    outcome, _ = pickle.loads(await link.handle.call.remote(pickle.dumps((b"unknown", 1, "chat", REQUEST, False))))
    assert outcome.kind is FailureKind.POOL_LOST


async def test_whoever_cannot_prove_a_session_is_cut_off(pools: Any) -> None:
    """Neither rubbish, nor a forged proof, nor a guessed ticket gets anything."""
    from actors.frames import Kind, frame

    address = pools.calls._links["sim"]._address
    for sent in (b"GET / HTTP/1.1\r\n\r\n", frame(Kind.OPEN) + frame(Kind.HELLO, address.session + bytes(32))):
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(sent)
        data = await asyncio.wait_for(reader.read(), 10)
        assert len(data) <= 21  # at most a challenge
        writer.close()
    reader, writer = await asyncio.open_connection(address.host, address.port)
    writer.write(frame(Kind.TICKET, bytes(16)))
    assert (await asyncio.wait_for(reader.read(), 10))[4] == Kind.FAIL
    writer.close()


async def test_all_coordinators_learn_from_the_pool_how_long_a_model_takes(pools: Any) -> None:
    """It rides on the replies: another coordinator knows after its first."""
    from actors.pools import RayPools

    route = Route("t", Strategy("first"), (Candidate("sim", "latency-0+tokens-1+rate-0+known"),))
    (candidate,) = route.leaves()

    async def ask(asking: Any) -> None:
        await drive(plan(route, REQUEST), (candidate,), asking.calls, clock=time.monotonic)

    for _ in range(60):
        await ask(pools)
    other = RayPools()
    await other.apply(SNAPSHOT, 30)
    assert other.calls.quantiles(candidate, stream=False) is None
    await ask(other)
    known = other.calls.quantiles(candidate, stream=False)
    assert known is not None
    assert 0 < known[0.5] <= known[0.95] < 1
    await other.aclose()
