"""Which requests the cache is for, and what makes two of them the same.

The same caller (its key's name, or none), the same route as it is configured (strategies, models, parameters, and where the
providers are: after a reload that changes one of them, nothing fits any more), the same arms of the splits on the way, and
the same body with the tier's parameters in it. `stream` and `stream_options` are no part of it: a whole answer can be
streamed, and the other way round. Fields may stand in any order; within them the order counts, since a model writes the
properties of a schema in the order of the schema: that costs a hit at most, where sorting could give a wrong answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from orchestrator.config.settings import Config, Provider
from orchestrator.config.strategy import read_cache
from orchestrator.config.votes import Wrong
from orchestrator.errors import BadChoice
from orchestrator.routes import Route
from orchestrator.strategies import with_params
from orchestrator.types import Json
from orchestrator.world import arm_of

if TYPE_CHECKING:
    from orchestrator.accounting import Asked

MAX_ASKED_S = 86_400.0
"""How long a request may have its answer kept: callers share one memory."""
DIGEST_BYTES = 24


class Terms(NamedTuple):
    """What a request wants of the cache."""

    key: bytes
    ttl_s: float
    """An answer may be as old, and its own is kept as long."""
    fresh: bool = False
    """`cache-control: no-cache`: kept, but not taken from the cache."""


def is_wanted(config: Config) -> bool:
    """Whether a configuration wants anything kept; requests may all the same."""
    strategies = (tier.strategy for tiers in (config.tiers, config.experiments) for tier in tiers.values())
    return config.cache.max_mb > 0 and (config.cache.ttl_s > 0 or any(one.cache_ttl_s for one in strategies))


class Wanting:
    """The terms of requests by one configuration."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._places: dict[str, bytes] = {}
        """Provider -> where it is."""

    def of(self, asked: Asked) -> Terms | None:
        """None: the request has nothing to do with the cache. Raises BadChoice for a wish that makes no sense."""
        ask, strategy, cache = asked.ask, asked.route.strategy, self._config.cache
        ttl_s = cache.ttl_s if strategy.cache_ttl_s is None else strategy.cache_ttl_s
        wished = None if ask.override is None else _wished(ask.override)
        ttl_s = ttl_s if wished is None else wished
        if not ttl_s or not cache.max_mb or ask.cache_control == "no-store":
            return None
        request = ask.request
        if wished is None and request.operation == "chat" and not _is_determined(asked.route, request.body):
            return None
        body = {n: v for n, v in with_params(strategy, request.body).items() if n != "stream_options"}
        digest = blake2b(digest_size=DIGEST_BYTES)
        caller = None if ask.caller is None else ask.caller.name
        for part in ([caller, request.operation, self._arms(asked)], _bare(asked.route), sorted(body.items())):
            digest.update(orjson.dumps(part))
        for candidate in asked.route.leaves():
            digest.update(self._place(candidate.provider))
        return Terms(digest.digest(), ttl_s, ask.cache_control == "no-cache")

    def _arms(self, asked: Asked) -> list[list[str]]:
        """The arms that the request would come to."""
        return [[route.selector, arm_of(route.strategy, asked.ask)] for route in _splits(asked.route, asked)]

    def _place(self, provider: str) -> bytes:
        """What the answers of a provider depend on, beside the model's name."""
        found = self._places.get(provider)
        if found is None:
            found = self._places[provider] = orjson.dumps(_place_of(self._config.providers[provider]))
        return found


def _wished(override: Mapping[str, Any]) -> float | None:
    """The request's own wish. Raises BadChoice."""
    if "cache" not in override:
        return None
    wish = read_cache(override, MAX_ASKED_S)
    if isinstance(wish, Wrong):
        raise BadChoice(f"orchestrator.{wish.key}", wish.reason)
    return wish


def _is_determined(route: Route, body: Json) -> bool:
    """Whether every model that may answer is asked with temperature 0, said by the request or by a tier."""
    body = with_params(route.strategy, body)
    zero = body.get("temperature") == 0
    return all(_is_determined(one, body) if isinstance(one, Route) else zero for one in route.members)


def _splits(route: Route, asked: Asked) -> Iterator[Route]:
    """The splits that a request may come to, the outermost first."""
    members = route.members
    if route.strategy.name == "split":
        yield route
        members = (members[[*route.strategy.arms].index(arm_of(route.strategy, asked.ask))],)
    for member in members:
        if isinstance(member, Route):
            yield from _splits(member, asked)


def _bare(route: Route) -> Route:
    """Without how long its answers are kept, which is no part of them."""
    if route.strategy.cache_ttl_s is None:
        return route
    return replace(route, strategy=replace(route.strategy, cache_ttl_s=None))


def _place_of(provider: Provider) -> list[Any]:
    return [
        [provider.name, provider.dialect, provider.base_url, provider.api_version, provider.model_prefix],
        provider.simulate,
        provider.replay,
    ]
