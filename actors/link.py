"""The coordinator's side of a pool: its actor, the session with it, and the streams that it sends.

A link keeps itself up: it finds or makes the pool's actor, opens a session, and does both again when the session ends,
since a pool that was killed comes back with a new address and without its keys. What was in flight when a session ended
is failed at once, without waiting for Ray to notice.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Any

from actors.frames import FrameError, Frames, Kind, frame, unpack_failure, unpack_finish
from actors.relay import BUFFER_BYTES, DEAD_S, PING_S, READ_BYTES, Address, Ticketed, prove
from orchestrator.types import Chunk, Failure, FailureKind, Finish, Opened, Piece

BACKOFF_S = (0.05, 0.1, 0.2, 0.5, 1.0)
"""Waits between attempts to open a session; the last one stays."""

_log = logging.getLogger("orchestrator.link")

Connect = Callable[[], Any]
"""Finds or makes the pool's actor, configures it and opens a session there: an awaitable of (handle, Address)."""


class Link:
    """One pool, as a coordinator sees it."""

    def __init__(self, provider: str, connect: Connect) -> None:
        self.provider = provider
        self.handle: Any = None
        self.session = b""
        self.up = asyncio.Event()
        self.down: set[Callable[[], None]] = set()
        """Called, each once, when the session ends: calls in flight and streams put themselves here."""
        self.problem = "its pool has not been reached yet"
        self._connect = connect
        self._address: Address | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._calls = 0
        self._task = asyncio.ensure_future(self._keep())

    def next_call(self) -> int:
        """A fresh identity for a call of this link's; unique within a session."""
        self._calls += 1
        return self._calls

    def cancel(self, session: bytes, call: int) -> bool:
        """Tells the pool that nobody waits for a call. False: that session is over, and so is the call."""
        if self._writer is None or session != self.session or not self.up.is_set():
            return False
        self._writer.write(frame(Kind.CANCEL, call.to_bytes(8, "big")))
        return True

    async def attach(self, ticketed: Ticketed) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection that carries the rest of a stream. Raises OSError."""
        assert self._address is not None
        async with asyncio.timeout(DEAD_S):
            reader, writer = await asyncio.open_connection(
                self._address.host, self._address.port, limit=BUFFER_BYTES // 2
            )
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        writer.write(frame(Kind.TICKET, ticketed.ticket))
        return reader, writer

    async def _keep(self) -> None:
        failures = 0
        while True:
            try:
                self.handle, self._address = await self._connect()
                await self._session(self._address)
                failures = 0
            except Exception as error:  # whatever it was, the pool is not to be reached now, and will be tried again
                self.problem = f"{type(error).__name__}: {error}".splitlines()[0]
                if failures == len(BACKOFF_S):
                    _log.warning("pool %s cannot be reached: %s", self.provider, self.problem)
                failures += 1
            finally:
                self._lost()
            await asyncio.sleep(BACKOFF_S[min(failures, len(BACKOFF_S) - 1)])

    async def _session(self, address: Address) -> None:
        """Opens the session and stays until it ends. Raises what stopped it from being opened."""
        # Time-outs, and not `wait_for`: cancelled just when something has come, that of Python 3.11 forgets about it, and who
        # closes the link would wait for the end of a session that goes on.
        async with asyncio.timeout(DEAD_S):
            reader, writer = await asyncio.open_connection(address.host, address.port)
        try:
            writer.write(frame(Kind.OPEN))
            frames = Frames()
            taken: list[tuple[int, bytes]] = []
            while not taken:
                async with asyncio.timeout(DEAD_S):
                    data = await reader.read(READ_BYTES)
                if not data:
                    raise ConnectionError("the pool closed the connection")
                taken = frames.feed(data)
            if taken[0][0] != Kind.CHALLENGE:
                raise FrameError(f"frame {taken[0][0]} instead of a challenge")
            writer.write(frame(Kind.HELLO, address.session + prove(address.secret, taken[0][1])))
            self.session, self._writer = address.session, writer
            self.up.set()
            heard_s = asyncio.get_running_loop().time()
            while True:
                try:
                    async with asyncio.timeout(PING_S):
                        data = await reader.read(READ_BYTES)
                    heard_s = asyncio.get_running_loop().time()
                    if not data:
                        return
                except TimeoutError:
                    if asyncio.get_running_loop().time() - heard_s > DEAD_S:
                        _log.warning("pool %s has been silent for %g s", self.provider, DEAD_S)
                        return
                writer.write(frame(Kind.PING))
        except OSError as error:
            if not self.up.is_set():
                raise
            _log.info("the session with pool %s was lost: %s", self.provider, error)
        finally:
            writer.transport.abort()

    def _lost(self) -> None:
        self.up.clear()
        self._writer = None
        down, self.down = self.down, set()
        for tell in down:
            tell()

    async def aclose(self) -> None:
        """Ends the session, and with it all that this coordinator started there."""
        self._task.cancel()
        await asyncio.wait([self._task])


class RelayStream:
    """A stream that is read from a pool's socket. Only FINISH is a clean end; an end without it is a cut.

    It ends with its session at the latest: a node that dies closes no connection, and nothing would come for ever.
    """

    def __init__(self, link: Link, session: bytes, call: int, ticketed: Ticketed) -> None:
        self.opened: Opened = ticketed.opened
        self._link = link
        self._session = session
        self._call = call
        self._ticketed = ticketed
        self._frames = Frames()
        self._first: list[Piece] | None = ticketed.pieces
        self._connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._ended = not ticketed.ticket
        if not self._ended:
            link.down.add(self._abort)

    async def read(self) -> list[Piece]:
        """See `orchestrator.drive.Stream.read`."""
        if self._first is not None:
            first, self._first = self._first, None
            if not self._ended:
                # Connected before the first pieces are handed on, so that a slow caller does not let the ticket expire.
                try:
                    self._connection = await self._link.attach(self._ticketed)
                except OSError as error:
                    reason = str(error) or f"no answer for {DEAD_S:g} s"
                    return [*first, self._cut(f"its pool could not be reached: {reason}")]
            return first
        assert self._connection is not None
        reader, _ = self._connection
        while True:
            try:
                data = await reader.read(READ_BYTES)
                pieces = [_piece(kind, payload) for kind, payload in self._frames.feed(data)]
            except (OSError, FrameError) as error:
                return [self._cut(f"the connection with its pool broke: {error}")]
            if not data:
                return [self._cut("the connection with its pool ended")]
            if pieces:
                if not isinstance(pieces[-1], Chunk):
                    self._end()
                return pieces

    def _cut(self, why: str) -> Failure:
        self._end()
        return Failure(FailureKind.CUT, f"the stream of {self._link.provider} was cut: {why}")

    async def aclose(self) -> None:
        """See `orchestrator.drive.Stream.aclose`."""
        self.close()

    def close(self) -> None:
        """The same, at once."""
        if self._connection is None and not self._ended:
            self._link.cancel(self._session, self._call)
        self._end()

    def _end(self) -> None:
        self._ended = True
        self._link.down.discard(self._abort)
        self._abort()

    def _abort(self) -> None:
        if self._connection is not None:
            self._connection[1].transport.abort()


def _piece(kind: int, payload: bytes) -> Piece:
    if kind == Kind.CHUNK:
        return Chunk(payload)
    if kind == Kind.FINISH:
        finish: Finish = unpack_finish(payload)
        return finish
    if kind == Kind.FAIL:
        return unpack_failure(payload)
    raise FrameError(f"frame {kind} within a stream")
