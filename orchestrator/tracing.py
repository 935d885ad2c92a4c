"""Where a request and its attempts stand in a trace: identities, sampling, and the header that carries them (W3C Trace
Context, www.w3.org/TR/trace-context).

A span is made when a request has ended, out of its report. But the provider is told of the attempt's span when it is called,
perhaps in another process: so the identity of an attempt's span follows from the request's, the number of the call and that
of the try, and nobody has to bring it back. That costs 2 µs a call of a request that is traced, and nothing for others.
"""

from __future__ import annotations

import os
import re
from hashlib import blake2b
from typing import NamedTuple

from orchestrator.current import TRACE

_HEADER = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
_SAMPLED = 1


class Trace(NamedTuple):
    """A request that is traced."""

    trace_id: bytes
    span_id: bytes
    """Of the request's span."""
    parent: bytes | None = None
    """The caller's span, where it sent one."""

    @property
    def context(self) -> bytes:
        """What goes along with the request (`orchestrator.current.TRACE`)."""
        return self.trace_id + self.span_id


def begin(traceparent: str | None, share: float) -> Trace | None:
    """The trace of a new request; None: it is not traced.

    A caller that sends a trace has decided whether it is; of all others, `share` of them are, by the trace's identity.
    """
    found = None if traceparent is None else _HEADER.fullmatch(traceparent.strip())
    if found is not None and int(found[1], 16) and int(found[2], 16):
        sampled = int(found[3], 16) & _SAMPLED
        return Trace(bytes.fromhex(found[1]), os.urandom(8), bytes.fromhex(found[2])) if sampled else None
    trace_id = os.urandom(16)
    if int.from_bytes(trace_id[8:], "big") >= share * 2**64:
        return None
    return Trace(trace_id, os.urandom(8))


def of_call(context: bytes, call: int) -> bytes:
    """What goes along with one call of a request."""
    return context + call.to_bytes(4, "big") if context else b""


def attempt_id(of_call: bytes, attempt: int) -> bytes:
    """The identity of the span of a call's `attempt`th try."""
    return blake2b(of_call + attempt.to_bytes(4, "big"), digest_size=8).digest()


def propagated(attempt: int) -> dict[str, str]:
    """The header that tells a provider which span it is called in; none where the request is not traced."""
    context = TRACE.get()
    if not context:
        return {}
    return {"traceparent": f"00-{context[:16].hex()}-{attempt_id(context, attempt).hex()}-01"}
