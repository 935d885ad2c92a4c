"""Whose prices hold for whom, as data: a provider has the price list of the company that runs its address, or none.

The address decides, not the name or the preset: the same model costs something else from another host, and what an unknown
address charges is not known. So Groq's Llama has Groq's price and never another host's, an OpenAI-compatible server in the
cellar has none, and neither have Azure's deployments, whose names say nothing; `pricing.overrides` give them one. A wrong
price is worse than none.

OpenRouter's list holds for OpenRouter. It also holds for the companies whose models nobody resells for another price than
their own (`resold`): OpenRouter passes their prices on (openrouter.ai/docs/faq, 2026-11-25). Models with open weights are
left out of that: their price there is that of whichever host is first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from urllib.parse import urlsplit


def _as_it_is(model: str) -> str:
    return model


def _openai(model: str) -> str:
    """A fine-tuned model is priced by what it was made of: `ft:gpt-4o-mini-2024-07-18:acme::id`."""
    return ":".join(model.split(":")[:2]) if model.startswith("ft:") else model


def _anthropic(model: str) -> str:
    """One name for what Anthropic calls `claude-sonnet-4-5-20250929`, `claude-sonnet-4-5` or (before 4.5) `claude-sonnet-4-0`
    and `claude-3-5-haiku-latest`, and OpenRouter `claude-sonnet-4.5`: a dated snapshot costs what its model does
    (platform.claude.com/docs/en/about-claude/models/overview)."""
    name = model.replace(".", "-").removesuffix("-latest")
    if name[-9:-8] == "-" and name[-8:].isdecimal():
        name = name[:-9]
    return name[:-2] if name.endswith("-4-0") else name


def _gemini(model: str) -> str:
    """Its own list says `models/gemini-2.5-pro`."""
    return model.removeprefix("models/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Seller:
    """A company that charges for calls."""

    hosts: frozenset[str]
    """Of the addresses where it charges these prices."""
    name_of: Callable[[str], str] = _as_it_is
    """The name that a model has in its price list, by any that it is asked for by."""
    resold: str = ""
    """What the names of its models begin with in OpenRouter's list; empty: the prices there are not its own."""
    not_resold: str = ""
    """Those of them (the beginning of their names) that others host, too."""


SELLERS: Mapping[str, Seller] = MappingProxyType(
    {
        # Other hosts of OpenAI's (eu.api.openai.com) charge more.
        "openai": Seller(
            hosts=frozenset({"api.openai.com"}), name_of=_openai, resold="openai/", not_resold="openai/gpt-oss"
        ),
        "anthropic": Seller(hosts=frozenset({"api.anthropic.com"}), name_of=_anthropic, resold="anthropic/"),
        "gemini": Seller(
            hosts=frozenset({"generativelanguage.googleapis.com"}), name_of=_gemini, resold="google/gemini-"
        ),
        "openrouter": Seller(hosts=frozenset({"openrouter.ai"})),
        "groq": Seller(hosts=frozenset({"api.groq.com"})),
        "mistral": Seller(hosts=frozenset({"api.mistral.ai"})),
        "deepseek": Seller(hosts=frozenset({"api.deepseek.com"})),
        "together": Seller(hosts=frozenset({"api.together.ai", "api.together.xyz"})),
        # Each region has its own prices; the table has those of this one. Names say where a model may run, which counts:
        # `us.anthropic.claude-sonnet-4-5-20250929-v1:0` costs a tenth more than `global.…`.
        "bedrock": Seller(
            hosts=frozenset({"bedrock-mantle.us-east-1.api.aws", "bedrock-runtime.us-east-1.amazonaws.com"})
        ),
    }
)
"""By the names of their presets (`orchestrator.providers`) and of their rows in the table."""


def seller_at(base_url: str) -> str | None:
    """Who charges for calls at an address; None: nobody of whom a price is known."""
    host = urlsplit(base_url).hostname
    return next((name for name, seller in SELLERS.items() if host in seller.hosts), None)


def resellable(model: str) -> tuple[str, str] | None:
    """Whose model it is by OpenRouter's name for it, and what it is called in that price list; None: its price there holds
    for OpenRouter alone. Variants (`:free`, `:extended`, `:thinking`) are OpenRouter's own."""
    if ":" in model:
        return None
    for name, seller in SELLERS.items():
        if seller.resold and model.startswith(seller.resold):
            if seller.not_resold and model.startswith(seller.not_resold):
                return None
            return name, seller.name_of(model.partition("/")[2])
    return None
