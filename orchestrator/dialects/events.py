"""What the decoders of streamed JSON events share: how events are cut out, what garbage means, and how a stream ends."""

from __future__ import annotations

from collections.abc import Callable

import orjson

from orchestrator.dialects.failures import error_within, of_error
from orchestrator.dialects.reading import Unreadable, read_json, too_deep
from orchestrator.dialects.sse import MAX_EVENT_BYTES, EventTooLarge, SseDecoder
from orchestrator.dialects.whole import as_chunks
from orchestrator.types import Chunk, Failure, FailureKind, Finish, Json, Piece, Reply, Usage

Decode = Callable[[bytes], Reply | Failure]
"""Of a whole answer's body."""
BEFORE = b"\xef\xbb\xbf \t\r\n"
"""What may stand before a body: a BOM, and blank lines as a sign of life (api-docs.deepseek.com/quick_start/rate_limit)."""


class JsonEvents:
    """Half of a `StreamDecoder`: a dialect says what each event is (`_event`), when the answer is whole (`_complete`) and
    how it ends (`_finish`).

    A whole body in place of the stream, which some servers answer with whatever they were asked for, and others where they
    failed, is told by how it begins, since content types are not to be relied upon: no stream of events begins with a brace
    or a bracket. It becomes a stream.
    """

    def __init__(self, model: str, decode: Decode | None = None) -> None:
        self._decode_whole = decode
        self._body: bytearray | None = None if decode is None else bytearray()
        """What has come, until it is known to be a stream; of a whole body, all of it."""
        self._is_whole = False
        self.opened = False
        self.model = model
        self.deltas = 0
        self._events = SseDecoder()
        self._ended = False

    @property
    def used(self) -> Usage | None:
        """See `StreamDecoder.used`."""
        return None

    def feed(self, data: bytes) -> list[Piece]:
        """See `StreamDecoder.feed`."""
        if self._ended:
            return []
        if self._body is not None:
            self._body += data
            if not self._is_whole and (begun := self._body.lstrip(BEFORE)):
                self._is_whole = begun.startswith((b"{", b"["))
                if not self._is_whole:
                    data, self._body = bytes(self._body), None
            if self._body is not None:
                if len(self._body) > MAX_EVENT_BYTES:
                    return [self._fail(FailureKind.BAD_ANSWER, f"HTTP 200 with over {MAX_EVENT_BYTES} bytes")]
                return []
        try:
            events = self._events.feed(data)
        except EventTooLarge as error:
            return [self._fail(FailureKind.BAD_EVENT, str(error))]
        return self._decode(events)

    def close(self) -> list[Piece]:
        """See `StreamDecoder.close`."""
        if self._ended:
            return []
        if self._is_whole:
            return self._close_whole()
        pieces = self._decode(self._events.close())
        if pieces and not isinstance(pieces[-1], Chunk):
            return pieces
        if self._complete():
            return [*pieces, self._finish()]
        if not self.opened:
            return [*pieces, self._nothing()]
        return [*pieces, self._fail(FailureKind.CUT, "the stream ended without a reason to stop and without its end")]

    def _close_whole(self) -> list[Piece]:
        assert self._decode_whole is not None
        assert self._body is not None
        self._ended = True
        reply = self._decode_whole(bytes(self._body))
        if isinstance(reply, Failure):
            return [reply]
        self.opened, self.model = True, reply.model
        chunks, last = as_chunks(reply.body)
        self.deltas = len(chunks)
        return [*map(Chunk, chunks), Finish(last, reply.model, reply.usage, reply.body.get("usage"))]

    def _decode(self, events: list[bytes]) -> list[Piece]:
        pieces: list[Piece] = []
        for data in events:
            if data == b"[DONE]":
                pieces.append(self._done())
                break
            try:
                event = orjson.loads(data)
            except orjson.JSONDecodeError:
                pieces += self._odd(data)
                if self._ended:
                    break
                continue
            if too_deep(data, event):
                pieces.append(self._fail(FailureKind.BAD_EVENT, "the stream has an event that is nested too deeply"))
                break
            if isinstance(event, list) and event:
                event = event[0]  # Gemini's errors come in a list
            if not isinstance(event, dict):
                continue
            if (error := error_within(event)) is not None:
                self._ended = True
                pieces.append(of_error(200, error))
                break
            if (piece := self._event(event, data)) is not None:
                pieces.append(piece)
                if not isinstance(piece, Chunk):
                    break
        return pieces

    def _odd(self, data: bytes) -> list[Piece]:
        """An event that orjson does not take."""
        if not (data := data.strip()):
            return []  # a sign of life
        lines = data.split(b"\n")
        for whole in (data,), lines:
            # Some servers forget the blank line between events, before [DONE] above all.
            try:
                return self._decode([one if one == b"[DONE]" else orjson.dumps(read_json(one)) for one in whole if one])
            except Unreadable:
                continue
        if self._complete():
            return []  # the answer is whole; what follows it says nothing
        return [self._fail(FailureKind.BAD_EVENT, "the stream has an event that is not JSON")]

    def _event(self, event: Json, raw: bytes) -> Piece | None:
        raise NotImplementedError

    def _complete(self) -> bool:
        raise NotImplementedError

    def _finish(self) -> Finish:
        raise NotImplementedError

    def _done(self) -> Piece:
        """The event that says that nothing more comes."""
        return self._finish() if self._complete() or self.opened else self._nothing()

    def _nothing(self) -> Failure:
        return self._fail(FailureKind.BAD_ANSWER, "HTTP 200 with a stream that has no answer in it")

    def _fail(self, kind: FailureKind, message: str) -> Failure:
        self._ended = True
        return Failure(kind, message, status=200)
