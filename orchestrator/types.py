"""The values that travel through the system: a request, what came of it, and why it failed.

Everything here is immutable, picklable and free of behaviour beyond small derivations, so that a value made in a pool
actor means the same in the coordinator. Inside the system a failure is a value (`Failure`); it becomes an exception or
an HTTP status only at the edges (`orchestrator.errors`, `orchestrator.wire`).

Units stand in the names: `_s` seconds, `_usd` US dollars, `_tokens` tokens. Times inside one call are relative to the
start of that call, times inside one run (attempts) to the start of the request.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Literal, NamedTuple

Json = dict[str, Any]
"""A parsed JSON object. It is never changed in place after it has been handed on."""


class Sent(NamedTuple):
    """What of a streamed answer had reached its caller when it was cut: where another model goes on."""

    text: str
    head: Json
    """`id`, `object`, `created` and `model` of its first chunk: those of all that follow."""


class Request(NamedTuple):
    """What one candidate is asked: a chat completion in OpenAI's shape.

    `body` is the caller's own body with the routing fields (`model`, `orchestrator`, `models`, `provider`, `stream`,
    `stream_options`) taken out; all else, known or not, is passed on untouched. The dialect adds the model's name and
    the streaming fields back. `input_tokens` is an estimate for rate limits, made once per request.
    """

    body: Json
    stream: bool = False
    input_tokens: int = 0
    priority: int = 0
    """0 is interactive; larger waits longer (batch)."""
    resume: Sent | None = None
    """Go on from here: what is streamed is only what comes after this text."""
    operation: Literal["chat", "embeddings"] = "chat"
    """What is asked for; `body` is OpenAI's shape of it."""
    needs: tuple[str, ...] = ()
    """What a model has to be able to do for it, by the names of its options: `tools`, `images`, `json_schema`."""
    max_wait_s: float | None = None
    """How long it may wait for a place in a pool; where it would be longer, it is refused at once (`busy`). None: for as long
    as the pool lets it."""
    waits: bool = True
    """Whether it waits for a model that has to be started first: not where another is asked next."""


class Usage(NamedTuple):
    """Tokens of one answer as its provider reported them; `cost_usd` only if the provider itself names a price.

    `input_tokens` include what was read from and written to a cache, `output_tokens` include thoughts.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    """Of the input: read from a cache."""
    reasoning_tokens: int = 0
    """Of the output: thoughts."""
    cost_usd: float | None = None
    cache_write_tokens: int = 0
    """Of the input: written to a cache."""
    cache_write_1h_tokens: int = 0
    """Of those: kept for an hour, which Anthropic bills otherwise than five minutes."""


class Traits(NamedTuple):
    """What a kind of failure says about what to do next."""

    retry_same: bool
    """May the same candidate be asked again?"""
    try_other: bool
    """May another candidate be asked?"""
    hurts_health: bool
    """Does it count against the breaker of this model (or account)?"""
    account_wide: bool = False
    """Does it speak of the whole account or address, not only of this model?"""


class FailureKind(Enum):
    """Why a call did not give an answer. The value is the public name (`code` in errors, `outcome` in attempts)."""

    MALFORMED = "invalid_request"
    CONTEXT_LENGTH = "context_length_exceeded"
    CONTENT_POLICY = "content_policy_violation"
    UNSUPPORTED = "unsupported"
    NOT_FOUND = "model_not_found"
    TOO_LARGE = "request_too_large"
    UNAUTHORIZED = "provider_unauthorized"
    QUOTA = "insufficient_quota"
    RATE_LIMITED = "rate_limit_exceeded"
    SERVER_ERROR = "server_error"
    BAD_ANSWER = "bad_answer"
    UNREACHABLE = "unreachable"
    RESET = "connection_reset"
    SILENT = "timeout"
    CUT = "stream_cut"
    STALLED = "stream_stalled"
    BAD_EVENT = "bad_event"
    NO_RESUME = "resume_failed"
    DEADLINE = "deadline_exceeded"
    QUEUE_FULL = "queue_full"
    QUEUE_TIMEOUT = "queue_timeout"
    BUSY = "busy"
    BREAKER_OPEN = "breaker_open"
    PAUSED = "paused"
    OVER_BUDGET = "retry_budget_exhausted"
    STARTING = "model_starting"
    DOWN = "model_down"
    POOL_LOST = "pool_lost"
    DRAINING = "draining"
    CANCELLED = "cancelled"
    INTERNAL = "internal_error"
    ALL_FAILED = "all_candidates_failed"
    NO_CONSENSUS = "no_consensus"

    @property
    def traits(self) -> Traits:
        """What this kind allows and costs; the table below is the one place that says so."""
        return _TRAITS[self]


_TRAITS: dict[FailureKind, Traits] = {
    FailureKind.MALFORMED: Traits(False, False, False),
    FailureKind.CONTEXT_LENGTH: Traits(False, True, False),
    FailureKind.CONTENT_POLICY: Traits(False, False, False),
    # This candidate's interface has no place for what is asked; another's may.
    FailureKind.UNSUPPORTED: Traits(False, True, False),
    FailureKind.NOT_FOUND: Traits(False, True, False),
    FailureKind.TOO_LARGE: Traits(False, True, False),
    FailureKind.UNAUTHORIZED: Traits(False, True, True, account_wide=True),
    FailureKind.QUOTA: Traits(False, True, True, account_wide=True),
    # A rate limit pauses the model until it may be asked again; it says nothing about its health.
    FailureKind.RATE_LIMITED: Traits(True, True, False),
    FailureKind.SERVER_ERROR: Traits(True, True, True),
    FailureKind.BAD_ANSWER: Traits(False, True, True),
    FailureKind.UNREACHABLE: Traits(True, True, True, account_wide=True),
    FailureKind.RESET: Traits(True, True, True),
    FailureKind.SILENT: Traits(False, True, True),
    FailureKind.CUT: Traits(False, True, True),
    FailureKind.STALLED: Traits(False, True, True),
    FailureKind.BAD_EVENT: Traits(False, True, True),
    # Another answer than the one that was begun is no fault.
    FailureKind.NO_RESUME: Traits(False, True, False),
    FailureKind.DEADLINE: Traits(False, False, False),
    FailureKind.QUEUE_FULL: Traits(False, True, False),
    FailureKind.QUEUE_TIMEOUT: Traits(False, True, False),
    # It would wait for longer than the request may.
    FailureKind.BUSY: Traits(False, True, False),
    FailureKind.BREAKER_OPEN: Traits(False, True, False),
    FailureKind.PAUSED: Traits(False, True, False),
    FailureKind.OVER_BUDGET: Traits(False, True, False),
    # A local model that is being started, and one that does not come up.
    FailureKind.STARTING: Traits(False, True, False),
    FailureKind.DOWN: Traits(False, True, False),
    # The pool's actor died: its restart may be asked again, and it says nothing about the provider.
    FailureKind.POOL_LOST: Traits(True, True, False),
    FailureKind.DRAINING: Traits(False, True, False),
    FailureKind.CANCELLED: Traits(False, False, False),
    FailureKind.INTERNAL: Traits(False, True, False),
    FailureKind.ALL_FAILED: Traits(False, True, False),
    # Each model has answered, and too few alike.
    FailureKind.NO_CONSENSUS: Traits(False, True, False),
}

_LASTING = frozenset(
    {FailureKind.MALFORMED, FailureKind.CONTEXT_LENGTH, FailureKind.CONTENT_POLICY, FailureKind.UNSUPPORTED}
    | {FailureKind.NOT_FOUND, FailureKind.TOO_LARGE, FailureKind.UNAUTHORIZED, FailureKind.QUOTA}
    | {FailureKind.CANCELLED, FailureKind.INTERNAL, FailureKind.ALL_FAILED}
)
"""What waiting does not mend: the request's own faults, accounts, mistakes of ours; what the caller did itself."""


class Try(NamedTuple):
    """One request that really went (or was about to go) upstream. A call that is retried has several."""

    outcome: str
    """`ok`, or the value of the `FailureKind`."""
    start_s: float
    """Since the start of the call."""
    latency_s: float
    """From the start of the try to its end; the time in the queue is not in it."""
    status: int | None = None
    """HTTP status, where there was one."""
    first_token_s: float | None = None
    """From the start of the try to the first token; streams only."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a call gave no answer. Never raised; see `orchestrator.errors` for what users catch."""

    kind: FailureKind
    message: str
    """For people; says what failed and where, holds no key and no stack trace."""
    status: int | None = None
    """The upstream's HTTP status, where there was one."""
    code: str | None = None
    """The provider's own error code, where there was one."""
    param: str | None = None
    retry_after_s: float | None = None
    """How long the provider (or our own queue) asks to wait."""
    body: Json | None = None
    """The provider's own error object, passed on where the caller made the mistake."""
    tries: tuple[Try, ...] = ()
    usage: Usage | None = None
    """What was used before it failed, where known."""
    causes: tuple[tuple[str, Failure], ...] = ()
    """For ALL_FAILED: each candidate ('provider/model') and its last failure, in the order they were asked."""

    @property
    def passes(self) -> bool:
        """Whether the same request may work later: what failed lies neither in it nor in an account. Of several causes, one
        is enough, since one answer is."""
        if self.causes:
            return any(cause.passes for _, cause in self.causes)
        return self.kind not in _LASTING

    def with_tries(self, tries: tuple[Try, ...]) -> Failure:
        """The same failure with the tries that led to it."""
        return replace(self, tries=tries)


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer: a chat completion in OpenAI's shape (`body`), as the provider gave it."""

    body: Json
    model: str
    """The model's name as the provider reports it."""
    usage: Usage | None = None
    tries: tuple[Try, ...] = ()


@dataclass(frozen=True, slots=True)
class Opened:
    """The first token of a stream has come. What follows is read from the stream itself, not from here."""

    model: str
    first_token_s: float
    """Since the start of the call."""


Outcome = Reply | Failure


class Chunk(NamedTuple):
    """A piece of a streamed answer: one OpenAI chat-completion chunk as JSON bytes, without the SSE framing."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Finish:
    """The clean end of a stream: the only one. An end without it is a cut.

    `last` is the chunk that carries `finish_reason` (held back until the usage was known), parsed, so that the
    answer object can ride on it. `usage_body` is the usage object as the provider sent it, unknown fields included.
    """

    last: Json
    model: str
    usage: Usage | None = None
    usage_body: Json | None = None
    tries: tuple[Try, ...] = ()


Piece = Chunk | Finish | Failure
"""What a stream yields: any number of chunks, then exactly one Finish or Failure."""
