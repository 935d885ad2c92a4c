"""The pool's side of its sockets: sessions with coordinators, and the streams that they read.

Ray carries control, sockets carry bytes: a chunk through a Ray streaming generator costs 0.41 to 0.47 ms, over a plain
socket 0.1 ms, and a session tells within seconds that a coordinator is gone, which Ray does not tell at all (a caller
killed with -9 does not cancel its calls).

A session is made by an actor call that gives host, port, identity and secret; the connection proves the secret by
HMAC over a nonce. While it lives, both sides send a PING every 2 s, and 6 s without a byte mean death. When it ends, all
that it started is cancelled. A stream is read over a connection of its own, so that TCP holds back one slow reader and no
other.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import os
import socket
from dataclasses import dataclass, field
from typing import NamedTuple, cast

from actors.frames import FrameError, Frames, Kind, frame, pack_failure, pack_finish
from orchestrator.drive import Stream
from orchestrator.types import Chunk, Failure, FailureKind, Finish, Opened, Piece, Request

PING_S = 2.0
DEAD_S = 6.0
TICKET_S = 5.0
"""How long a stream that nobody reads is kept, and a connection that has not proved who it is."""
BUFFER_BYTES = 64 * 1024
"""What each end of a connection, and the kernel between them, keeps of a stream whose caller reads slowly: left to
themselves, the two kernels' buffers would take 7 MB a stream."""
READ_BYTES = 16 * 1024
EARLY_CANCELS = 10_000
"""Cancels kept for calls that have not arrived: the socket can be faster than Ray."""

_log = logging.getLogger("orchestrator.relay")


class Address(NamedTuple):
    """Where and how a coordinator opens its session."""

    host: str
    port: int
    session: bytes
    secret: bytes


class Ticketed(NamedTuple):
    """What a streamed call gives through Ray: its first pieces, and the ticket for the rest (empty: there is none)."""

    opened: Opened
    pieces: list[Piece]
    ticket: bytes


class Called(NamedTuple):
    """The arguments of `Pool.call`. They and what it returns travel as bytes of `pickle` in one piece: Ray would
    take each argument by itself, and classes of ours by cloudpickle. Measured: 0.93 ms of CPU a call, caller and
    callee together, against 0.68 ms so (and 0.60 ms with Ray's task events off)."""

    session: bytes
    call: int
    """Unique within the session."""
    model: str
    request: Request
    extra: bool
    """A hedge: charged to the pool's budget."""
    request_id: str = ""
    """Of the request that it is made for: what the pool's log lines bear. It and the trace cost 1 µs a call."""
    trace: bytes = b""
    """The call's place in the trace of its request (`orchestrator.tracing.of_call`)."""


@dataclass(slots=True, eq=False)
class Session:
    """One coordinator, as its pool sees it, and all that it started."""

    secret: bytes
    link: _Link | None = None
    calls: dict[int, asyncio.Task[object]] = field(default_factory=dict)
    """Calls that have not returned."""
    streams: dict[int, bytes | asyncio.Task[None]] = field(default_factory=dict)
    """Streams by call: the ticket while nobody reads it, then the task that sends it."""
    cancelled: dict[int, None] = field(default_factory=dict)
    """Calls that were cancelled by the coordinator and have not answered to it yet, oldest first."""


class Relay:
    """The server. `idle_since_s` says since when there has been no session (loop time), or None."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._port = 0
        self._server: asyncio.Server | None = None
        self._sessions: dict[bytes, Session] = {}
        self._tickets: dict[bytes, tuple[Session, int, Stream, asyncio.TimerHandle]] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self.idle_since_s: float | None = None

    async def start(self) -> None:
        """Begins to listen, on a free port."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Link(self), self._host, 0, backlog=1024)
        self._port = self._server.sockets[0].getsockname()[1]
        self.idle_since_s = loop.time()

    def open_session(self) -> Address:
        """A new session; its connection has to come within `TICKET_S`."""
        identity, secret = os.urandom(16), os.urandom(32)
        self._sessions[identity] = session = Session(secret)
        self.idle_since_s = None
        asyncio.get_running_loop().call_later(
            TICKET_S, lambda: self.end_session(identity) if session.link is None else None
        )
        return Address(self._host, self._port, identity, secret)

    def session(self, identity: bytes) -> Session | None:
        """The session, while it lives."""
        return self._sessions.get(identity)

    @property
    def sessions(self) -> int:
        """How many coordinators are connected."""
        return len(self._sessions)

    def end_session(self, identity: bytes) -> None:
        """Cancels all that a session started."""
        session = self._sessions.pop(identity, None)
        if session is None:
            return
        for task in session.calls.values():
            task.cancel()
        for call in tuple(session.streams):
            self._end_stream(session, call)
        if not self._sessions:
            self.idle_since_s = asyncio.get_running_loop().time()

    def cancel(self, session: Session, call: int) -> None:
        """Ends a call that nobody waits for, wherever it is: not arrived, running, or streaming."""
        if call in session.streams:
            self._end_stream(session, call)
            return
        session.cancelled[call] = None
        if task := session.calls.get(call):
            task.cancel()
        elif len(session.cancelled) > EARLY_CANCELS:
            del session.cancelled[next(iter(session.cancelled))]

    def offer(self, session: Session, call: int, stream: Stream) -> bytes:
        """Keeps an opened stream for whoever brings the ticket that this returns."""
        ticket = os.urandom(16)
        expiry = asyncio.get_running_loop().call_later(TICKET_S, self._end_stream, session, call)
        self._tickets[ticket] = (session, call, stream, expiry)
        session.streams[call] = ticket
        return ticket

    def redeem(self, ticket: bytes, link: _Link) -> asyncio.Task[None] | None:
        """Starts to send a stream over `link`; None for a ticket that is unknown, used or expired."""
        offered = self._tickets.pop(ticket, None)
        if offered is None:
            return None
        session, call, stream, expiry = offered
        expiry.cancel()
        task = asyncio.ensure_future(_send(stream, link))
        session.streams[call] = task
        task.add_done_callback(lambda _: session.streams.pop(call, None))
        return task

    def _end_stream(self, session: Session, call: int) -> None:
        held = session.streams.pop(call, None)
        if isinstance(held, asyncio.Task):
            held.cancel()
        elif held is not None and (offered := self._tickets.pop(held, None)) is not None:
            offered[3].cancel()
            closing = asyncio.ensure_future(offered[2].aclose())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def aclose(self) -> None:
        """Ends all sessions and stops listening."""
        for identity in tuple(self._sessions):
            self.end_session(identity)
        if self._server is not None:
            self._server.close()


async def _send(stream: Stream, link: _Link) -> None:
    """Sends a stream's pieces as they come; reads on only when the socket can take more."""
    try:
        while True:
            pieces = await stream.read()
            link.write(b"".join(map(pack_piece, pieces)))
            if not isinstance(pieces[-1], Chunk):
                return
            if link.full is not None:
                await link.full
    finally:
        await stream.aclose()
        link.close()


def pack_piece(piece: Piece) -> bytes:
    """A piece of a stream as a frame."""
    if isinstance(piece, Chunk):
        return frame(Kind.CHUNK, piece.data)
    if isinstance(piece, Finish):
        return frame(Kind.FINISH, pack_finish(piece))
    return frame(Kind.FAIL, pack_failure(piece))


class _Link(asyncio.Protocol):
    """One accepted connection: a session's, or one stream's."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._frames = Frames()
        self._transport: asyncio.Transport | None = None
        self._nonce = b""
        self._identity = b""
        self._session: Session | None = None
        self._sender: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._heard_s = 0.0
        self.full: asyncio.Future[None] | None = None
        """Set while the socket takes no more; done when it does."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the interface, not the base class.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=BUFFER_BYTES)
        held = transport.get_extra_info("socket")
        held.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
        self._timer = asyncio.get_running_loop().call_later(TICKET_S, self.close)

    def data_received(self, data: bytes) -> None:
        self._heard_s = asyncio.get_running_loop().time()
        try:
            for kind, payload in self._frames.feed(data):
                self._take(kind, payload)
        except FrameError as error:
            _log.warning("a connection was closed: %s", error)
            self.close()

    def _take(self, kind: int, payload: bytes) -> None:
        if self._session is not None:
            if kind == Kind.CANCEL:
                self._relay.cancel(self._session, int.from_bytes(payload, "big"))
            elif kind != Kind.PING:
                raise FrameError(f"frame {kind} within a session")
        elif kind == Kind.OPEN and not self._nonce:
            self._nonce = os.urandom(16)
            self.write(frame(Kind.CHALLENGE, self._nonce))
        elif kind == Kind.HELLO and self._nonce:
            self._hello(payload[:16], payload[16:])
        elif kind == Kind.TICKET and self._sender is None:
            self._sender = self._relay.redeem(payload, self)
            if self._sender is None:
                lost = Failure(FailureKind.CUT, "the stream was not read in time, or its caller is gone")
                self.write(frame(Kind.FAIL, pack_failure(lost)))
                self.close()
            elif self._timer is not None:
                self._timer.cancel()
        else:
            raise FrameError(f"frame {kind} out of turn")

    def _hello(self, identity: bytes, proof: bytes) -> None:
        session = self._relay.session(identity)
        if (
            session is None
            or session.link is not None
            or not hmac.compare_digest(prove(session.secret, self._nonce), proof)
        ):
            raise FrameError("a session that could not be proved")
        session.link, self._session, self._identity = self, session, identity
        if self._timer is not None:
            self._timer.cancel()
        self._beat()

    def _beat(self) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() - self._heard_s > DEAD_S:
            _log.warning("a coordinator has been silent for %g s: its calls are cancelled", DEAD_S)
            self.close()
            return
        self.write(frame(Kind.PING))
        self._timer = loop.call_later(PING_S, self._beat)

    def write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def pause_writing(self) -> None:
        self.full = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        full, self.full = self.full, None
        # Who waited for it may have been cancelled meanwhile.
        if full is not None and not full.done():
            full.set_result(None)

    def connection_lost(self, _error: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._sender is not None:
            self._sender.cancel()
        if self._session is not None:
            self._relay.end_session(self._identity)


def prove(secret: bytes, nonce: bytes) -> bytes:
    """What HELLO has to carry."""
    return hmac.digest(secret, nonce, "sha256")
