"""One provider over a fake wire (`httpx.MockTransport`): retries, budgets, lists of models, the end."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import httpx
import orjson
import pytest

from orchestrator.attempt import EndpointStream
from orchestrator.config.settings import Breaker, Connections, Limits, Pool, Provider, Quirks, Retry, Timeouts
from orchestrator.endpoint import Endpoint
from orchestrator.transport import AiohttpTransport, Transport, TransportError
from orchestrator.types import Chunk, Failure, FailureKind, Finish, Reply, Request
from tests.upstream import completion, delta

REQUEST = Request({"messages": [{"role": "user", "content": "hi"}]})
Handler = Callable[[httpx.Request], httpx.Response]


def endpoint(handler: Handler, *keys: str, **settings: object) -> Endpoint:
    provider = Provider("p", base_url="http://up/v1", **settings)  # type: ignore[arg-type]
    transport = Transport(provider.connections, provider.timeouts, httpx.MockTransport(handler))
    return Endpoint(provider, keys, transport, rng=random.Random(1))


def ok(request: httpx.Request) -> httpx.Response:
    body = orjson.loads(request.content)
    if body.get("stream"):
        events = [delta(body["model"], {"content": "a"}), delta(body["model"], {}, "stop")]
        text = b"".join(b"data: " + orjson.dumps(event) + b"\n\n" for event in events) + b"data: [DONE]\n\n"
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, content=text)
    return httpx.Response(200, json=completion(body["model"]))


async def test_keys_are_accounts() -> None:
    """Each call goes by the least busy one; no key means no header."""
    seen: list[str | None] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get("authorization"))
        return ok(request)

    two = endpoint(handler, "one", "two")
    await asyncio.gather(two.call(REQUEST, "m"), two.call(REQUEST, "m"))
    await endpoint(handler).call(REQUEST, "m")
    assert ["Bearer one", "Bearer two", None] == seen


async def test_the_tries_of_a_call_stand_in_its_outcome() -> None:
    """Each with its outcome and status, in order, with increasing times."""
    statuses = iter((500, 503, 200))

    def handler(request: httpx.Request) -> httpx.Response:
        status = next(statuses)
        return ok(request) if status == 200 else httpx.Response(status)

    reply = await endpoint(handler, retry=Retry(3, 0.001, 0.002)).call(REQUEST, "m")
    assert isinstance(reply, Reply)
    assert [("server_error", 500), ("server_error", 503), ("ok", 200)] == [(t.outcome, t.status) for t in reply.tries]
    assert sorted(one.start_s for one in reply.tries) == [one.start_s for one in reply.tries]


async def test_retries_stay_within_their_budget() -> None:
    """A provider that fails for good is not asked three times for ever."""
    asked = 0

    def handler(request: httpx.Request) -> httpx.Response:
        nonlocal asked
        asked += 1
        return httpx.Response(500)

    failing = endpoint(handler, retry=Retry(3, 0.0001, 0.0002), breaker=Breaker(10_000))
    for _ in range(100):
        await failing.call(REQUEST, "m")
    # A hundred calls pay for twenty retries, and the bucket had ten to begin with.
    assert 130 <= asked <= 132


async def test_a_hedge_without_budget_is_not_sent() -> None:
    """Neither whole nor streamed; and what is sent is charged."""
    one = endpoint(ok)
    outcomes = [await one.call(REQUEST, "m", extra=True) for _ in range(12)]
    refused = [o for o in outcomes if isinstance(o, Failure)]
    assert {FailureKind.OVER_BUDGET} == {o.kind for o in refused}
    assert 2 == len(refused)


async def test_no_time_left_for_another_try() -> None:
    """A wait that would outlast the deadline is not begun."""
    timeouts = Timeouts(total_s=0.2)
    slow = endpoint(lambda _: httpx.Response(503), retry=Retry(3, 86_400, 86_400), timeouts=timeouts)
    failure = await slow.call(REQUEST, "m")
    assert isinstance(failure, Failure)
    assert (FailureKind.SERVER_ERROR, 1) == (failure.kind, len(failure.tries))


async def test_the_deadline_holds_in_the_queue_too() -> None:
    """A call that waits for a place longer than `total_s` never goes upstream."""

    async def never(_: httpx.Request) -> httpx.Response:
        await asyncio.sleep(60)
        raise AssertionError

    provider = Provider("p", base_url="http://up/v1", pool=Pool(1, 5))
    patient = Endpoint(provider, (), Transport(Connections(), Timeouts(), httpx.MockTransport(never)))
    first = asyncio.ensure_future(patient.call(REQUEST, "m"))
    await asyncio.sleep(0)
    # Of the same pool, so that the place stays taken; by its own deadline.
    hasty = patient.successor(replace(provider, timeouts=Timeouts(total_s=0.1)), ())
    second = await hasty.call(REQUEST, "m")
    assert isinstance(second, Failure)
    assert (FailureKind.DEADLINE, ()) == (second.kind, second.tries)
    first.cancel()
    await asyncio.wait([first])


async def test_a_cancelled_call_gives_its_place_back() -> None:
    """Whether it waits, is asked, or streams."""

    async def never(_: httpx.Request) -> httpx.Response:
        await asyncio.sleep(60)
        raise AssertionError

    provider = Provider("p", base_url="http://up/v1", pool=Pool(1, 5))
    busy = Endpoint(provider, (), Transport(Connections(), Timeouts(), httpx.MockTransport(never)))
    tasks = [asyncio.ensure_future(busy.call(REQUEST, "m")) for _ in range(2)]
    await asyncio.sleep(0.01)
    assert (1, 1) == (busy.stats()["in_flight"], busy.stats()["queued"])
    for task in reversed(tasks):
        task.cancel()
    await asyncio.wait(tasks)
    assert (0, 0) == (busy.stats()["in_flight"], busy.stats()["queued"])


async def test_a_place_that_comes_free_as_its_caller_leaves_is_not_lost() -> None:
    """Let through and cancelled in the same turn of the loop."""
    gone = asyncio.Event()

    async def handler(request: httpx.Request) -> httpx.Response:
        await gone.wait()
        return ok(request)

    provider = Provider("p", base_url="http://up/v1", pool=Pool(1, 5))
    busy = Endpoint(provider, (), Transport(Connections(), Timeouts(), httpx.MockTransport(handler)))
    permit = await busy._gate.admit("m", 0, 0)
    waiting = asyncio.ensure_future(busy._gate.admit("m", 0, 0))
    await asyncio.sleep(0)
    assert not isinstance(permit, Failure)
    busy._gate.release(permit, None)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert waiting.cancelled()
    assert 0 == busy.stats()["in_flight"]


async def test_draining_refuses_what_comes_and_what_waits() -> None:
    """What is in flight goes on."""
    go = asyncio.Event()

    async def handler(request: httpx.Request) -> httpx.Response:
        await go.wait()
        return ok(request)

    provider = Provider("p", base_url="http://up/v1", pool=Pool(1, 5))
    closing = Endpoint(provider, (), Transport(Connections(), Timeouts(), httpx.MockTransport(handler)))
    tasks = [asyncio.ensure_future(closing.call(REQUEST, "m")) for _ in range(2)]
    await asyncio.sleep(0.01)
    closing.drain()
    late = await closing.call(REQUEST, "m")
    waited = await tasks[1]
    go.set()
    assert isinstance(late, Failure)
    assert isinstance(waited, Failure)
    assert (FailureKind.DRAINING, FailureKind.DRAINING) == (late.kind, waited.kind)
    assert isinstance(await tasks[0], Reply)
    await closing.aclose()


async def test_a_stream_read_to_its_end() -> None:
    """Chunks, then the one Finish with its tries; closing it again is harmless."""
    stream = await endpoint(ok).open(REQUEST._replace(stream=True), "m")
    assert isinstance(stream, EndpointStream)
    pieces = await stream.read()
    while not isinstance(pieces[-1], Finish):
        pieces += await stream.read()
    assert isinstance(pieces[0], Chunk)
    assert ["ok"] == [one.outcome for one in pieces[-1].tries]
    assert 1 == stream.usage_so_far.output_tokens
    await stream.aclose()


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (httpx.Response(200, json={"data": [{"id": "a"}, {"id": "b"}]}), ("a", "b")),
        (httpx.Response(200, json=["no"]), ()),
        (httpx.Response(500), ()),
        (httpx.ConnectError("no"), ()),
    ],
)
async def test_the_models_that_a_provider_lists(
    answer: httpx.Response | Exception, expected: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    """Asked once, with the key; a provider that cannot be asked lists none, and the log says why."""
    asked: list[str | None] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers.get("authorization"))
        if isinstance(answer, Exception):
            raise answer
        return answer

    one = endpoint(handler, "key")
    assert [expected] * 2 == [await one.models() for _ in range(2)]
    assert ["Bearer key"] == asked
    logged = not (isinstance(answer, httpx.Response) and answer.status_code == 200)
    assert logged == ("the models of p are not listed" in caplog.text)


async def test_an_answer_without_end_is_refused() -> None:
    """Over 64 MB is nobody's answer."""

    async def flood() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 1_000_000

    transport = Transport(
        Connections(), Timeouts(), httpx.MockTransport(lambda _: httpx.Response(200, content=flood()))
    )
    response = await transport.send("http://up/v1/x", {}, b"")
    with pytest.raises(TransportError, match="up:80 answered with over 64 bytes") as raised:
        await response.read(64)
    assert raised.value.kind is FailureKind.BAD_ANSWER
    await response.aclose()


async def test_a_wire_that_fails_in_an_unknown_way() -> None:
    """Named by its type alone: whatever it says may hold a key."""

    def handler(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("sk-secret")

    with pytest.raises(TransportError, match=r"^up:80 cannot be reached: ConnectError$"):
        await Transport(Connections(), Timeouts(), httpx.MockTransport(handler)).send("http://up/x", {}, b"")


async def test_the_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looked up once a host; NO_PROXY counts."""
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    monkeypatch.setenv("no_proxy", "inside")
    transport = AiohttpTransport(Connections(), Timeouts())
    assert "http://proxy:3128" == transport._proxy(httpx.URL("http://outside/v1"))
    assert transport._proxy(httpx.URL("http://inside/v1")) is None
    monkeypatch.setenv("http_proxy", "http://other:3128")
    assert "http://proxy:3128" == transport._proxy(httpx.URL("http://outside/v2"))


@pytest.mark.parametrize("finished", [True, False])
async def test_what_came_before_a_reset_is_not_dropped(finished: bool) -> None:
    """A stream whose end came with the reset is whole; one whose end did not has all the text that came."""
    events = [delta("m", {"content": "a"}), delta("m", {"content": "b"}), delta("m", {}, "stop")]
    sent = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        for position, event in enumerate(events if finished else events[:2]):
            data = b"data: " + orjson.dumps(event) + b"\n\n"
            writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            await writer.drain()
            if position == 0:
                await sent.wait()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    one = Endpoint(Provider("p", base_url=f"http://127.0.0.1:{port}/v1"))
    stream = await one.open(REQUEST._replace(stream=True), "m")
    assert isinstance(stream, EndpointStream)
    first = await stream.read()
    # The rest and the end of the connection come while nobody reads.
    sent.set()
    await asyncio.sleep(0.1)
    rest = await stream.read()
    if isinstance(rest[-1], Chunk):
        rest += await stream.read()
    said = [orjson.loads(p.data)["choices"][0]["delta"]["content"] for p in [*first, *rest] if isinstance(p, Chunk)]
    assert ["a", "b"] == said
    assert (Finish if finished else Failure) is type(rest[-1])
    await one.aclose()
    server.close()


@pytest.mark.parametrize(
    ("body", "expected"),
    [({"max_tokens": 5, "x": 1}, {"max_completion_tokens": 5, "x": 1}),
     ({"max_tokens": 5, "max_completion_tokens": 6}, {"max_completion_tokens": 6})],
)  # fmt: skip
async def test_a_field_by_the_name_that_the_provider_wants(body: dict[str, int], expected: dict[str, int]) -> None:
    """A request that says both is taken at the one that the provider knows."""
    seen: list[dict[str, object]] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(orjson.loads(request.content))
        return ok(request)

    renaming = endpoint(handler, quirks=Quirks(renames={"max_tokens": "max_completion_tokens"}))
    await renaming.call(Request({**REQUEST.body, **body}), "m")
    assert [{**REQUEST.body, **expected, "model": "m"}] == seen


async def test_urls_are_parsed_once_but_not_kept_for_ever() -> None:
    """A provider has a handful."""
    transport = Transport(Connections(), Timeouts(), httpx.MockTransport(ok))
    assert transport._url("http://up/1") is transport._url("http://up/1")
    first = transport._url("http://up/1")
    for i in range(100):
        transport._url(f"http://up/x{i}")
    assert first is not transport._url("http://up/1")


class Held:
    """An upstream that answers when it is told to."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.in_flight = self.peak = 0
        self.keys: list[str | None] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        self.keys.append(request.headers.get("authorization"))
        await self.go.wait()
        self.in_flight -= 1
        return ok(request)


def held(upstream: Held, concurrency: int, *keys: str, **settings: object) -> Endpoint:
    provider = Provider("p", base_url="http://up/v1", pool=Pool(concurrency, 10), **settings)  # type: ignore[arg-type]
    return Endpoint(provider, keys, Transport(Connections(), Timeouts(), httpx.MockTransport(upstream)))


async def test_the_semaphore_holds_across_a_change_of_settings() -> None:
    """What the former endpoint has in flight counts; what waits goes by the new limit."""
    upstream = Held()
    before = held(upstream, 2)
    tasks = [asyncio.ensure_future(before.call(REQUEST, "m")) for _ in range(4)]
    await asyncio.sleep(0.01)
    after = before.successor(replace(before.provider, pool=Pool(3, 10)), ())
    tasks += [asyncio.ensure_future(after.call(REQUEST, "m")) for _ in range(2)]
    await asyncio.sleep(0.01)
    assert (3, 3, 3) == (upstream.in_flight, after.stats()["in_flight"], after.stats()["queued"])
    retiring = asyncio.ensure_future(before.retire())
    upstream.go.set()
    assert all(isinstance(outcome, Reply) for outcome in await asyncio.gather(*tasks))
    await retiring
    assert (3, 0) == (upstream.peak, after.stats()["in_flight"])
    assert isinstance(await after.call(REQUEST, "m"), Reply)
    await after.aclose()


async def test_a_key_that_is_taken_away_is_not_used_again() -> None:
    """Its calls in flight still count; one that stays keeps its state; a new one begins anew."""
    upstream = Held()
    before = held(upstream, 2, "old", "kept")
    tasks = [asyncio.ensure_future(before.call(REQUEST, "m")) for _ in range(2)]
    await asyncio.sleep(0.01)
    after = before.successor(before.provider, ("kept", "new"))
    assert (2, [1, 0]) == (after.stats()["in_flight"], [a["calls"] for a in after.stats()["accounts"]])
    tasks += [asyncio.ensure_future(after.call(REQUEST, "m")) for _ in range(2)]
    await asyncio.sleep(0.01)
    upstream.go.set()
    await asyncio.gather(*tasks)
    assert ["Bearer old", "Bearer kept", "Bearer new"] == upstream.keys[:3]
    assert "Bearer old" not in upstream.keys[1:]
    assert 0 == after.stats()["in_flight"]


async def test_limits_and_breakers_begin_anew_only_where_they_changed() -> None:
    """An open breaker stays open across a change of something else."""
    broken = endpoint(lambda _: httpx.Response(500), retry=Retry(1), breaker=Breaker(1))
    await broken.call(REQUEST, "m")
    states = []
    for changed in (
        replace(broken.provider, pool=Pool(9)),
        replace(broken.provider, pool=Pool(9), limits=Limits(60)),
        replace(broken.provider, pool=Pool(9), breaker=Breaker(2)),
    ):
        broken = broken.successor(changed, ())
        states.append(broken.stats()["accounts"][0]["models"]["m"]["breaker"])
    assert ["open", "open", "closed"] == states


async def test_connections_are_handed_on_unless_their_settings_changed() -> None:
    """The former endpoint closes what its successor does not use, when its own calls have ended."""
    upstream = Held()
    one = held(upstream, 2)
    two = one.successor(replace(one.provider, retry=Retry(7)), ())
    three = two.successor(replace(two.provider, connections=Connections(keepalive=7)), ())
    assert one._transport is two._transport
    assert two._transport is not three._transport
    stream = asyncio.ensure_future(two.open(REQUEST._replace(stream=True), "m"))
    await asyncio.sleep(0.01)
    retiring = asyncio.ensure_future(two.retire())
    await one.retire()
    upstream.go.set()
    opened = await stream
    assert isinstance(opened, EndpointStream)
    assert not retiring.done()
    await opened.aclose()
    await opened.aclose()
    await asyncio.wait_for(retiring, 2)
    assert 0 == three.stats()["in_flight"]
