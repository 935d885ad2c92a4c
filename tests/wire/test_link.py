"""Sessions and streams between a coordinator and a pool, when the pool's node dies and closes nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from actors import link
from actors.link import Link, RelayStream
from actors.relay import Address, Relay, Ticketed
from orchestrator.types import Chunk, Failure, FailureKind, Opened, Piece

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
