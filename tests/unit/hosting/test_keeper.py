"""What a keeper does with its replicas: heard, lost, changed and retired, over replicas that a test moves by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import httpx
import pytest

from orchestrator.config.settings import Connections, Hosted, Provider, Replicas, Timeouts
from orchestrator.endpoint import Endpoint
from orchestrator.hosting.keeper import Keeper, Unheard
from orchestrator.hosting.status import Status
from orchestrator.transport import Transport
from orchestrator.types import Failure, FailureKind, Reply, Request
from tests.engines import until
from tests.upstream import completion

PROVIDER = Provider("gpu", hosted=Hosted(command=("server",), replicas=Replicas(1, 1)))
ASKED = Request({"messages": [{"role": "user", "content": "hi"}]})


class Hand:
    """A replica that is as a test says."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.status = Status("starting", changes=1)
        self.away = ""
        self.stopped = False
        self._moved = asyncio.Event()

    def say(self, status: Status, away: str = "") -> None:
        self.status, self.away = status._replace(changes=self.status.changes + 1), away
        self._moved.set()

    def up(self) -> None:
        self.say(Status("up", f"http://n{self.number}/v1", f"k{self.number}"))

    async def attend(self, seen: int, timeout_s: float) -> Status:
        if seen == self.status.changes and not self.away:
            self._moved.clear()
            await asyncio.wait([asyncio.ensure_future(self._moved.wait())], timeout=timeout_s)
        if self.away:
            await asyncio.sleep(0.01)
            raise Unheard(self.away)
        return self.status

    async def stop(self) -> None:
        self.stopped = True


class Stage:
    """A keeper over such replicas, and an endpoint whose upstreams answer when they are let."""

    def __init__(self) -> None:
        self.hands: dict[int, Hand] = {}
        self.asked: list[tuple[str, str]] = []
        self.let = asyncio.Event()
        self.let.set()
        wire = httpx.MockTransport(self._answer)
        self.endpoint = Endpoint(PROVIDER, (), Transport(Connections(), Timeouts(), wire))
        self.keeper = Keeper(PROVIDER, self.endpoint, self._hand)

    def _hand(self, number: int) -> Hand:
        self.hands[number] = Hand(number)
        return self.hands[number]

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append((request.url.host, request.headers["authorization"]))
        await self.let.wait()
        return httpx.Response(200, json=completion("m"))

    async def ask(self, *, waits: bool = True) -> Reply | Failure:
        return await self.endpoint.call(ASKED._replace(waits=waits), "m")


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    made = Stage()
    yield made
    await made.keeper.aclose()
    await made.endpoint.aclose()


async def test_calls_go_where_replicas_are_up(stage: Stage) -> None:
    """With the key of each; whoever came before waits."""
    waiting = asyncio.ensure_future(stage.ask())
    await until(lambda: stage.endpoint.demand().calls == 1)
    stage.hands[0].up()
    assert isinstance(await waiting, Reply)
    assert [("n0", "Bearer k0")] == stage.asked
    assert "" == stage.keeper.problem()


async def test_one_that_cannot_be_heard_gets_no_calls(stage: Stage) -> None:
    """Its actor was lost: calls wait, or go elsewhere, until it is heard again."""
    stage.hands[0].up()
    await until(lambda: stage.endpoint.upstreams)
    stage.hands[0].say(Status("up", "http://n0/v1", "k0"), away="its actor was lost")
    await until(lambda: not stage.endpoint.upstreams)
    refused = await stage.ask(waits=False)
    assert isinstance(refused, Failure)
    assert FailureKind.STARTING is refused.kind
    (shown,) = stage.keeper.shown()
    assert ("restarting", "the server cannot be heard: its actor was lost") == (shown["state"], shown["reason"])
    stage.hands[0].up()
    assert isinstance(await stage.ask(), Reply)


async def test_other_bounds_start_no_server_anew(stage: Stage) -> None:
    """Those that are up stay, and another one comes beside them."""
    stage.hands[0].up()
    await until(lambda: stage.endpoint.upstreams)
    assert PROVIDER.hosted is not None
    more = replace(PROVIDER, hosted=replace(PROVIDER.hosted, replicas=Replicas(2, 2)))
    after = stage.endpoint.successor(more, ())
    assert stage.endpoint.upstreams == after.upstreams
    stage.keeper.configure(more, after)
    assert [0, 1] == sorted(stage.hands)
    stage.hands[1].up()
    await until(lambda: len(after.upstreams) == 2)
    assert not stage.hands[0].stopped


async def test_a_retired_one_ends_what_it_has_in_flight(stage: Stage) -> None:
    """Others answer from then on; each replica is stopped after its last call."""
    stage.hands[0].up()
    await until(lambda: stage.endpoint.upstreams)
    stage.let.clear()
    asking = asyncio.ensure_future(stage.ask())
    await until(lambda: stage.asked)
    first = stage.hands[0]
    retiring = asyncio.ensure_future(stage.keeper.retire())
    stage.keeper = Keeper(PROVIDER, stage.endpoint, stage._hand)
    stage.hands[0].up()
    await until(lambda: stage.endpoint.upstreams)
    first.up()
    await asyncio.sleep(0.1)
    assert not first.stopped
    stage.let.set()
    assert isinstance(await asking, Reply)
    await retiring
    assert (True, False) == (first.stopped, stage.hands[0].stopped)


async def test_before_any_is_up_the_models_are_those_that_are_known(stage: Stage) -> None:
    """Nobody can be asked yet."""
    assert () == await stage.endpoint.models()
    assert PROVIDER.hosted is not None
    named = replace(PROVIDER, hosted=replace(PROVIDER.hosted, serves=("qwen",)))
    assert ("qwen",) == await stage.endpoint.successor(named, ()).models()
