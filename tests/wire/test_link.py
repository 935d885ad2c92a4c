"""Sessions and streams between a coordinator and a pool: when the pool's node dies and closes nothing, and when they are
closed just as something comes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from actors import link
from actors.frames import Kind, frame
from actors.link import Link, RelayStream
from actors.relay import Address, Relay, Ticketed, _Link
from actors.waiting import RayCalls
from orchestrator.routes import Candidate
from orchestrator.strategies.plan import Call
from orchestrator.types import Chunk, Failure, FailureKind, Opened, Piece, Request

SILENCE_S = 0.3


class Endless:
    """A stream that says one more thing and then waits for ever."""

    def __init__(self) -> None:
        self.said = False

    async def read(self) -> list[Piece]:
        if self.said:
            await asyncio.get_running_loop().create_future()
        self.said = True
        return [Chunk(b"two")]

    async def aclose(self) -> None:
        """Nothing is upstream."""


async def test_a_stream_ends_with_its_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pool falls silent, and its connections stay open: the stream is cut as soon as the session is over."""
    monkeypatch.setattr(link, "DEAD_S", SILENCE_S)
    monkeypatch.setattr(link, "PING_S", SILENCE_S / 3)
    relay = Relay("127.0.0.1")
    await relay.start()
    addresses: list[Address] = []

    async def connect() -> tuple[Any, Address]:
        if addresses:
            raise ConnectionError("the pool is gone")
        addresses.append(relay.open_session())
        return None, addresses[0]

    reached = Link("sim", connect)
    await reached.up.wait()
    session = relay.session(reached.session)
    assert session is not None
    ticket = relay.offer(session, 1, Endless())  # type: ignore[arg-type]
    stream = RelayStream(reached, reached.session, 1, Ticketed(Opened("model", 0.1), [Chunk(b"one")], ticket))
    assert [Chunk(b"one")] == await stream.read()
    assert [Chunk(b"two")] == await stream.read()
    # From now on it sends nothing more, not even that it lives, and does not hear that its session was given up.
    while session.link is None:
        await asyncio.sleep(0.01)
    monkeypatch.setattr(session.link, "write", lambda data: None)
    monkeypatch.setattr(relay, "end_session", lambda identity: None)
    async with asyncio.timeout(20):
        (piece,) = await stream.read()
    assert isinstance(piece, Failure)
    assert FailureKind.CUT is piece.kind
    assert set() == reached.down
    await reached.aclose()
    monkeypatch.undo()
    await relay.aclose()


class _Writer:
    """A connection that takes whatever it is given."""

    def __init__(self) -> None:
        self.transport = self

    def write(self, data: bytes) -> None:
        """Nobody reads it."""

    def abort(self) -> None:
        """There is nothing to be closed."""


async def turns(count: int) -> None:
    """So many turns of the loop."""
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.parametrize("late", range(6))
async def test_a_session_can_be_closed_just_when_something_comes(monkeypatch: pytest.MonkeyPatch, late: int) -> None:
    """Both sides speak every two seconds: whoever closes a link then does not wait for the end of a session that goes on."""
    reader = asyncio.StreamReader()

    async def connected(*_: Any) -> tuple[asyncio.StreamReader, _Writer]:
        return reader, _Writer()

    async def connect() -> tuple[Any, Address]:
        return None, Address("127.0.0.1", 1, bytes(16), bytes(32))

    monkeypatch.setattr(asyncio, "open_connection", connected)
    reached = Link("sim", connect)
    reader.feed_data(frame(Kind.CHALLENGE, bytes(16)))
    await reached.up.wait()
    await turns(10)
    reader.feed_data(frame(Kind.PING))
    await turns(late)
    closing = asyncio.ensure_future(reached.aclose())
    ended, _ = await asyncio.wait([closing], timeout=2)
    reached._task.cancel()
    await asyncio.wait([closing])
    assert {closing} == ended


@pytest.mark.parametrize("late", range(6))
async def test_a_call_that_is_stopped_just_when_its_pool_is_back_is_not_made(
    monkeypatch: pytest.MonkeyPatch, late: int
) -> None:
    """Nobody would hear of it, or stop it: it would go on upstream, and be billed."""

    class Pool:
        """Its actor."""

        calls = 0

        class Reference:
            """What a call of an actor gives."""

            def _on_completed(self, _: Any) -> None: ...

        @property
        def call(self) -> Pool:
            return self

        def remote(self, _: bytes) -> Reference:
            self.calls += 1
            return self.Reference()

    async def never() -> tuple[Any, Address]:
        raise ConnectionError("it is being restarted")

    pool, reached = Pool(), Link("sim", never)
    reached.handle = pool
    monkeypatch.setattr(reached, "cancel", lambda *_: True)
    calls = RayCalls({"sim": reached})
    flight = calls.start(Call(0, 0, Request({})), Candidate("sim", "m"))
    await turns(10)
    reached.up.set()
    await turns(late)
    made = pool.calls
    calls.stop(flight)
    await turns(10)
    await reached.aclose()
    assert made == pool.calls


async def test_a_stream_that_was_ended_while_its_reader_was_slow_is_no_error_later() -> None:
    """When what was on its way to the reader has been taken after all."""
    accepted = _Link(Relay("127.0.0.1"))
    accepted.pause_writing()
    assert accepted.full is not None
    accepted.full.cancel()
    accepted.resume_writing()
    assert accepted.full is None
