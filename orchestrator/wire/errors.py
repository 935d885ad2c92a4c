"""From a `Failure` to what a caller sees: status, OpenAI's error object, headers. One table."""

from __future__ import annotations

import math
from typing import NamedTuple

from orchestrator.types import Failure, FailureKind, Json
from orchestrator.wire.http import Header

_K = FailureKind
_LIMITS = {_K.RATE_LIMITED, _K.QUEUE_FULL, _K.QUEUE_TIMEOUT, _K.BUSY, _K.PAUSED, _K.OVER_BUDGET}
_TIMEOUTS = {_K.SILENT, _K.STALLED, _K.DEADLINE}
_AWAY = {_K.STARTING, _K.DOWN}
_CALLERS = {_K.MALFORMED, _K.UNSUPPORTED, _K.CONTEXT_LENGTH, _K.CONTENT_POLICY, _K.TOO_LARGE, _K.NOT_FOUND}
_REQUESTS = {_K.MALFORMED, _K.UNSUPPORTED, _K.CONTEXT_LENGTH, _K.CONTENT_POLICY}
_ACCOUNT = {_K.UNAUTHORIZED, _K.QUOTA}
_STATUS = {
    **dict.fromkeys(_LIMITS, 429),
    **dict.fromkeys(_TIMEOUTS, 504),
    **dict.fromkeys(_AWAY, 503),
    _K.MALFORMED: 400,
    _K.UNSUPPORTED: 400,
    _K.CONTEXT_LENGTH: 400,
    _K.CONTENT_POLICY: 400,
    _K.TOO_LARGE: 413,
    _K.NOT_FOUND: 404,
    _K.DRAINING: 503,
    _K.CANCELLED: 499,
}
_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "invalid_request_error",
    405: "invalid_request_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    429: "rate_limit_error",
    503: "service_unavailable_error",
    504: "timeout_error",
}


class Shown(NamedTuple):
    """What a failure looks like from outside."""

    status: int
    error: Json
    headers: tuple[Header, ...]


def error_object(status: int, message: str, code: str | None, param: str | None = None) -> Json:
    """OpenAI's error object."""
    return {"message": message, "type": _TYPES.get(status, "server_error"), "param": param, "code": code}


def show(failure: Failure) -> Shown:
    """The status, error object and headers of a failure.

    A candidate list that failed as a whole is a 400 if none can do what is asked, a 429 if all hit limits, a 504 if all ran
    out of time, a 503 if all are local models that are not up, else a 502. Its `code` is that of the cause which somebody can
    do most about.
    """
    speaking = failure
    status = _STATUS.get(failure.kind, 502)
    wait_s = failure.retry_after_s
    if failure.causes:
        kinds = {cause.kind for _, cause in failure.causes}
        alike = ((_REQUESTS, 400), (_LIMITS, 429), (_TIMEOUTS, 504), (_AWAY, 503))
        status = next((status for among, status in alike if kinds <= among), 502)
        speaking = min((cause for _, cause in failure.causes), key=_actionable)
        wait_s = min((cause.retry_after_s for _, cause in failure.causes if cause.retry_after_s), default=wait_s)
    code = speaking.code if speaking.kind in _CALLERS and speaking.code else speaking.kind.value
    message, param = failure.message, speaking.param
    if failure.kind in _CALLERS and failure.body is not None:
        message = str(failure.body.get("message") or message)
    headers: list[Header] = []
    if status in (429, 503):
        headers.append((b"retry-after", str(max(1, math.ceil(wait_s or 1))).encode()))
    if failure.kind in (_K.ALL_FAILED, _K.NO_CONSENSUS) or not failure.passes:
        headers.append((b"x-should-retry", b"false"))
    return Shown(status, error_object(status, message, code, param), tuple(headers))


def _actionable(failure: Failure) -> int:
    order = (_CALLERS, _ACCOUNT, _LIMITS)
    return next((rank for rank, kinds in enumerate(order) if failure.kind in kinds), len(order))
