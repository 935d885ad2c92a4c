"""What an upstream's refusal means: from status, error code and message to a `Failure`. The one place that decides it.

Codes and shapes are those documented by OpenAI (platform.openai.com/docs/guides/error-codes), OpenRouter
(openrouter.ai/docs/api-reference/errors), Groq (console.groq.com/docs/errors) and vLLM (its ErrorResponse): `{"error":
{"message", "type", "param", "code"}}`, `{"error": "text"}`, `{"message": …}`, `{"detail": …}`.
"""

from __future__ import annotations

import email.utils
import math
import re
import time
from collections.abc import Mapping

import orjson

from orchestrator.dialects.messages import whole_number
from orchestrator.dialects.reading import Unreadable, read_json
from orchestrator.types import Failure, FailureKind, Json

MESSAGE_CHARACTERS = 500

_SECRET = re.compile(
    r"(?i)\bbearer\s+\S+|\b(?:sk|gsk|pk|rk|xai|or|key|api)[-_][\w*.\-]{6,}|\b[A-Za-z0-9_\-]*\*{3,}[\w*\-]*|\b[0-9a-fA-F]{32,}\b"
)
_CONTEXT = re.compile(
    r"(?i)context[_ ](?:length|window|size)|maximum context|too many tokens|prompt is too long|input is too long"
    r"|exceed context limit|reduce the length of the (?:messages|prompt|input)"
    r"|exceeds the maximum number of tokens|maximum prompt length|maximum model length|maximum allowed input length"
    r"|exceeded model token limit|prompt token count|range of input length|`max_new_tokens` must be <="
)
"""The second half, in this order: Gemini's, xAI's, vLLM's, Poolside's, Moonshot's, Copilot's, Qwen's and Together's.
Bedrock's input is too long; llama.cpp has a context size."""
_POLICY = re.compile(
    r"(?i)content[_ ](?:policy|filter|management)|moderation|safety system|responsibleai"
    r"|usage polic(?:y|ies)|content exists risk|data_inspection_failed"
)
"""The second half: OpenAI's `invalid_prompt`, DeepSeek's and Qwen's."""
_QUOTA = re.compile(
    r"(?i)insufficient[_ ](?:quota|funds|credits|balance)|exceeded your current quota|billing|payment required"
    r"|used all available credits"
)
_RATE = re.compile(r"(?i)rate[ _-]limit|\bresource_exhausted\b")
"""It is a rate, whatever else is said with it: OpenAI and Groq name the page where more can be bought ("billing"), and
Gemini's limits by the minute speak of plan and billing, too (github.com/continuedev/continue, issues 10920 and 10921)."""
_NEVER_FITS = re.compile(r"(?i)\brequest too large\b")
"""OpenAI's 429 (Groq's is a 413) for a request that has more tokens than a minute may have: no waiting helps."""
_EXTRA = re.compile(r"extra_forbidden|property(?: '[^']*')? is unsupported")
"""The field means nothing to it: Mistral's, and any FastAPI's that is strict (github.com/mistralai/platform-docs-public,
issue 7); Groq's (github.com/karthink/gptel, issue 774)."""
_NO_CREDIT = re.compile(r"(?i)credit balance is too low")
"""Anthropic's, with status 400. Of other quotas a 400 speaks only where it repeats what was asked."""
_NO_MODEL = re.compile(
    r"(?i)model[_ ]not[_ ]found|model .{0,200}(?:does not exist|not found|is not available|decommissioned)"
    r"|is not a valid model|\binvalid_model\b"
)


def masked(message: str) -> str:
    """One line of at most 500 characters in which whatever looks like a credential is masked."""
    line = " ".join(_SECRET.sub("***", message).split())
    return line if len(line) <= MESSAGE_CHARACTERS else line[: MESSAGE_CHARACTERS - 1] + "…"


def classify(status: int, headers: Mapping[str, str], content: bytes) -> Failure:
    """The failure that an answer with an error status is."""
    try:
        body = read_json(content)
    except Unreadable:
        body = None
    error = _error_object(body)
    return of_error(status, error, retry_after_s(headers, time.time()))


def answer_of(status: int, headers: Mapping[str, str], content: bytes) -> Json | Failure:
    """The object that an answer brought; or the failure that it is, by its status or, within a 200, by its body."""
    if status != 200:
        return classify(status, headers, content)
    try:
        body = read_json(content)
    except Unreadable:
        what = "an empty body" if not content.strip() else "a body that is not JSON"
        return Failure(FailureKind.BAD_ANSWER, f"HTTP 200 with {what}", status=200)
    if isinstance(body, list) and body:
        body = body[0]  # Gemini's errors come in a list
    if not isinstance(body, dict):
        return Failure(FailureKind.BAD_ANSWER, "HTTP 200 with a body that is no object", status=200)
    error = error_within(body)
    return body if error is None else of_error(200, error)


def error_within(body: Json) -> Json | None:
    """The error that an object is which came with a 200, or as an event of a stream; None: it is none.

    One that is not called so has a `detail` (FastAPI's), or a code and a message (Qwen's), in place of any answer.
    """
    if body.get("error") or body.get("object") == "error":
        return _error_object(body)
    told = body.get("detail") or (body.get("code") and isinstance(body.get("message"), str))
    if not told or "choices" in body or body.get("data") or body.get("content"):
        return None
    return _error_object(body)


def of_error(status: int, error: Json, wait_s: float | None = None) -> Failure:
    """The failure that an error object is; `status` may come from within it (an error inside a 200 stream)."""
    inner = error.get("code")
    if status == 200:
        number = whole_number(inner)
        status = number if 400 <= number < 600 else 500
        status = _STATUS_OF_TYPE.get(str(inner), _STATUS_OF_TYPE.get(str(error.get("type")), status))
    code = str(inner) if inner not in (None, "") and not isinstance(inner, int) else None
    text = str(error.get("message") or "")
    metadata = error.get("metadata")
    if isinstance(metadata, dict) and isinstance(metadata.get("raw"), str):
        text = f"{text}: {metadata['raw']}"  # OpenRouter's: what the provider behind it said
    param = error.get("param")
    said = " ".join(str(error.get(name) or "") for name in ("type", "status"))
    kind = _kind(status, code or "", f"{code or ''} {said} {text}")
    return Failure(
        kind,
        masked(f"HTTP {status}: {text}" if text else f"HTTP {status}"),
        status=status,
        code=code,
        param=param if isinstance(param, str) else None,
        retry_after_s=_wait_within(error, time.time()) if wait_s is None else wait_s,
        body=None if not text else {"message": masked(text), "type": error.get("type"), "param": param, "code": inner},
    )


_STATUS_OF_TYPE = {
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "insufficient_quota": 429,
    "billing_error": 402,
    "overloaded_error": 529,
    "timeout_error": 504,
    "api_error": 500,
    "server_error": 500,
    "invalid_request_error": 400,
    "context_length_exceeded": 400,
    "content_filter": 400,
    "content_policy_violation": 400,
    "BadRequestError": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "NotFoundError": 404,
    "model_not_found": 404,
    "request_too_large": 413,
}

_KIND_OF_STATUS = {
    401: FailureKind.UNAUTHORIZED,
    402: FailureKind.QUOTA,
    403: FailureKind.UNAUTHORIZED,
    404: FailureKind.NOT_FOUND,
    405: FailureKind.NOT_FOUND,  # its address is not one that answers
    408: FailureKind.SERVER_ERROR,
    409: FailureKind.SERVER_ERROR,
    410: FailureKind.NOT_FOUND,  # retired
    413: FailureKind.TOO_LARGE,
    424: FailureKind.SERVER_ERROR,  # Bedrock's ModelErrorException
    425: FailureKind.SERVER_ERROR,
    429: FailureKind.RATE_LIMITED,
    498: FailureKind.SERVER_ERROR,  # Groq: no capacity
}
_KIND_OF_CODE = {
    # Groq's: the model wrote what is no tool call, or no JSON. Another may do better; the request is not to blame.
    "tool_use_failed": FailureKind.BAD_ANSWER,
    "json_validate_failed": FailureKind.BAD_ANSWER,
}


def _kind(status: int, code: str, text: str) -> FailureKind:
    if code in _KIND_OF_CODE:
        return _KIND_OF_CODE[code]
    if status in (400, 413, 422) and _CONTEXT.search(text):
        return FailureKind.CONTEXT_LENGTH
    if status in (400, 403, 422) and _POLICY.search(text):
        return FailureKind.CONTENT_POLICY
    if status == 429 and _NEVER_FITS.search(text):
        return FailureKind.TOO_LARGE
    if status == 429 and ("insufficient_quota" in text or (_QUOTA.search(text) and not _RATE.search(text))):
        return FailureKind.QUOTA
    if status == 400 and _NO_CREDIT.search(text):
        return FailureKind.QUOTA
    if status in (400, 404) and _NO_MODEL.search(text):
        return FailureKind.NOT_FOUND
    if status in (400, 422) and _EXTRA.search(text):
        return FailureKind.UNSUPPORTED
    if status in _KIND_OF_STATUS:
        return _KIND_OF_STATUS[status]
    if 400 <= status < 500:
        return FailureKind.MALFORMED
    # A redirect is not followed: a POST with a key goes where it was configured to go, or nowhere.
    return FailureKind.SERVER_ERROR if status >= 500 else FailureKind.BAD_ANSWER


def _error_object(body: object) -> Json:
    if isinstance(body, list) and body:
        body = body[0]  # Gemini's
    if not isinstance(body, dict):
        return {}
    error = body.get("error")
    if isinstance(error, dict):
        return error
    if error:
        return {**body, "message": error if isinstance(error, str) else str(error)}
    said = body.get("detail") if body.get("message") is None else body["message"]
    if isinstance(said, dict) and isinstance(inner := said.get("error"), str | dict):
        return _error_object({"error": inner})
    if said is None:
        return {}
    # Mistral's may be the list of what FastAPI found wrong, or an object with it.
    return {**body, "message": said if isinstance(said, str) else orjson.dumps(said).decode()}


def retry_after_s(headers: Mapping[str, str], now_s: float) -> float | None:
    """How long the provider asks to wait: `retry-after-ms` (OpenAI), RFC 9110's seconds or date, or else when the limit
    that is spent is reset (`x-ratelimit-reset-*`, OpenAI's and Groq's)."""
    for name, scale in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        if (value := headers.get(name)) is not None:
            try:
                wait_s = float(value) / scale
            except ValueError:
                date_s = _date_s(value)
                if date_s is None:
                    continue
                wait_s = date_s - now_s
            if not math.isnan(wait_s) and wait_s < 1e9:
                return max(0.0, wait_s)
    spent = [name for name in ("requests", "tokens") if headers.get(f"x-ratelimit-remaining-{name}") == "0"]
    waits_s = [_duration_s(headers.get(f"x-ratelimit-reset-{name}", "")) for name in spent]
    return max((wait_s for wait_s in waits_s if wait_s is not None), default=None)


def _wait_within(error: Json, now_s: float) -> float | None:
    """The same where the error says it and no header does: Gemini's RetryInfo (google.rpc, error_details.proto), and
    OpenRouter's headers of its own limits, whose reset is in milliseconds since 1970
    (openrouter.ai/docs/api-reference/limits)."""
    details = error.get("details")
    for detail in details if isinstance(details, list) else ():
        if isinstance(detail, dict) and str(detail.get("@type")).endswith("google.rpc.RetryInfo"):
            return _duration_s(str(detail.get("retryDelay")))
    metadata = error.get("metadata")
    headers = metadata.get("headers") if isinstance(metadata, dict) else None
    if not isinstance(headers, dict) or str(headers.get("X-RateLimit-Remaining")) != "0":
        return None
    try:
        reset_s = float(headers.get("X-RateLimit-Reset") or "nan") / 1000
    except (TypeError, ValueError):
        return None
    return max(0.0, reset_s - now_s) if reset_s < 1e11 else None


def _date_s(text: str) -> float | None:
    """A date of RFC 9110 in seconds since 1970; None for what is none."""
    try:
        date = email.utils.parsedate_tz(text)
        return None if date is None else email.utils.mktime_tz(date)
    except (ValueError, OverflowError):
        return None  # the year 10^20, for one


_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?", re.ASCII)


def _duration_s(text: str) -> float | None:
    """`6m0s`, `1.5s`, `90ms`: how OpenAI and Groq say when a limit is reset."""
    found = _DURATION.fullmatch(text)
    if found is None or not any(found.groups()):
        return None
    units = zip(found.groups(), (3600.0, 60.0, 1.0, 0.001), strict=True)
    return sum(float(value) * unit for value, unit in units if value)
