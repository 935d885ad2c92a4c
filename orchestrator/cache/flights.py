"""Equal requests that come at once: one of them calls, the others get what comes of it.

A flight is what they share, in one process: a look into the store, then, if nothing is there, one call in the name of
whoever waits longest. It belongs to none of them, so nobody's leaving stops it while others wait; when the last one has
left, it is cancelled. Streams are followed live, by those who come late from their beginning. An answer that fails, fails
for all who wait. Across processes one of them calls and the others wait for the end (`Store.take`): where it fails,
another one tries.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import NamedTuple, Protocol
from uuid import uuid4

from orchestrator.asks import Answer, Ask, Sink
from orchestrator.cache.answers import Answers
from orchestrator.cache.kept import Kept, Origin, free, load_kept, origin_of, report_of_hit
from orchestrator.cache.terms import Terms
from orchestrator.dialects.merging import Merging
from orchestrator.types import Failure, Finish, Json, Reply

MAX_STREAM_BYTES = 16_000_000
"""Of the chunks of one stream that are held for those who come late. What is longer (some 70,000 tokens) is not kept, goes on
for those who are there, and is held up by the slowest of them."""


class Store(Protocol):
    """Where answers are kept, for this process or for many."""

    async def take(self, key: bytes, owner: str, ttl_s: float) -> bytes | None:
        """The answer, if there is one that is younger; waits while another process makes it. None: make it, and `give`."""
        ...

    def give(self, key: bytes, owner: str, value: bytes | None, ttl_s: float) -> None:
        """What came of it (None: nothing to keep); whoever waits is told. Never blocks, never raises."""
        ...

    def bound(self, max_bytes: int) -> None:
        """How much there may be from now on."""
        ...


class OwnStore:
    """The store of one process: flights see to it that nobody there makes an answer twice."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.answers = Answers()
        self._clock = clock

    async def take(self, key: bytes, owner: str, ttl_s: float) -> bytes | None:
        """See `Store`."""
        return self.answers.look(key, owner, ttl_s, self._clock()).value

    def give(self, key: bytes, owner: str, value: bytes | None, ttl_s: float) -> None:
        """See `Store`."""
        self.answers.give(key, owner, value, ttl_s, self._clock())

    def bound(self, max_bytes: int) -> None:
        """See `Store`."""
        self.answers.bound(max_bytes)


class Made(NamedTuple):
    """What came of a call."""

    answer: Answer
    arm_outcomes: Mapping[str, str]


Call = Callable[[Sink | None], Awaitable[Made]]
"""Answers the request for itself, streamed into the sink if there is one."""


class Flights:
    """The cache of one process, over a store that others may share."""

    def __init__(self, store: Store | None = None) -> None:
        self.store: Store = OwnStore() if store is None else store
        self._flights: dict[bytes, _Flight] = {}
        self._owners = (f"{me}:{number}" for me in (uuid4().hex,) for number in count())

    async def answer(self, ask: Ask, terms: Terms, sink: Sink | None, call: Call) -> Made:
        """An answer from the store, from whoever is asking the same, or by `call`, whose report is then passed on as it is.

        Anything else costs nothing, and says so in the report that is given here. Where a streamed request is answered with
        a Reply, nothing was sent to the sink. Raises what the sink raises, and what `call` does, whosever it was.
        """
        if terms.fresh:
            return await _Flight(self, terms).follow(ask, sink, call)
        flight = self._flights.get(terms.key)
        if flight is None:
            flight = self._flights[terms.key] = _Flight(self, terms)
        made = await flight.follow(ask, sink, call)
        if sink is None and isinstance(made.answer.outcome, Finish):
            # A stream that cannot be put together: whoever wants it whole has to ask for it.
            return await _Flight(self, terms._replace(fresh=True)).follow(ask, sink, call)
        return made

    def owner(self) -> str:
        """A name that no other flight has, in whichever process."""
        return next(self._owners)

    def forget(self, flight: _Flight) -> None:
        """Nobody else joins it."""
        if self._flights.get(flight.terms.key) is flight:
            del self._flights[flight.terms.key]


class _Seat:
    """One request on a flight."""

    __slots__ = ("call", "position", "sink")

    def __init__(self, sink: Sink | None, call: Call) -> None:
        self.sink = sink
        self.call = call
        self.position = 0
        """How many chunks its caller has taken."""


class _Opened(NamedTuple):
    provider: str
    model: str
    strategy: str
    report: Json


class _Flight:
    """What equal requests share. To the call that it makes it is the sink."""

    def __init__(self, flights: Flights, terms: Terms) -> None:
        self.terms = terms
        self._flights = flights
        self._owner = flights.owner()
        self._seats: dict[_Seat, None] = {}
        """Who waits, the longest first."""
        self._caller: _Seat | None = None
        """In whose name the call was made."""
        self._opened: _Opened | None = None
        self._chunks: list[bytes] = []
        self._gone = 0
        """Chunks that were let go of before those."""
        self._size_bytes = 0
        self._merging: Merging | None = Merging()
        """None: the stream is too long to be kept."""
        self._kept: Kept | None = None
        self._made: Made | None = None
        self._news = asyncio.Event()
        """For those who wait: something has come. Replaced when it is set."""
        self._taken = asyncio.Event()
        """For the call: somebody has taken something, or left."""
        self._task: asyncio.Task[None] | None = None

    async def follow(self, ask: Ask, sink: Sink | None, call: Call) -> Made:
        """See `Flights.answer`."""
        seat = _Seat(sink, call)
        self._seats[seat] = None
        if self._task is None:
            self._task = asyncio.ensure_future(self._run())
            self._task.add_done_callback(lambda _: self._tell())
        try:
            while True:
                handed = sink is not None and await self._hand(seat, sink, ask)
                if not handed and self._task.done():
                    break
                if not handed:
                    await self._news.wait()
            self._task.result()
            return self._outcome(seat, ask)
        finally:
            del self._seats[seat]
            self._taken.set()
            await self._leave(self._task)

    async def _hand(self, seat: _Seat, sink: Sink, ask: Ask) -> bool:
        """Hands a stream's new chunks to one who follows it. Says whether there were any."""
        chunks = self._chunks[seat.position - self._gone :]
        if not chunks:
            return False
        assert self._opened is not None, "a stream is opened before its first chunk"
        if seat.position == 0:
            provider, model, strategy, report = self._opened
            if seat is not self._caller:
                report = report_of_hit(ask, origin_of(report, provider, {}))
            await sink.open(provider, model, strategy, report)
        await sink.send(chunks)
        seat.position += len(chunks)
        self._taken.set()
        return True

    async def _leave(self, task: asyncio.Task[None]) -> None:
        if self._seats or task.done():
            return
        self._flights.forget(self)
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # nobody is left to be told

    async def _run(self) -> None:
        (key, ttl_s, fresh), store = self.terms, self._flights.store
        value: bytes | None = None
        try:
            if not fresh and (found := await store.take(key, self._owner, ttl_s)) is not None:
                self._kept = load_kept(found)
                return
            self._caller = next(iter(self._seats))
            self._made = await self._caller.call(None if self._caller.sink is None else self)
            self._kept = self._whole(*self._made)
            value = None if self._kept is None else self._kept.dump()
        finally:
            self._end(value)

    def _end(self, value: bytes | None) -> None:
        """From now on whoever comes is answered by the store."""
        self._flights.store.give(self.terms.key, self._owner, value, self.terms.ttl_s)
        self._flights.forget(self)

    def _whole(self, answer: Answer, arm_outcomes: Mapping[str, str]) -> Kept | None:
        """What is to be kept of an answer."""
        outcome, body = answer.outcome, None
        if isinstance(outcome, Reply):
            body = outcome.body
        elif isinstance(outcome, Finish) and self._merging is not None:
            body = self._merging.body(outcome)
        if body is None or isinstance(outcome, Failure):
            return None
        return Kept(Reply(body, outcome.model, outcome.usage), origin_of(answer.report, answer.provider, arm_outcomes))

    def _outcome(self, seat: _Seat, ask: Ask) -> Made:
        if seat is self._caller:
            assert self._made is not None
            return self._made
        if self._made is None or (seat.sink is None and self._kept is not None):
            assert self._kept is not None, "a flight has found an answer, or made one"
            reply, origin = self._kept
            return _shared(ask, replace(reply, usage=free(reply.usage)), origin, reply.model)
        answer, arm_outcomes = self._made
        origin, outcome = origin_of(answer.report, answer.provider, arm_outcomes), answer.outcome
        if not isinstance(outcome, Failure):
            outcome = replace(outcome, usage=free(outcome.usage), tries=())
        return _shared(ask, outcome, origin, answer.model)

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    # The sink of the call.

    async def open(self, provider: str, model: str, strategy: str, report: Json) -> None:
        """See `Sink.open`."""
        self._opened = _Opened(provider, model, strategy, report)

    async def send(self, chunks: Sequence[bytes]) -> None:
        """See `Sink.send`: the quickest of those who follow says when more can be taken."""
        self._chunks += chunks
        self._size_bytes += sum(map(len, chunks))
        if self._merging is not None:
            self._merging.add(chunks)
            if self._size_bytes > MAX_STREAM_BYTES:
                self._merging = None
                self._end(None)
        self._tell()
        sent = self._gone + len(self._chunks)
        while self._lags(sent):
            self._taken.clear()
            await self._taken.wait()

    def _lags(self, sent: int) -> bool:
        """Whether whoever has to has not taken what was sent; lets go of chunks that nobody will ask for any more."""
        taken = [seat.position for seat in self._seats if seat.sink is not None]
        if self._merging is not None:
            return bool(taken) and max(taken) < sent
        slowest = min(taken, default=sent)
        del self._chunks[: slowest - self._gone]
        self._gone = slowest
        return slowest < sent


def _shared(ask: Ask, outcome: Reply | Finish | Failure, origin: Origin, model: str | None) -> Made:
    """Somebody else's answer as one's own. A failure was not taken from the cache, and is not said to be."""
    report = report_of_hit(ask, origin, "miss" if isinstance(outcome, Failure) else "hit")
    return Made(Answer(outcome, report, origin.strategy, origin.provider, model, 0.0), origin.arm_outcomes)
