"""Log lines of the processes of an application: as text or JSON, each with the request that it is about.

Lines go to standard error, which Ray keeps by process in its session's folder. Where `SOCKET` names a socket, warnings go
there as well: `orchestrator serve` prints them. Nobody waits for it: a line that it does not take is left to standard error.
A process that only uses the Python API has its own logging, and nothing is set up there.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson

from orchestrator.config.operations import Logs
from orchestrator.current import REQUEST_ID
from orchestrator.types import Json
from orchestrator.world import outcome_of

if TYPE_CHECKING:
    from orchestrator.accounting import Ended

SOCKET = "ORCHESTRATOR_LOG_SOCKET"
"""The path of a Unix datagram socket that takes lines."""
SHORT_BYTES = 2_000
"""What of a line is sent to a socket that takes no longer ones (macOS: 2048 bytes)."""

_requests = logging.getLogger("orchestrator.requests")


class TextLines(logging.Formatter):
    """A line for people."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        text = f"{at} {record.levelname} {record.name} [{self._process}] {record.getMessage()}"
        if request_id := REQUEST_ID.get():
            text += f" (request {request_id})"
        return text if record.exc_info is None else f"{text}\n{self.formatException(record.exc_info)}"


class JsonLines(logging.Formatter):
    """The same as one JSON object. What is logged with `extra={"fields": {…}}` has fields of its own."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        line: Json = {
            "time": datetime.fromtimestamp(record.created, UTC)
            .isoformat(timespec="milliseconds")
            .replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "process": self._process,
            "pid": record.process,
        }
        if request_id := REQUEST_ID.get():
            line["request_id"] = request_id
        line |= getattr(record, "fields", {})
        if record.exc_info is not None:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


class ToSocket(logging.Handler):
    """Sends lines to whoever listens, if there is somebody, and never waits."""

    def __init__(self, path: str) -> None:
        super().__init__(logging.WARNING)
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        line = self.format(record).encode()
        for part in (line, line[:SHORT_BYTES]):
            try:
                self._socket.sendto(part, self._path)
            except OSError:
                continue  # it is gone, busy, or takes no line of this length: standard error has it
            return

    def close(self) -> None:
        """See `logging.Handler`."""
        self._socket.close()
        super().close()


def configure(wanted: Logs, process: str) -> None:
    """Has all lines of this process written as the configuration wants it, from now on. `process` names it in them."""
    logger = logging.getLogger("orchestrator")
    lines = (JsonLines if wanted.format == "json" else TextLines)(process)
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.__stderr__)]
    if path := os.environ.get(SOCKET):
        handlers.append(ToSocket(path))
    for handler in handlers:
        handler.setFormatter(lines)
    before, logger.handlers = logger.handlers, handlers
    for handler in before:
        handler.close()
    logger.propagate = False
    logger.setLevel(wanted.level.upper())
    # Asked for by itself: whatever the level is.
    _requests.setLevel(logging.INFO)


class RequestLines:
    """An `orchestrator.accounting.Observer`: a line for each request, where the configuration wants one. It holds no text of
    the conversation, and no key. Measured: 37 µs as JSON."""

    def ended(self, ended: Ended) -> None:
        """See `orchestrator.accounting.Observer`."""
        if not ended.asked.config.logs.requests:
            return
        ask, report, outcome = ended.asked.ask, ended.report, outcome_of(ended.outcome)
        fields: dict[str, Any] = {
            "request_id": ask.request_id,
            "selector": report["selector"],
            "strategy": report["strategy"],
            "user": ask.user,
            "key": None if ask.caller is None else ask.caller.name,
            "outcome": outcome,
            "winner": report["winner"],
            "seconds": round(ended.seconds, 6),
            "cost_usd": report["cost_usd"],
            "attempts": [
                f"{one['provider']}/{one['model']} {one['outcome']} {one['latency_s'] or 0:.3f}"
                for one in report["attempts"]
            ],
        }
        what = f"{report['selector']}: {outcome} in {ended.seconds:.3f} s, {', '.join(fields['attempts']) or 'nobody asked'}"
        _requests.info("%s", what, extra={"fields": fields})
