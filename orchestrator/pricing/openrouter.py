"""OpenRouter's public list of models and prices: GET /api/v1/models, which needs no key.

Its shape (openrouter.ai/docs/api-reference/list-available-models, 2026-11-25): `data[].id` and `data[].pricing`, with US
dollars a token, an image or a call as decimal strings. `prompt` and `completion` of -1 are a router's, whose price is not
known before it has chosen. `overrides` are the rates of longer inputs, from `min_prompt_tokens` on, or of hours of the day,
of which the highest is taken. A part that is absent is not known to be billed apart; and so is `internal_reasoning` or a
cache's price of 0 where tokens are not free, since thoughts are billed as output and cached tokens are nowhere free.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

from orchestrator.errors import OrchestratorError
from orchestrator.pricing.cost import MTOK
from orchestrator.pricing.price import Price, Tier
from orchestrator.pricing.rows import usd
from orchestrator.types import Json

URL = "https://openrouter.ai/api/v1/models"
URL_VARIABLE = "ORCHESTRATOR_PRICES_URL"
"""The environment variable that says another address: a mirror, or a test's server."""
MOST_BYTES = 32 * 1024 * 1024
"""The list has about 1 MB."""
MOST_MODELS = 20_000
MOST_S = 30.0
"""For all of it."""
_RATES = ("prompt", "completion", "input_cache_read", "input_cache_write")


class NotFetched(OrchestratorError):
    """Prices could not be fetched; says why in one line."""

    retryable = True


def url() -> str:
    """Where the list is asked for."""
    return os.environ.get(URL_VARIABLE) or URL


def fetch(address: str, clock: Callable[[], float] = time.monotonic) -> Mapping[str, Price]:
    """OpenRouter's prices by its names of models. Blocks for `MOST_S` at the most. Raises NotFetched."""
    return read(_get(address, clock), f"{datetime.now(UTC):%Y-%m-%d}", address)


def _get(address: str, clock: Callable[[], float]) -> bytes:
    import httpx  # only where there is something to be fetched

    until_s = clock() + MOST_S
    content = bytearray()
    try:
        with httpx.stream("GET", address, timeout=httpx.Timeout(10.0), follow_redirects=True) as answer:
            if answer.status_code != 200:
                raise NotFetched(f"{address} answered with HTTP {answer.status_code}")
            for part in answer.iter_bytes():
                content += part
                if len(content) > MOST_BYTES:
                    raise NotFetched(f"the answer of {address} has more than {MOST_BYTES // 2**20} MB")
                if clock() > until_s:
                    raise NotFetched(f"the answer of {address} took more than {MOST_S:g} s")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise NotFetched(f"{address} cannot be reached: {str(error) or type(error).__name__}") from None
    return bytes(content)


def read(content: bytes, date: str, source: str = URL) -> Mapping[str, Price]:
    """The prices in an answer. Models without a usable price are left out. Raises NotFetched for what is no such list."""
    try:
        data = orjson.loads(content)["data"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        data = None
    if not isinstance(data, list) or not 0 < len(data) <= MOST_MODELS:
        raise NotFetched(f"the answer of {source} is no list of models")
    found: dict[str, Price] = {}
    for model in data:
        name = model.get("id") if isinstance(model, dict) else None
        pricing = model.get("pricing") if isinstance(model, dict) else None
        if isinstance(name, str) and 0 < len(name) <= 200 and isinstance(pricing, dict):
            price = _price(pricing, source, date)
            if price is not None:
                found[name] = price
    if not found:
        raise NotFetched(f"no model in the answer of {source} has a price")
    return found


def _price(pricing: Json, source: str, date: str) -> Price | None:
    output, given = _part(pricing, "completion"), pricing.get("overrides")
    if _part(pricing, "prompt") is None or output is None:
        return None
    overrides = [one for one in given if isinstance(one, dict)] if isinstance(given, list) else []
    by_time = [one for one in overrides if "min_prompt_tokens" not in one]
    if by_time:
        dearest = (max(filter(None, (_part(one, name) for one in (pricing, *by_time))), default=0.0) for name in _RATES)
        pricing = {**pricing, **dict(zip(_RATES, dearest, strict=True))}
    rates = _rates(pricing)
    thoughts, image, request = (_part(pricing, name) for name in ("internal_reasoning", "image", "request"))
    return Price(
        **rates,
        # Thoughts that cost what output does are output: also where an hour or a long input makes that dearer.
        reasoning_per_mtok_usd=_mtok(thoughts) if thoughts and thoughts != output else None,
        image_usd=image or None,
        request_usd=request or None,
        tiers=_tiers(overrides, pricing),
        varies=bool(by_time),
        source=source,
        date=date,
    )


def _tiers(overrides: list[Json], pricing: Json) -> tuple[Tier, ...]:
    tiers = []
    for given in overrides:
        least = given.get("min_prompt_tokens")
        # What a tier does not name stays as it is.
        whole = {**pricing, **given}
        known = _part(whole, "prompt") is not None and _part(whole, "completion") is not None
        if isinstance(least, int) and least > 0 and known:
            tiers.append(Tier(above_input_tokens=least - 1, **_rates(whole)))
    return tuple(sorted(tiers, key=lambda tier: tier.above_input_tokens))


def _rates(pricing: Json) -> dict[str, Any]:
    prompt, completion, cached, written = (_part(pricing, name) for name in _RATES)
    return {
        "input_per_mtok_usd": _mtok(prompt or 0.0),
        "output_per_mtok_usd": _mtok(completion or 0.0),
        "cached_input_per_mtok_usd": _mtok(cached) if cached is not None and (cached or not prompt) else None,
        "cache_write_per_mtok_usd": _mtok(written) if written is not None and (written or not prompt) else None,
    }


def _part(pricing: Json, name: str) -> float | None:
    """A part in US dollars; None where it is absent, negative, or no number."""
    value = pricing.get(name)
    try:
        return usd(float(value) if isinstance(value, str) else value)
    except (TypeError, ValueError):
        return None


def _mtok(usd_a_token: float) -> float:
    # What is written as 0.00000015 is 0.15, and not 0.15000000000000002.
    return round(usd_a_token * MTOK, 9)
