"""Which request something is done for: it goes along with tasks by itself, and to pool actors with each call.

So every log line of a request can bear its id, and every call upstream its place in the request's trace.
"""

from __future__ import annotations

from contextvars import ContextVar

REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
"""Empty: nothing is done for a request."""
TRACE: ContextVar[bytes] = ContextVar("trace", default=b"")
"""The trace of the request, or of one of its calls (`orchestrator.tracing`); empty: it is not traced."""


class request:  # noqa: N801 - used as `with current.request(…)`; a generator takes twice as long
    """What is done meanwhile is done for this request."""

    __slots__ = ("_ids", "_request_id", "_trace", "_traces")

    def __init__(self, request_id: str, trace: bytes = b"") -> None:
        self._request_id = request_id
        self._trace = trace

    def __enter__(self) -> None:
        self._ids, self._traces = REQUEST_ID.set(self._request_id), TRACE.set(self._trace)

    def __exit__(self, *raised: object) -> None:
        REQUEST_ID.reset(self._ids)
        TRACE.reset(self._traces)
