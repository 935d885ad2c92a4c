"""Equal requests at once, without anybody upstream."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from orchestrator.asks import Answer, Ask, Gone, Sink
from orchestrator.cache import flights as module
from orchestrator.cache.flights import Flights, Made, OwnStore
from orchestrator.cache.terms import Terms
from orchestrator.errors import Denied
from orchestrator.types import Failure, FailureKind, Finish, Json, Reply, Request, Usage

TERMS = Terms(b"k", 60)
USAGE = Usage(1, 2, cost_usd=0.5)


def report(request_id: str) -> Json:
    one = {"provider": "p", "model": "m"}
    return {
        "request_id": request_id,
        "strategy": "first",
        "attempts": [one],
        "winner": "p/m",
        "cost_usd": 0.5,
        "cache": "miss",
    }


def reply(text: str = "yes") -> Reply:
    message = {"role": "assistant", "content": text}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    return Reply({"id": "c", "choices": choices, "usage": {"cost": 0.5}}, "m", USAGE)


def piece(text: str, **more: Any) -> bytes:
    return orjson.dumps(
        {"id": "c", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}], **more}
    )


FINISH = Finish({"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}, "m", USAGE, {"cost": 0.5})


class Caller:
    """A request: what it was sent, and whether it was the one that called."""

    def __init__(self, flights: Flights, name: str, up: Up, *, stream: bool = False, terms: Terms = TERMS) -> None:
        self.name = name
        self.called = 0
        self.opened: Json | None = None
        self.got: list[bytes] = []
        self.free = asyncio.Event()
        self.free.set()
        self.gone = False
        self._up = up
        ask = Ask("p/m", Request({}, stream), None, name)
        self.task = asyncio.ensure_future(flights.answer(ask, terms, self if stream else None, self._call))

    async def _call(self, sink: Sink | None) -> Made:
        self.called += 1
        return await self._up.call(self.name, sink)

    async def open(self, provider: str, model: str, strategy: str, report: Json) -> None:
        self.opened = report

    async def send(self, chunks: Sequence[bytes]) -> None:
        if self.gone:
            raise Gone
        self.got += chunks
        await self.free.wait()

    def text(self) -> str:
        return "".join(orjson.loads(one)["choices"][0]["delta"]["content"] for one in self.got)

    async def leave(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


class Up:
    """What is called: answers when it is told to."""

    def __init__(self) -> None:
        self.calls = 0
        self.cancelled = 0
        self.taken: list[str] = []
        self._steps: asyncio.Queue[Any] = asyncio.Queue()

    def say(self, *steps: Any) -> None:
        for step in steps:
            self._steps.put_nowait(step)

    async def call(self, name: str, sink: Sink | None) -> Made:
        self.calls += 1
        opened = False
        try:
            while isinstance(step := await self._steps.get(), str | bytes):
                assert sink is not None
                if not opened:
                    opened = True
                    await sink.open("p", "m", "first", report(name))
                await sink.send([piece(step) if isinstance(step, str) else step])
                self.taken.append(str(step))
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if isinstance(step, Exception):
            raise step
        return Made(Answer(step, report(name), "first", "p", "m"), {"tier:t": "ok"})


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.fixture
def flights() -> Flights:
    flights = Flights()
    flights.store.bound(1_000_000)
    return flights


@pytest.fixture
def up() -> Up:
    return Up()


def shared(made: Made) -> tuple[str, int, float]:
    """What says that it was somebody else's: cache, attempts, cost."""
    said = made.answer.report
    return said["cache"], len(said["attempts"]), said["cost_usd"]


async def test_one_calls_and_all_are_answered(flights: Flights, up: Up) -> None:
    """The first calls, in its own name, and passes its own report on; the others have cost nothing. So have later ones."""
    callers = [Caller(flights, f"r{i}", up) for i in range(5)]
    await settle()
    up.say(reply())
    first, *others = await asyncio.gather(*(caller.task for caller in callers))
    assert (1, [1, 0, 0, 0, 0]) == (up.calls, [caller.called for caller in callers])
    assert report("r0") == first.answer.report
    later = await Caller(flights, "later", up).task
    for made, name in zip([*others, later], ["r1", "r2", "r3", "r4", "later"], strict=True):
        assert (("hit", 0, 0.0), name) == (shared(made), made.answer.report["request_id"])
        outcome = made.answer.outcome
        assert isinstance(outcome, Reply)
        assert (reply().body, Usage(1, 2, cost_usd=0.0)) == (outcome.body, outcome.usage)
        assert ("p", "m", "p/m") == (made.answer.provider, made.answer.model, made.answer.report["winner"])
        assert {"tier:t": "ok"} == made.arm_outcomes
    assert 1 == up.calls


async def test_a_stream_is_followed_live(flights: Flights, up: Up) -> None:
    """Also by one who comes in its middle: from the beginning. Each has it as its own from the first chunk on."""
    first = Caller(flights, "first", up, stream=True)
    up.say("a", "b")
    await settle()
    late, whole = Caller(flights, "late", up, stream=True), Caller(flights, "whole", up)
    await settle()
    assert (("ab", "ab"), False) == ((first.text(), late.text()), whole.task.done())
    up.say("c", FINISH)
    await asyncio.gather(first.task, late.task, whole.task)
    assert ("abc", "abc", 1) == (first.text(), late.text(), up.calls)
    assert (report("first"), "hit") == (first.opened, (late.opened or {})["cache"])
    assert isinstance(first.task.result().answer.outcome, Finish)
    outcome = late.task.result().answer.outcome
    assert isinstance(outcome, Finish)
    assert (FINISH.last, Usage(1, 2, cost_usd=0.0)) == (outcome.last, outcome.usage)
    for caller in (whole, Caller(flights, "later", up, stream=True)):
        made = await caller.task
        assert isinstance(made.answer.outcome, Reply)
        assert "abc" == made.answer.outcome.body["choices"][0]["message"]["content"]
        assert ("hit", 0, 0.0) == shared(made)
        assert caller.opened is None


async def test_the_first_may_leave(flights: Flights, up: Up) -> None:
    """As long as somebody waits, the call goes on; then it is cancelled, and nobody is answered by it."""
    first, second = Caller(flights, "first", up), Caller(flights, "second", up)
    await settle()
    await first.leave()
    assert 0 == up.cancelled
    up.say(reply())
    assert ("hit", 0, 0.0) == shared(await second.task)
    alone, other = Caller(flights, "alone", up, terms=Terms(b"2", 60)), None
    await settle()
    await alone.leave()
    assert (1, 2) == (up.cancelled, up.calls)
    other = Caller(flights, "other", up, terms=Terms(b"2", 60))
    up.say(reply("again"))
    assert report("other") == (await other.task).answer.report
    assert 3 == up.calls


@pytest.mark.parametrize("end", [ValueError("a bug"), reply()])
async def test_a_call_that_ends_while_it_is_cancelled(flights: Flights, up: Up, end: Any) -> None:
    """Has nobody left to tell; an answer is kept all the same."""

    async def call(_sink: Sink | None) -> Made:
        try:
            return await up.call("alone", None)
        except asyncio.CancelledError:
            if isinstance(end, Exception):
                raise end from None
            return Made(Answer(end, report("alone"), "first", "p", "m"), {})

    alone = asyncio.ensure_future(flights.answer(Ask("p/m", Request({}), None, "alone"), TERMS, None, call))
    await settle()
    alone.cancel()
    assert isinstance(*await asyncio.gather(alone, return_exceptions=True), asyncio.CancelledError)
    up.say(reply("anew"))
    later = await Caller(flights, "later", up).task
    assert ("miss" if isinstance(end, Exception) else "hit") == later.answer.report["cache"]


async def test_who_leaves_before_the_call_does_not_make_it(up: Up) -> None:
    """While the store is asked, the next one takes its place: a request that has ended calls nobody."""

    class Slow(OwnStore):
        asked = asyncio.Event()

        async def take(self, key: bytes, owner: str, ttl_s: float) -> bytes | None:
            await self.asked.wait()
            return await super().take(key, owner, ttl_s)

    store = Slow()
    flights = Flights(store)
    first, second = Caller(flights, "first", up), Caller(flights, "second", up)
    await settle()
    await first.leave()
    store.asked.set()
    up.say(reply())
    assert report("second") == (await second.task).answer.report
    assert (0, 1) == (first.called, second.called)


async def test_a_stream_goes_on_without_the_one_who_began_it(flights: Flights, up: Up) -> None:
    """Also where nobody who streams is left: whoever wants it whole gets it."""
    first, whole = Caller(flights, "first", up, stream=True), Caller(flights, "whole", up)
    first.free.clear()
    up.say("a", "b", FINISH)
    await settle()
    assert [] == up.taken, "the caller is slow"
    await first.leave()
    made = await whole.task
    assert isinstance(made.answer.outcome, Reply)
    assert "ab" == made.answer.outcome.body["choices"][0]["message"]["content"]


async def test_the_quickest_caller_sets_the_pace(flights: Flights, up: Up) -> None:
    """A slow one holds up nobody but itself; alone, it holds up the call."""
    slow, quick = Caller(flights, "slow", up, stream=True), Caller(flights, "quick", up, stream=True)
    slow.free.clear()
    up.say("a", "b", "c")
    await settle()
    assert ("a", "abc", 3) == (slow.text(), quick.text(), len(up.taken))
    quick.gone = True
    up.say("d", "e")
    await settle()
    with pytest.raises(Gone):
        await quick.task
    assert (3, "a") == (len(up.taken), slow.text())
    slow.free.set()
    up.say(FINISH)
    await slow.task
    assert ("abcde", 5) == (slow.text(), len(up.taken))


async def test_a_failure_is_everybodys_and_is_not_kept(flights: Flights, up: Up) -> None:
    """Who waits gets it, in the middle of a stream too, without having paid; whoever comes then tries anew."""
    failure = Failure(FailureKind.SERVER_ERROR, "no")
    callers = [Caller(flights, f"r{i}", up, stream=True) for i in range(3)]
    up.say("a", failure)
    first, *others = await asyncio.gather(*(caller.task for caller in callers))
    assert {"a"} == {caller.text() for caller in callers}
    assert [failure] * 3 == [made.answer.outcome for made in (first, *others)]
    assert [("miss", 0, 0.0)] * 2 == [shared(made) for made in others]
    up.say(reply())
    assert ("miss", 1, 0.5) == shared(await Caller(flights, "later", up).task)


@pytest.mark.parametrize("error", [Denied(403, "over_budget", "nothing left"), ZeroDivisionError("a bug")])
async def test_what_is_raised_is_raised_for_all(flights: Flights, up: Up, error: Exception) -> None:
    """A refusal of one caller's is that of all its requests; the next one asks anew."""
    callers = [Caller(flights, f"r{i}", up) for i in range(3)]
    await settle()
    up.say(error)
    assert [error] * 3 == await asyncio.gather(*(caller.task for caller in callers), return_exceptions=True)
    up.say(reply())
    assert "later" == (await Caller(flights, "later", up).task).answer.report["request_id"]


async def test_a_fresh_answer_replaces_the_one_that_is_kept(flights: Flights, up: Up) -> None:
    """It is neither taken from the cache nor from somebody who is asking, and nobody joins it."""
    up.say(reply("old"))
    await Caller(flights, "old", up).task
    fresh = Caller(flights, "fresh", up, terms=TERMS._replace(fresh=True))
    await settle()
    hit = await Caller(flights, "hit", up).task
    assert ("hit", 0, 0.0) == shared(hit)
    up.say(reply("new"))
    assert report("fresh") == (await fresh.task).answer.report
    later = (await Caller(flights, "later", up).task).answer.outcome
    assert isinstance(later, Reply)
    assert ("new", 2) == (later.body["choices"][0]["message"]["content"], up.calls)


async def test_a_stream_that_cannot_be_put_together(flights: Flights, up: Up) -> None:
    """Those who stream share it; whoever wants it whole asks by itself, and that is kept."""
    streaming, whole = Caller(flights, "s", up, stream=True), Caller(flights, "w", up)
    other = Caller(flights, "o", up, stream=True)
    up.say("a", piece("", anthropic={"event": {}}), FINISH, reply("whole"))
    await asyncio.gather(streaming.task, whole.task, other.task)
    assert (2, report("w"), "hit") == (up.calls, whole.task.result().answer.report, shared(other.task.result())[0])
    assert "hit" == shared(await Caller(flights, "later", up).task)[0]


async def test_a_stream_that_is_too_long(flights: Flights, up: Up, monkeypatch: pytest.MonkeyPatch) -> None:
    """Goes on for those who are there, in step, and is let go of as it is taken; nobody joins it, and it is not kept."""
    monkeypatch.setattr(module, "MAX_STREAM_BYTES", 150)
    one, two = Caller(flights, "one", up, stream=True), Caller(flights, "two", up, stream=True)
    up.say("a", "b", "c")
    await settle()
    two.free.clear()
    up.say("d", "e")
    await settle()
    assert ("abcd", "abcd", 3) == (one.text(), two.text(), len(up.taken))
    elsewhere = Up()
    elsewhere.say("x", FINISH)
    late = Caller(flights, "late", elsewhere, stream=True)
    two.free.set()
    await settle()
    up.say(FINISH)
    await asyncio.gather(one.task, two.task, late.task)
    assert ("abcde", "abcde") == (one.text(), two.text())
    assert ("x", 1) == (late.text(), late.called)
