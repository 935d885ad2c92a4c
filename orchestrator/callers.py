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
    """Selectors that it may use; a `*` stands for anything."""
    admin: bool = False
    budget_usd: float | None = None
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
