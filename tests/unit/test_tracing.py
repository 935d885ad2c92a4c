"""Which requests are traced, and how their identities hang together."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator import current
from orchestrator.current import REQUEST_ID, TRACE
from orchestrator.tracing import attempt_id, begin, of_call, propagated

TRACE_ID, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.mark.parametrize(
    ("header", "traced"),
    [
        (f"00-{TRACE_ID}-{PARENT}-01", True),
        (f"00-{TRACE_ID}-{PARENT}-00", False),
        (f"cc-{TRACE_ID}-{PARENT}-03-more", True),
    ],
)
@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_caller_that_sends_a_trace_has_decided(header: str, traced: bool, share: float) -> None:
    """Whatever share of the others is traced; its span is the parent."""
    trace = begin(header, share)
    assert traced == (trace is not None)
    if trace is not None:
        assert (TRACE_ID, PARENT) == (trace.trace_id.hex(), (trace.parent or b"").hex())
        assert trace.span_id.hex() != PARENT


@pytest.mark.parametrize(
    "header",
    [None, "", "what", f"ff-{TRACE_ID}-{PARENT}-01", f"00-{'0' * 32}-{PARENT}-01", f"00-{TRACE_ID}-{'0' * 16}-01",
     f"00-{TRACE_ID.upper()}-{PARENT}-01", f"00-{TRACE_ID}-{PARENT}"],
)  # fmt: skip
def test_what_is_no_trace_is_ignored(header: str | None) -> None:
    """As if nothing had been sent: a new one is begun, without a parent."""
    trace = begin(header, 1.0)
    assert trace is not None
    assert (True, None) == (trace.trace_id.hex() != TRACE_ID, trace.parent)
    assert begin(header, 0.0) is None


def test_a_share_of_the_requests_is_traced() -> None:
    """By the identity of the trace, so that all who see it would decide alike."""
    assert 350 < sum(begin(None, 0.4) is not None for _ in range(1_000)) < 450


def test_attempts_have_identities_of_their_own() -> None:
    """That follow from the call and the try, in whatever process; nothing follows from nothing."""
    trace = begin(None, 1.0)
    assert trace is not None
    identities = {attempt_id(of_call(trace.context, call), attempt) for call in range(5) for attempt in range(5)}
    assert 25 == len(identities)
    assert b"" == of_call(b"", 3)
    assert {} == propagated(0)
    with current.request("id", of_call(trace.context, 2)):
        expected = f"00-{trace.trace_id.hex()}-{attempt_id(of_call(trace.context, 2), 1).hex()}-01"
        assert {"traceparent": expected} == propagated(1)


async def test_tasks_know_what_they_are_done_for() -> None:
    """Those that are begun meanwhile; afterwards it is what it was."""

    async def known() -> tuple[str, bytes]:
        return REQUEST_ID.get(), TRACE.get()

    with current.request("a", b"x"):
        task = asyncio.ensure_future(known())
    assert ("", b"") == await known()
    assert ("a", b"x") == await task
