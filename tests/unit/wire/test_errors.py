"""What failures look like from outside: the table of `orchestrator.wire.errors`."""

import pytest

from orchestrator.types import Failure, FailureKind
from orchestrator.wire.errors import show

K = FailureKind


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (K.MALFORMED, 400), (K.CONTEXT_LENGTH, 400), (K.CONTENT_POLICY, 400), (K.NOT_FOUND, 404), (K.TOO_LARGE, 413),
        (K.RATE_LIMITED, 429), (K.QUEUE_FULL, 429), (K.QUEUE_TIMEOUT, 429), (K.PAUSED, 429), (K.OVER_BUDGET, 429),
        (K.SILENT, 504), (K.STALLED, 504), (K.DEADLINE, 504), (K.DRAINING, 503), (K.CANCELLED, 499),
        (K.STARTING, 503), (K.DOWN, 503),
        (K.UNAUTHORIZED, 502), (K.QUOTA, 502), (K.SERVER_ERROR, 502), (K.BAD_ANSWER, 502), (K.UNREACHABLE, 502),
        (K.RESET, 502), (K.CUT, 502), (K.BAD_EVENT, 502), (K.BREAKER_OPEN, 502), (K.POOL_LOST, 502), (K.INTERNAL, 502),
    ],
)  # fmt: skip
def test_status_and_code_follow_the_kind(kind: FailureKind, status: int) -> None:
    """Each kind has one status, and its public name is the code."""
    shown = show(Failure(kind, "why"))
    assert (status, kind.value, "why") == (shown.status, shown.error["code"], shown.error["message"])


@pytest.mark.parametrize(("wait_s", "header"), [(None, b"1"), (0.01, b"1"), (2.0, b"2"), (2.1, b"3")])
@pytest.mark.parametrize("kind", [K.RATE_LIMITED, K.DRAINING])
def test_waits_are_whole_seconds(kind: FailureKind, wait_s: float | None, header: bytes) -> None:
    """429 and 503 say when to come back: whole seconds, rounded up, at least one."""
    assert (b"retry-after", header) in show(Failure(kind, "busy", retry_after_s=wait_s)).headers


def test_callers_mistake_keeps_the_providers_words() -> None:
    """Where the caller erred, message, param and code are the provider's."""
    failure = Failure(K.MALFORMED, "a/x: bad", code="wrong_tool", param="tools", body={"message": "tools: no"})
    shown = show(failure)
    assert ("tools: no", "tools", "wrong_tool") == tuple(shown.error[name] for name in ("message", "param", "code"))


def test_error_object_without_a_message_falls_back_to_ours() -> None:
    """A provider's error object need not have a message."""
    assert show(Failure(K.MALFORMED, "a/x: bad", body={"type": "odd"})).error["message"] == "a/x: bad"


def fallen(*kinds: FailureKind, waits: tuple[float | None, ...] = ()) -> Failure:
    waits = waits or (None,) * len(kinds)
    causes = tuple(
        (f"p{i}/m", Failure(kind, "w", retry_after_s=wait))
        for i, (kind, wait) in enumerate(zip(kinds, waits, strict=True))
    )
    return Failure(K.ALL_FAILED, "all candidates failed", causes=causes)


@pytest.mark.parametrize(
    ("kinds", "status", "code"),
    [
        ((K.RATE_LIMITED, K.QUEUE_FULL), 429, K.RATE_LIMITED),
        ((K.SILENT, K.STALLED), 504, K.SILENT),
        ((K.UNSUPPORTED, K.CONTEXT_LENGTH), 400, K.UNSUPPORTED),
        ((K.UNSUPPORTED, K.SERVER_ERROR), 502, K.UNSUPPORTED),
        ((K.RATE_LIMITED, K.SERVER_ERROR), 502, K.RATE_LIMITED),
        ((K.SERVER_ERROR, K.RATE_LIMITED, K.UNAUTHORIZED), 502, K.UNAUTHORIZED),
        ((K.QUOTA, K.CONTEXT_LENGTH), 502, K.CONTEXT_LENGTH),
        ((K.STARTING, K.DOWN), 503, K.STARTING),
        ((), 502, K.ALL_FAILED),
    ],
)
def test_all_failed_names_what_can_be_acted_on(kinds: tuple[FailureKind, ...], status: int, code: FailureKind) -> None:
    """None can do it: 400. All limits: 429. All time-outs: 504. None up: 503. Else 502, and the code of whom one can help."""
    shown = show(fallen(*kinds))
    assert (status, code.value) == (shown.status, shown.error["code"])


def test_all_limited_waits_for_the_first_to_be_free() -> None:
    """The shortest of the waits is enough."""
    failure = fallen(K.RATE_LIMITED, K.PAUSED, K.QUEUE_FULL, waits=(9.0, 4.2, None))
    assert ((b"retry-after", b"5"), (b"x-should-retry", b"false")) == show(failure).headers


def test_spent_fallbacks_say_so() -> None:
    """A client's own retries would only multiply ours."""
    assert ((b"x-should-retry", b"false"),) == show(fallen(K.SERVER_ERROR, K.RESET)).headers
    assert ((b"x-should-retry", b"false"),) == show(Failure(K.UNAUTHORIZED, "key")).headers
    assert ((b"x-should-retry", b"false"),) == show(Failure(K.NO_CONSENSUS, "too few alike")).headers
    assert () == show(Failure(K.RESET, "once")).headers
    assert () == show(Failure(K.SILENT, "once")).headers
