"""What a call costs by a price, and what it may cost at the most.

A whole answer takes about a microsecond. Nothing here rounds: `orchestrator.money.on_grid` does, once, where a cost is said.
"""

from __future__ import annotations

from typing import Any

import orjson

from orchestrator.pricing.price import Price, Tier
from orchestrator.types import Json, Request, Usage

MTOK = 1_000_000
IMAGE_TOKENS = 5_000
"""The most that one image counts for, where its model's price does not say. The largest that is documented: 4,784 (Claude
since 4.7, platform.claude.com/docs/en/build-with-claude/vision), 3,779 (GPT-5 mini) and 1,445 (GPT-4o,
developers.openai.com/api/docs/guides/images-vision)."""
AROUND_TOKENS = 100
"""What a provider's template puts around all messages. (Around each one, the body's JSON has more characters than any
template has tokens.)"""
TOOLS_TOKENS = 1_000
"""What a provider adds where there are tools: 313 to 804 tokens with Claude
(platform.claude.com/docs/en/agents-and-tools/tool-use/overview)."""


def _rates(price: Price, input_tokens: int) -> Price | Tier:
    """Whatever has the rates that hold for an input of this length."""
    found: Price | Tier = price
    for tier in price.tiers:
        if input_tokens > tier.above_input_tokens:
            found = tier
    return found


def cost_of(price: Price, usage: Usage) -> float:
    """What a call that used this costs, in US dollars, whatever its provider says that it does (`Usage.cost_usd`).

    Tokens of a part without a price of its own are billed as plain input or output (`is_certain`).
    """
    rates = _rates(price, usage.input_tokens) if price.tiers else price
    plain, output = usage.input_tokens, usage.output_tokens
    cost = 0.0 if price.request_usd is None else price.request_usd * MTOK
    if usage.cached_tokens and (rate := rates.cached_input_per_mtok_usd) is not None:
        cached = min(usage.cached_tokens, plain)
        cost += cached * rate
        plain -= cached
    if usage.cache_write_tokens and (rate := rates.cache_write_per_mtok_usd) is not None:
        written = min(usage.cache_write_tokens, plain)
        plain -= written
        if usage.cache_write_1h_tokens and (longer := rates.cache_write_1h_per_mtok_usd) is not None:
            hour = min(usage.cache_write_1h_tokens, written)
            cost += hour * longer
            written -= hour
        cost += written * rate
    if usage.reasoning_tokens and (rate := price.reasoning_per_mtok_usd) is not None:
        thoughts = min(usage.reasoning_tokens, output)
        cost += thoughts * rate
        output -= thoughts
    return (cost + plain * rates.input_per_mtok_usd + output * rates.output_per_mtok_usd) / MTOK


def is_certain(price: Price, usage: Usage) -> bool:
    """Whether that is what it cost: the price is one, and what was read from a cache or written to one has its own."""
    if price.varies:
        return False
    if not usage.cached_tokens and not usage.cache_write_tokens:
        return True
    rates = _rates(price, usage.input_tokens)
    return not (
        (usage.cached_tokens and rates.cached_input_per_mtok_usd is None)
        or (usage.cache_write_tokens and rates.cache_write_per_mtok_usd is None)
        or (usage.cache_write_1h_tokens and rates.cache_write_1h_per_mtok_usd is None)
    )


def worst_case_usd(price: Price, request: Request, *, max_tokens: int, more_input: int = 0) -> float:
    """The most that one call may cost, in US dollars, if it writes no more than `max_tokens` for each of its choices (`n`).
    `more_input`: tokens that its input may have beyond what the request says: answers of others.

    A token has at least one byte of UTF-8, and the JSON of the request holds all of its text: so its length bounds the input.
    An image counts for what its price says, or for `IMAGE_TOKENS`. The rates are the highest of those that may apply: of
    writing to a cache, too, and of every tier that such an input may reach.
    """
    tokens, images, an_hour = _most_input(request, price)
    tokens += more_input
    choices = request.body.get("n")
    n = choices if isinstance(choices, int) and choices > 1 else 1
    input_rate = _dearest_input(price, an_hour=an_hour)
    output_rate = max(price.reasoning_per_mtok_usd or 0.0, price.output_per_mtok_usd)
    for tier in price.tiers:
        if tier.above_input_tokens < tokens:
            input_rate = max(input_rate, _dearest_input(tier, an_hour=an_hour))
            output_rate = max(output_rate, tier.output_per_mtok_usd)
    usd = (tokens * input_rate + n * max_tokens * output_rate) / MTOK
    return usd + images * (price.image_usd or 0.0) + (price.request_usd or 0.0)


def _dearest_input(rates: Price | Tier, *, an_hour: bool) -> float:
    written = rates.cache_write_1h_per_mtok_usd if an_hour else None
    return max(
        rates.input_per_mtok_usd,
        rates.cached_input_per_mtok_usd or 0.0,
        rates.cache_write_per_mtok_usd or 0.0,
        written or 0.0,
    )


def _most_input(request: Request, price: Price) -> tuple[int, int, bool]:
    """How many tokens the input may have at the most; how many images are in it; whether it may be cached for an hour."""
    each = IMAGE_TOKENS if price.image_tokens is None else price.image_tokens
    body, extension = request.body, request.body.get("anthropic")
    again, own_images, own_tokens = b"", 0, 0
    if isinstance(extension, dict) and "messages" in extension:
        # The messages in Anthropic's own words: a model gets either.
        body = {name: value for name, value in body.items() if name != "anthropic"}
        again = orjson.dumps([extension, _beside(body, extension)])
        own_images, inline = _own_images(extension["messages"])
        own_tokens = len(again) + own_images * each - inline
    content = orjson.dumps(body)
    tokens, images = len(content), 0
    if "images" in request.needs:
        addresses = [*_images(request.body)]
        images = len(addresses)
        inline = sum(len(address.partition(",")[2]) for address in addresses if address.startswith("data:"))
        tokens += images * each - inline
    tokens = max(tokens, own_tokens) + AROUND_TOKENS
    if "tools" in request.needs:
        tokens += TOOLS_TOKENS
    return tokens, max(images, own_images), b'"1h"' in content or b'"1h"' in again


def _beside(body: Json, extension: Json) -> list[Any]:
    """What a model of Anthropic's gets of a chat's body beside such an extension, which replaces what it says itself."""
    replaced = {"messages", *extension} | ({"response_format"} if "output_config" in extension else set())
    beside: list[Any] = [{name: value for name, value in body.items() if name not in replaced}]
    if "system" not in extension:
        messages = body.get("messages") or ()
        beside += (one for one in messages if isinstance(one, dict) and one.get("role") in ("system", "developer"))
    return beside


def _own_images(said: Any) -> tuple[int, int]:
    """How many images are in messages of Anthropic's shape, results of tools included, and how long their data are."""
    if isinstance(said, list):
        found = [_own_images(one) for one in said]
        return sum(count for count, _ in found), sum(length for _, length in found)
    if not isinstance(said, dict):
        return 0, 0
    if said.get("type") == "image":
        source = said.get("source")
        data = source.get("data") if isinstance(source, dict) else None
        return 1, len(data) if isinstance(data, str) else 0
    return _own_images(said.get("content"))


def _images(body: Json) -> list[str]:
    """The address of each image in a chat's messages: the picture itself, where it begins with `data:`."""
    found: list[str] = []
    for message in body.get("messages") or ():
        content = message.get("content")
        for part in content if isinstance(content, list) else ():
            if isinstance(part, dict) and part.get("type") in ("image_url", "image"):
                image: Any = part.get("image_url")
                address = image.get("url") if isinstance(image, dict) else image
                found.append(address if isinstance(address, str) else "")
    return found
