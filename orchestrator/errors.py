"""The exceptions that users can catch, as one tree. All of them pickle.

OrchestratorError
├── ConfigError          a configuration that cannot be used; `.problems` has one line each
├── UnknownSelector      a model, tier or experiment that does not exist; `.near` has similar names
├── NotAllowed           an experiment of another user than the one who asks
├── Denied               a limit or a budget of the caller's is used up; `.code` says which, `.retry_after_s` for how long
├── BadChoice            an argument, or a request's own choice, that cannot be followed; `.param` names it
├── CallFailed           a request that got no answer; `.failure` says why, `.retryable` whether trying again helps
├── InvalidObject        an answer that is not the object that was asked for; `.text` has it, `.errors` what is wrong
├── NoApplication        there is no running application to connect to
├── LedgerFailed         the ledger's database cannot be read or written
└── ToolError            raised by functions that models call: the model is told
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.types import Failure


class OrchestratorError(Exception):
    """The root of everything this project raises on purpose."""

    # A property, so that it holds for what Ray makes of an error on its way: a subclass that has the attributes of the
    # instance that was raised, but those of its class first.
    @property
    def retryable(self) -> bool:
        """Whether the same call may succeed later."""
        return False


class ConfigError(OrchestratorError):
    """A configuration that cannot be used. `problems` has one line each: `file:line: key: what is wrong`."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(self.problems)


class UnknownSelector(OrchestratorError):
    """A selector that names nothing. `near` holds existing names that are spelled similarly, `reason` why it is gone."""

    def __init__(self, selector: str, near: tuple[str, ...] = (), reason: str = "") -> None:
        super().__init__(selector, near, reason)
        self.selector = selector
        self.near = near
        self.reason = reason

    def __str__(self) -> str:
        why = f" (left out: {self.reason})" if self.reason else ""
        hint = f"; did you mean {', '.join(self.near)}?" if self.near else ""
        if not hint and not why and "/" not in self.selector and ":" not in self.selector:
            hint = "; 'aliases' in the configuration give bare names a meaning"
        return f"unknown model {self.selector!r}{why}{hint}"


class NotAllowed(OrchestratorError):
    """A selector that is not for the user who asks."""

    def __init__(self, selector: str, user: str) -> None:
        super().__init__(selector, user)
        self.selector = selector
        self.user = user

    def __str__(self) -> str:
        return f"{self.selector!r} may not be used by the user {self.user!r}"


class Denied(OrchestratorError):
    """A request that may not be begun now: a limit or a budget of the caller's is used up, or cannot be looked at.

    `status` is the HTTP status (403 a budget, 429 a limit, 503 nobody knows), `code` the error's code, `retry_after_s` how
    long to wait, where that helps.
    """

    def __init__(self, status: int, code: str, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(status, code, message, retry_after_s)
        self.status = status
        self.code = code
        self.message = message
        self.retry_after_s = retry_after_s

    @property
    def retryable(self) -> bool:
        """See `OrchestratorError.retryable`."""
        return self.status != 403

    def __str__(self) -> str:
        return self.message


class BadChoice(OrchestratorError):
    """An argument that makes no sense, or a request's own choice of strategy or models that cannot be followed.
    `param` names it."""

    def __init__(self, param: str, message: str) -> None:
        super().__init__(param, message)
        self.param = param
        self.message = message

    def __str__(self) -> str:
        return f"{self.param}: {self.message}"


class CallFailed(OrchestratorError):
    """A request that got no answer."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.failure = failure

    @property
    def retryable(self) -> bool:
        """See `OrchestratorError.retryable`."""
        return self.failure.passes

    def __str__(self) -> str:
        return f"{self.failure.kind.value}: {self.failure.message}"


class InvalidObject(OrchestratorError):
    """An answer that is not an instance of the schema, after the model was told and asked again. `text` is the answer, and
    `errors` has one line for each thing that is wrong with it. Another answer may well be right."""

    def __init__(self, text: str, errors: tuple[str, ...]) -> None:
        super().__init__(text, errors)
        self.text = text
        self.errors = errors

    @property
    def retryable(self) -> bool:
        """See `OrchestratorError.retryable`."""
        return True

    def __str__(self) -> str:
        return "the answer does not fit the schema: " + "; ".join(self.errors)


class NoApplication(OrchestratorError):
    """There is no running application to connect to; the message says what was looked for, and where."""

    @property
    def retryable(self) -> bool:
        """See `OrchestratorError.retryable`: it may be starting."""
        return True


class LedgerFailed(OrchestratorError):
    """The ledger's database cannot be read or written; the message says why, and never holds its password. `passes`: whether
    that may be over later, as a lock or a full disk may."""

    def __init__(self, message: str, passes: bool = True) -> None:
        super().__init__(message, passes)
        self.message = message
        self.passes = passes

    @property
    def retryable(self) -> bool:
        """See `OrchestratorError.retryable`."""
        return self.passes

    def __str__(self) -> str:
        return self.message


class ToolError(OrchestratorError):
    """For functions that are given to models as tools: raised by one, its message is told to the model, which may make up
    for it. Whatever else a function raises reaches the caller."""
