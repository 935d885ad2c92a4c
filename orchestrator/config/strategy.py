"""A strategy from its keys: those of a tier, or those that a request brings along."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from orchestrator.config.settings import Strategy
from orchestrator.config.votes import Wrong, read_votes
from orchestrator.resilience.latency import SHARES

STRATEGIES = ("balance", "cascade", "consensus", "fallback", "first", "hedge", "race", "spill", "split")
MAX_TTL_S = 31_536_000.0
"""A year: as for `cache:` itself."""
_SHARES = {f"p{share * 100:.0f}": share for share in SHARES}
RESERVED = frozenset({"model", "messages", "stream", "stream_options", "orchestrator", "models", "provider"})
"""What a request says for itself."""


def make_strategy(body: Mapping[str, Any]) -> Strategy | Wrong:
    """The strategy, or the first key that is wrong. Unknown keys are the caller's to refuse."""
    name = body.get("strategy", "fallback")
    if name not in STRATEGIES:
        return Wrong("strategy", f"has to be one of {', '.join(STRATEGIES)}")
    commit = body.get("commit", "first_token")
    if commit not in ("first_token", "complete"):
        return Wrong("commit", "has to be first_token or complete")
    after = body.get("after")
    share: float | None = None
    if isinstance(after, str) and after.startswith("p"):
        share = _SHARES.get(after)
        if share is None:
            return Wrong("after", f"has to be seconds, or one of {', '.join(_SHARES)}")
        after = None
    elif name == "hedge" and after is None:
        return Wrong("after", "is missing: seconds, or a percentile such as p95, after which the next is asked")
    if after is not None and not (_is_number(after) and 0 < after < 3600):
        return Wrong("after", "has to be seconds, above 0 and below 3600")
    extra = body.get("extra_calls", 0.05)
    if not (_is_number(extra) and 0 <= extra <= 1):
        return Wrong("extra_calls", "has to be a share between 0 and 1")
    by = body.get("by", "latency")
    if by not in ("latency", "cost", "in_flight", "weight"):
        return Wrong("by", "has to be latency, cost, in_flight or weight")
    explore = body.get("explore", 0.05)
    if not (_is_number(explore) and 0 <= explore <= 1):
        return Wrong("explore", "has to be a share between 0 and 1")
    weights = body.get("weights", {})
    if not isinstance(weights, dict) or not all(_is_number(w) and w >= 0 for w in weights.values()):
        return Wrong("weights", "has to be a mapping of members to numbers of at least 0")
    max_wait_s = body.get("max_wait_s", 2.0)
    if not (_is_number(max_wait_s) and 0 <= max_wait_s <= 3600):
        return Wrong("max_wait_s", "has to be seconds, from 0 to 3,600")
    shared = _of_all(body)
    if isinstance(shared, Wrong):
        return shared
    votes = read_votes(name, body)
    if isinstance(votes, Wrong):
        return votes
    after_s = None if after is None else float(after)
    return Strategy(
        name, commit, after_s, share, float(extra), by, float(explore), weights, float(max_wait_s), **shared, **votes
    )


def _of_all(body: Mapping[str, Any]) -> dict[str, Any] | Wrong:
    """The options that every strategy has."""
    resume = body.get("resume", "auto")
    if resume is False:
        resume = "off"  # YAML reads a bare `off` as false
    if resume not in ("auto", "off"):
        return Wrong("resume", "has to be auto or off")
    content_filter = body.get("content_filter", "stop")
    if content_filter not in ("stop", "fallback"):
        return Wrong("content_filter", "has to be stop or fallback")
    if wrong := _wrong_params(body):
        return wrong
    cache_ttl_s = read_cache(body, MAX_TTL_S)
    if isinstance(cache_ttl_s, Wrong):
        return cache_ttl_s
    return {
        "resume": resume,
        "content_filter": content_filter,
        "params": body.get("params", {}),
        "override": body.get("override", {}),
        "cache_ttl_s": cache_ttl_s,
    }


def read_cache(body: Mapping[str, Any], longest_s: float) -> float | Wrong | None:
    """How long `cache: {ttl_s: …}` has answers kept; None: it says nothing."""
    given = body.get("cache")
    if given is None:
        return None
    if not isinstance(given, dict) or given.keys() != {"ttl_s"}:
        return Wrong("cache", "has to be {ttl_s: SECONDS}")
    ttl_s = given["ttl_s"]
    if not (_is_number(ttl_s) and 0 <= ttl_s <= longest_s):
        return Wrong("cache.ttl_s", f"has to be seconds, from 0 to {longest_s:,.0f}")
    return float(ttl_s)


def _wrong_params(body: Mapping[str, Any]) -> Wrong | None:
    for key in ("params", "override"):
        given = body.get(key, {})
        if not isinstance(given, dict):
            return Wrong(key, "has to be a mapping of request parameters")
        try:
            orjson.dumps(given)
        except TypeError:
            return Wrong(
                key, "has a value that JSON does not have, such as a number beyond 64 bits; quote it if it is text"
            )
        if reserved := RESERVED & given.keys():
            return Wrong(key, f"may not set {', '.join(sorted(reserved))}: that is the request's own")
    return None


def _is_number(value: Any) -> bool:
    # Neither NaN nor an integer of a thousand digits.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15
