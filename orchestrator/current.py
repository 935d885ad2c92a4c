"""Which request something is done for: it goes along with tasks by itself, and to pool actors with each call.

So every log line of a request can bear its id, and every call upstream its place in the request's trace.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
"""Empty: nothing is done for a request."""
TRACE: ContextVar[bytes] = ContextVar("trace", default=b"")
"""The trace of the request, or of one of its calls (`orchestrator.tracing`); empty: it is not traced."""


@contextmanager
def request(request_id: str, trace: bytes = b"") -> Iterator[None]:
    """What is done meanwhile is done for this request."""
    ids, traces = REQUEST_ID.set(request_id), TRACE.set(trace)
    try:
        yield
    finally:
        REQUEST_ID.reset(ids)
        TRACE.reset(traces)
