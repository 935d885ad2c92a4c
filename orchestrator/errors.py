"""The exceptions that users can catch, as one tree. All of them pickle.

OrchestratorError
├── ConfigError          a configuration that cannot be used; `.problems` has one line each
├── UnknownSelector      a model, tier or experiment that does not exist; `.near` has similar names
├── NotAllowed           an experiment of another user than the one who asks
└── CallFailed           a request that got no answer; `.failure` says why, `.retryable` whether trying again helps
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.types import Failure


class OrchestratorError(Exception):
    """The root of everything this project raises on purpose."""

    retryable: bool = False
    """Whether the same call may succeed later."""


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
        return f"unknown model {self.selector!r}{why}{hint}"


class NotAllowed(OrchestratorError):
    """A selector that is not for the user who asks."""

    def __init__(self, selector: str, user: str) -> None:
        super().__init__(selector, user)
        self.selector = selector
        self.user = user

    def __str__(self) -> str:
        return f"{self.selector!r} may not be used by the user {self.user!r}"


class BadChoice(OrchestratorError):
    """A request's own choice of strategy or models that cannot be followed. `param` names the field."""

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
        self.retryable = failure.kind.traits.retry_same

    def __str__(self) -> str:
        return f"{self.failure.kind.value}: {self.failure.message}"
