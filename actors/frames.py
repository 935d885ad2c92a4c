"""The frames that pool and coordinator exchange over sockets: `length | kind | payload`.

The length (4 bytes, big-endian) counts the payload alone. Nothing is pickled: whoever gets hold of a port that a dead
pool once had must not be able to run code in a coordinator.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Any

import orjson

from orchestrator.types import Failure, FailureKind, Finish, Try, Usage

_HEADER = struct.Struct("!IB")
MAX_PAYLOAD_BYTES = 128 * 1024 * 1024
"""More than any answer that a transport lets through (64 MB), re-encoded."""


class Kind(IntEnum):
    """What a frame is."""

    OPEN = 1
    """Coordinator: a session is about to be proved."""
    CHALLENGE = 2
    """Pool: a nonce."""
    HELLO = 3
    """Coordinator: the session's identity (16 bytes) and its HMAC-SHA256 over the nonce (32 bytes)."""
    PING = 4
    """Both: still here."""
    CANCEL = 5
    """Coordinator: the identity of a call (8 bytes) that nobody waits for any more."""
    TICKET = 6
    """Coordinator: the one-time ticket (16 bytes) of a stream, on a connection of its own."""
    CHUNK = 7
    """Pool: a chunk as JSON."""
    FINISH = 8
    """Pool: the clean end of a stream. The only one."""
    FAIL = 9
    """Pool: how a stream failed."""


def frame(kind: Kind, payload: bytes = b"") -> bytes:
    """One frame as bytes."""
    return _HEADER.pack(len(payload), kind) + payload


class FrameError(Exception):
    """The other side does not speak this protocol."""


class Frames:
    """Cuts a byte stream into frames, however it was split."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """The frames that are whole by now, as (kind, payload). Raises FrameError on an absurd length."""
        buffer = self._buffer
        buffer += data
        frames: list[tuple[int, bytes]] = []
        start, end = 0, len(buffer)
        while end - start >= _HEADER.size:
            length, kind = _HEADER.unpack_from(buffer, start)
            if length > MAX_PAYLOAD_BYTES:
                raise FrameError(f"a frame of {length} bytes")
            stop = start + _HEADER.size + length
            if stop > end:
                break
            frames.append((kind, bytes(buffer[start + _HEADER.size : stop])))
            start = stop
        del buffer[:start]
        return frames


def pack_finish(finish: Finish) -> bytes:
    """The payload of FINISH."""
    return orjson.dumps(
        {
            "last": finish.last,
            "model": finish.model,
            "usage": None if finish.usage is None else list(finish.usage),
            "usage_body": finish.usage_body,
            "tries": [list(one) for one in finish.tries],
        }
    )


def unpack_finish(payload: bytes) -> Finish:
    """The inverse of `pack_finish`."""
    value = orjson.loads(payload)
    return Finish(value["last"], value["model"], _usage(value["usage"]), value["usage_body"], _tries(value["tries"]))


def pack_failure(failure: Failure) -> bytes:
    """The payload of FAIL. (A pool's failure has no causes: those are made by plans.)"""
    return orjson.dumps(
        {
            "kind": failure.kind.value,
            "message": failure.message,
            "status": failure.status,
            "code": failure.code,
            "param": failure.param,
            "retry_after_s": failure.retry_after_s,
            "body": failure.body,
            "tries": [list(one) for one in failure.tries],
            "usage": None if failure.usage is None else list(failure.usage),
        }
    )


def unpack_failure(payload: bytes) -> Failure:
    """The inverse of `pack_failure`."""
    value = orjson.loads(payload)
    value["kind"] = FailureKind(value["kind"])
    value["tries"] = _tries(value["tries"])
    value["usage"] = _usage(value["usage"])
    return Failure(**value)


def _usage(values: list[Any] | None) -> Usage | None:
    return None if values is None else Usage(*values)


def _tries(values: list[list[Any]]) -> tuple[Try, ...]:
    return tuple(Try(*one) for one in values)
