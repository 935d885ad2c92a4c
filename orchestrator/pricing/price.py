"""What a model costs. A model without a `Price` has no known price, which is never the same as a price of 0."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """Other rates for longer inputs: all of a call's tokens are billed by them, its output too. Each part means what it does
    in `Price`.

    Sources: ai.google.dev/gemini-api/docs/pricing, platform.claude.com/docs/en/about-claude/pricing#long-context-pricing,
    developers.openai.com/api/docs/pricing.
    """

    above_input_tokens: int
    input_per_mtok_usd: float
    output_per_mtok_usd: float
    cached_input_per_mtok_usd: float | None = None
    cache_write_per_mtok_usd: float | None = None
    cache_write_1h_per_mtok_usd: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """US dollars per million tokens, and what is billed beside tokens.

    A part that is None is not known to have a price of its own: the tokens that it would be for are billed as the plain input
    (or output) that they are counted in, and the cost is then an estimate (`orchestrator.pricing.cost.is_certain`).
    """

    input_per_mtok_usd: float
    output_per_mtok_usd: float
    cached_input_per_mtok_usd: float | None = None
    """Input that was read from a cache."""
    cache_write_per_mtok_usd: float | None = None
    """Input that was written to a cache, for five minutes where that can be chosen."""
    cache_write_1h_per_mtok_usd: float | None = None
    """The same, for an hour."""
    reasoning_per_mtok_usd: float | None = None
    """Thoughts; None: billed as output, which is how it is done everywhere unless said otherwise."""
    image_usd: float | None = None
    """An image in the input, beside its tokens; None: its tokens are all that is billed."""
    image_tokens: int | None = None
    """The most tokens that an image in the input counts for; None: not known (`orchestrator.pricing.cost.IMAGE_TOKENS`)."""
    request_usd: float | None = None
    """A call by itself; None: nothing."""
    tiers: tuple[Tier, ...] = ()
    """By `above_input_tokens`, the lowest first."""
    varies: bool = False
    """Whether it is the highest of several, such as those of the hours of a day: costs by it are estimates."""
    source: str = ""
    """Where it stands: an address, with what was in between if it is second hand; or `overrides`."""
    date: str = ""
    """The day it was read there (ISO 8601); empty: not known."""
