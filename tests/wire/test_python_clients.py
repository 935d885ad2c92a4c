"""OpenAI's clients without a server, and the Python API by plain calls."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any, cast

import httpx2
import openai
import pytest
from pydantic import BaseModel

from orchestrator import BadChoice, CallFailed, Models, OrchestratorError, create_models, sync
from orchestrator.python.client import AppTransport
from orchestrator.python.loop import Loop
from orchestrator.wire.app import App
from tests.upstream import Upstream
from tests.wire.test_python import config, gone

HI: Any = [{"role": "user", "content": "one two"}]


class Person(BaseModel):
    name: str
    age: int


@pytest.fixture
async def models(upstream: Upstream) -> AsyncIterator[Models]:
    async with create_models(config(upstream), runtime="asyncio") as models:
        yield models


async def test_chat(models: Models) -> None:
    """Whole, streamed, parsed; with what the endpoint adds."""
    client = models.openai()
    whole: Any = await client.chat.completions.create(model="tier:rescue", messages=HI)
    assert ("alpha beta gamma", "up/ok") == (whole.choices[0].message.content, whole.orchestrator["winner"])
    chunks = [c async for c in await client.chat.completions.create(model="sim/echo", messages=HI, stream=True)]
    assert "one two" == "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    parsed = await client.chat.completions.parse(model="sim/chat", messages=HI, response_format=Person)
    assert Person(name="simulated", age=1) == parsed.choices[0].message.parsed


async def test_other_shapes(models: Models) -> None:
    """Responses, embeddings, the list of models."""
    client = models.openai()
    async with client.responses.stream(model="sim/echo", input="one two") as stream:
        assert "one two" == (await stream.get_final_response()).output_text
    assert 64 == len((await client.embeddings.create(model="sim/e", input="a")).data[0].embedding)
    assert "tier:rescue" in [model.id async for model in client.models.list()]


async def test_errors(models: Models) -> None:
    """The client's own, with their status."""
    client = models.openai()
    with pytest.raises(openai.NotFoundError, match="tier:rescue"):
        await client.chat.completions.create(model="tier:rescu", messages=HI)
    with pytest.raises(openai.InternalServerError, match="up/unavailable"):
        await client.chat.completions.create(model="up/unavailable", messages=HI)
    events = await client.chat.completions.create(model="up/cut-1", messages=HI, stream=True)
    with pytest.raises(openai.APIError, match="cut"):
        _ = [event async for event in events]
    for path in ("/admin/config", "/admin/reload"):
        with pytest.raises(openai.NotFoundError, match="from Python"):
            await (client.get if path.endswith("config") else client.post)(f"http://x{path}", cast_to=object)


@pytest.mark.parametrize("way", ["closed", "left", "cancelled"])
async def test_whoever_leaves_stops_what_goes_on(models: Models, upstream: Upstream, way: str) -> None:
    """Upstream, within 200 ms."""
    create = models.openai().chat.completions.create
    model = "slow-5" if way == "cancelled" else "drip-5"
    if way == "cancelled":
        task = asyncio.ensure_future(create(model=f"up/{model}", messages=HI))
        while not upstream.attempts(model):
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])
    elif way == "closed":
        async with await create(model=f"up/{model}", messages=HI, stream=True) as stream:
            await anext(aiter(stream))
    else:
        async for _ in await create(model=f"up/{model}", messages=HI, stream=True):
            break
        gc.collect()  # the client's streams hold themselves
    assert await gone(upstream, model) < 0.2


async def test_a_reader_that_is_slow_holds_the_answer_back(models: Models, upstream: Upstream) -> None:
    """What is not read is not taken from upstream: no more than a few MB of a flood."""
    async with await models.openai().chat.completions.create(model="up/flood", messages=HI, stream=True) as stream:
        await anext(aiter(stream))
        await asyncio.sleep(0.5)
        first = upstream.log[-1].sent_bytes
        await asyncio.sleep(0.3)
        assert first == upstream.log[-1].sent_bytes
    assert await gone(upstream, "flood") < 0.2


async def test_an_answer_that_is_closed_while_it_is_read(models: Models) -> None:
    """The reader is told: it neither waits for ever nor takes it for the end."""
    answer = await models.openai().chat.completions.create(model="up/drip-5", messages=HI, stream=True)
    chunks = aiter(answer)
    await anext(chunks)
    reading = asyncio.ensure_future(anext(chunks))
    await asyncio.sleep(0.05)
    await answer.response.aclose()
    with pytest.raises(openai.APIConnectionError) as raised:
        await asyncio.wait_for(reading, 3)
    assert "the answer was closed while it was read" == str(raised.value.__cause__)


async def test_a_client_of_models_that_are_closed() -> None:
    """There is none before they are open; afterwards it gets an error of the server."""
    models = create_models({"providers": {"sim": {"simulate": {}}}}, runtime="asyncio")
    with pytest.raises(OrchestratorError, match="not open"):
        models.openai()
    async with models:
        client = models.openai()
    with pytest.raises(openai.InternalServerError, match="internal error"):
        await client.models.list()


@pytest.fixture
def plain() -> Iterator[tuple[sync.Models, Upstream]]:
    """Models by plain calls, over an upstream on another loop."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    upstream = Upstream()
    asyncio.run_coroutine_threadsafe(upstream.start(), loop).result(5)
    with sync.create_models(config(upstream), runtime="asyncio") as models:
        yield models, upstream
    asyncio.run_coroutine_threadsafe(upstream.stop(), loop).result(5)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def left(upstream: Upstream, model: str) -> float:
    """See `gone`."""
    return asyncio.run(gone(upstream, model))


def get_weather(city: str) -> str:
    """The weather of a town."""
    return f"sunny in {city}, says {threading.current_thread().name != 'MainThread'}"


def test_all_of_it_by_plain_calls(plain: tuple[sync.Models, Upstream]) -> None:
    """The same names, the same answers."""
    models, _ = plain
    model = models.model("tier:rescue")
    assert ("Model('tier:rescue')", "tier:rescue", None) == (repr(model), model.selector, model.user_id)
    assert "alpha beta gamma" == model.generate("hi").text
    stream = model.stream("hi")
    assert ["alpha", " beta", " gamma"] == [delta.text for delta in stream]
    assert "alpha beta gamma" == stream.reply.text
    with model.stream("hi") as other:
        assert ["alpha", " beta", " gamma"] == [next(other).text, next(other).text, next(other).text]
        with pytest.raises(StopIteration):
            next(other)
    sim = models.model("sim/chat")
    assert Person(name="simulated", age=1) == sim.generate_object("who?", schema=Person)
    person, reply = sim.generate_object("who?", schema=list[Person], with_reply=True)
    assert ([Person(name="simulated", age=1)], 1) == (person, len(reply.steps))
    told = sim.generate("hi", tools=[get_weather]).messages[2]["content"]
    assert "sunny in simulated, says True" == told
    assert (["tier:rescue", "tier:whole"], "up") == (models.list()[:2], models.pools()[0]["provider"])


def test_errors_by_plain_calls(plain: tuple[sync.Models, Upstream]) -> None:
    """The same, too."""
    models, _ = plain
    with pytest.raises(CallFailed, match="up/unavailable"):
        models.model("up/unavailable").generate("hi")
    with pytest.raises(BadChoice, match="prompt"):
        models.model("up/ok").generate()
    with pytest.raises(CallFailed, match="up/unavailable"):
        next(models.model("up/unavailable").stream("hi"))


def test_openais_client_by_plain_calls(plain: tuple[sync.Models, Upstream]) -> None:
    """Whole, streamed, errors; closed, it stops what goes on."""
    models, upstream = plain
    client = models.openai()
    assert "one two" == client.chat.completions.create(model="sim/echo", messages=HI).choices[0].message.content
    chunks = client.chat.completions.create(model="sim/echo", messages=HI, stream=True)
    assert "one two" == "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    with pytest.raises(openai.NotFoundError, match="tier:rescue"):
        client.responses.create(model="tier:rescu", input="hi")
    with client.chat.completions.create(model="up/drip-5", messages=HI, stream=True) as stream:
        next(iter(stream))
    assert left(upstream, "drip-5") < 0.2


@pytest.mark.parametrize("way", ["break", "with"])
def test_whoever_leaves_a_plain_stream_stops_it(plain: tuple[sync.Models, Upstream], way: str) -> None:
    """Upstream too, within 200 ms."""
    models, upstream = plain
    model = models.model("up/drip-5")
    if way == "break":
        for _ in model.stream("hi"):
            break
    else:
        with model.stream("hi") as stream:
            next(stream)
    assert left(upstream, "drip-5") < 0.2


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt, also where the tests were started with it ignored, as in a shell's background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_stops_what_is_waited_for(plain: tuple[sync.Models, Upstream]) -> None:
    """Upstream too; and the models can be used on."""
    models, upstream = plain

    def interrupt() -> None:
        while not upstream.attempts("slow-5"):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        models.model("up/slow-5").generate("hi")
    thread.join()
    assert left(upstream, "slow-5") < 0.2
    assert "alpha beta gamma" == models.model("up/ok").generate("hi").text


async def test_where_a_loop_runs_already(plain: tuple[sync.Models, Upstream]) -> None:
    """As in a notebook: opened and closed there, too."""
    models, upstream = plain
    assert "hi" == models.model("sim/echo").generate("hi").text
    with sync.create_models(config(upstream), runtime="asyncio") as others:
        assert "hi" == others.model("sim/echo").generate("hi").text


def test_several_threads(plain: tuple[sync.Models, Upstream]) -> None:
    """May use the same models at once."""
    models, _ = plain
    texts: list[str] = []
    threads = [
        threading.Thread(target=lambda n=n: texts.append(models.model("sim/echo").generate(str(n)).text))
        for n in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ["0", "1", "2", "3", "4"] == sorted(texts)


@pytest.mark.usefixtures("ctrl_c")
def test_a_call_that_is_interrupted_before_it_has_begun() -> None:
    """Nobody waits for its end, which it will not have; and it does not begin."""
    loop = Loop()
    begun = threading.Event()

    async def begin() -> None:
        begun.set()

    loop._loop.call_soon_threadsafe(time.sleep, 0.5)
    timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    began_s = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        loop.run(begin())
    assert time.monotonic() - began_s < 2
    loop.close()
    timer.join()
    assert not begun.is_set()


def test_an_interrupted_start_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it came when all had been opened."""
    before, run, runs = threading.active_count(), Loop.run, 0

    def interrupted(loop: Loop, coroutine: Any) -> Any:
        nonlocal runs
        result, runs = run(loop, coroutine), runs + 1
        if runs == 1:
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(Loop, "run", interrupted)
    models = sync.create_models({"providers": {"sim": {"simulate": {}}}}, runtime="asyncio")
    with pytest.raises(KeyboardInterrupt):
        models.start()
    with pytest.raises(OrchestratorError, match="not open"):
        models._models.current()
    assert before == threading.active_count()


def test_what_outlives_its_models() -> None:
    """Streams may be closed all the same: they ended with the models. What asks is told, by the right way to open them."""
    with sync.create_models({"providers": {"sim": {"simulate": {}}}}, runtime="asyncio") as models:
        stream = models.model("sim/echo+latency-0").stream("one two")
        next(stream)
        client = models.openai()
        answer = client.chat.completions.create(model="sim/echo+latency-0", messages=HI, stream=True)
        next(iter(answer))
    stream.close()
    answer.close()
    for ask in (lambda: next(stream), models.openai, models.list):
        with pytest.raises(OrchestratorError, match="use `with create_models"):
            ask()


def test_opening_and_closing_by_plain_calls() -> None:
    """By `start` and `close`, too; no thread is left, also of what could not be opened."""
    before = threading.active_count()
    models = sync.create_models({"providers": {"sim": {"simulate": {}}}}, runtime="asyncio")
    with pytest.raises(OrchestratorError, match="not open"):
        models.list()
    assert models is models.start() is models.start()
    models.close()
    models.close()
    with pytest.raises(OrchestratorError, match="providers"):
        sync.create_models({"providers": {}}, runtime="asyncio").start()
    assert before == threading.active_count()


async def test_a_function_cannot_wait_for_its_own_loop(upstream: Upstream) -> None:
    """Plain calls within an async function that plain models call would never come back; within a plain one they do."""
    with sync.create_models(config(upstream), runtime="asyncio") as models:

        async def ask_again(question: str) -> str:
            return models.model("sim/echo").generate(question).text

        def ask_plainly(question: str) -> str:
            return models.model("sim/echo").generate(question).text

        asked = models.model("sim/chat")
        with pytest.raises(OrchestratorError, match="would wait for themselves"):
            asked.generate("hi", tools=[ask_again])
        assert "simulated" == asked.generate("hi", tools=[ask_plainly]).messages[2]["content"]


@pytest.mark.parametrize("begun", [False, True])
async def test_an_application_that_breaks_off(begun: bool) -> None:
    """Is an error of the connection, before the headers and after them."""

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        if begun:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"a", "more_body": True})
        raise ZeroDivisionError("by zero")

    async with httpx2.AsyncClient(transport=AppTransport(cast(App, app))) as client:
        with pytest.raises(httpx2.RemoteProtocolError, match="broke off: ZeroDivisionError: by zero"):
            await client.get("http://x/")
