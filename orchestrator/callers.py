"""Who asks: what a caller's key says of whoever bears it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Caller:
    """One key of the endpoint, without the key. Where no keys are configured there are no callers (`Ask.caller` is None)."""

    name: str
    """Of the key: what its limits, its budget and its spend go by."""
    user: str | None = None
    """Whose key it is: whose experiments it may use, and who its requests are counted for, whatever they say themselves."""
    models: tuple[str, ...] = ("*",)
    """Selectors that it may use; a `*` at the beginning or the end stands for anything."""
    admin: bool = False
    budget_usd: float | None = None
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None

    def may_use(self, selector: str) -> bool:
        """Whether one of its patterns fits a selector."""
        return any(_fits(pattern, selector) for pattern in self.models)

    def may_use_experiments_of(self, user: str) -> bool:
        """Whether a user's experiments are this caller's: by whose key it is, never by what a request says."""
        return self.admin or self.user == user


def _fits(pattern: str, selector: str) -> bool:
    if pattern.endswith("*"):
        return selector.startswith(pattern[:-1])
    return selector.endswith(pattern[1:]) if pattern.startswith("*") else selector == pattern
