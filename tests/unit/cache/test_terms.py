"""What makes two requests the same, and which the cache is for."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.accounting import Asked
from orchestrator.asks import Ask
from orchestrator.cache.terms import Terms, Wanting, is_wanted
from orchestrator.callers import Caller
from orchestrator.config.load import load_mapping
from orchestrator.errors import BadChoice
from orchestrator.selectors import Selectors
from orchestrator.types import Json, Request

PROVIDERS = {"a": {"base_url": "http://a/v1", "api_key": "k"}, "b": {"base_url": "http://b/v1", "api_key": "k"}}
CONFIG: Json = {
    "providers": PROVIDERS,
    "cache": {"ttl_s": 60},
    "aliases": {"bare": "a/x"},
    "tiers": {
        "cold": {"models": ["a/x", "b/y"], "params": {"temperature": 0}},
        "warm": {"models": ["a/x"], "override": {"temperature": 0.7}},
        "mixed": ["a/x", "tier:warm"],
        "hour": {"models": ["a/x"], "cache": {"ttl_s": 3600}},
        "never": {"models": ["a/x"], "cache": {"ttl_s": 0}},
        "trial": {
            "strategy": "split",
            "arms": {"one": {"weight": 50, "model": "a/x"}, "two": {"weight": 50, "model": "tier:inner"}},
        },
        "inner": {"strategy": "split", "arms": {"p": {"model": "a/x"}, "q": {"model": "b/y"}}},
    },
}
USER = [{"role": "user", "content": "hi"}]


def terms(selector: str = "a/x", config: Json = CONFIG, *, rest: Json | None = None, **fields: Any) -> Terms | None:
    """The terms of a chat request with these fields of the body; `rest` are fields of the `Ask`."""
    rest = rest or {}
    loaded = load_mapping(config, {})
    request = rest.pop("request", Request({"messages": USER, **fields}))
    ask = Ask(selector, request, rest.pop("override", None), rest.pop("request_id", "r"), **rest)
    route = Selectors(loaded).resolve(selector, ask.override, ask.user)
    return Wanting(loaded).of(Asked(ask, route, loaded, 0))


def key(selector: str = "a/x", config: Json = CONFIG, **given: Any) -> bytes:
    found = terms(selector, config, **{"temperature": 0, **given})
    assert found is not None
    return found.key


@pytest.mark.parametrize(
    ("selector", "fields", "ttl_s"),
    [
        ("a/x", {}, None),
        ("a/x", {"temperature": 0}, 60),
        ("a/x", {"temperature": 0.0}, 60),
        ("a/x", {"temperature": 0.1}, None),
        ("a/x", {"temperature": None}, None),
        ("tier:cold", {}, 60),
        ("tier:cold", {"temperature": 1}, None),
        ("tier:warm", {"temperature": 0}, None),
        ("tier:mixed", {"temperature": 0}, None),
        ("tier:hour", {"temperature": 0}, 3600),
        ("tier:hour", {}, None),
        ("tier:never", {"temperature": 0}, None),
    ],
)
def test_whose_answers_are_kept(selector: str, fields: Json, ttl_s: float | None) -> None:
    """Those of requests that every model would answer at temperature 0, said by the request or its tier."""
    found = terms(selector, **fields)
    assert ttl_s == (None if found is None else found.ttl_s)


def test_off_unless_somebody_wants_it() -> None:
    """By default nothing is kept; a tier's wish, or a request's, is enough; without room, nobody's is."""
    plain = {"providers": PROVIDERS}
    tier = {**plain, "tiers": {"t": {"models": ["a/x"], "cache": {"ttl_s": 5}}}}
    assert [False, True, True] == [is_wanted(load_mapping(one, {})) for one in (plain, tier, CONFIG)]
    assert None is terms("a/x", plain, temperature=0)
    found = terms("tier:t", tier, temperature=0)
    assert found is not None
    assert 5 == found.ttl_s
    asked = {"override": {"cache": {"ttl_s": 7}}}
    found = terms("a/x", plain, rest=dict(asked), temperature=0.9)
    assert found is not None
    assert 7 == found.ttl_s, "asked for: at any temperature"
    none = {**CONFIG, "cache": {"ttl_s": 60, "max_mb": 0}}
    assert not is_wanted(load_mapping(none, {}))
    assert None is terms("a/x", none, rest=dict(asked), temperature=0)


def test_a_wish_not_to() -> None:
    """By a time of 0 or by its header; one that is not to be answered from the cache is kept all the same."""
    assert None is terms(rest={"override": {"cache": {"ttl_s": 0}}}, temperature=0)
    assert None is terms(rest={"cache_control": "no-store"}, temperature=0)
    fresh = terms(rest={"cache_control": "no-cache"}, temperature=0)
    assert fresh is not None
    assert (True, key()) == (fresh.fresh, fresh.key)


@pytest.mark.parametrize(
    "wish", [5, {}, {"ttl_s": -1}, {"ttl_s": 1e9}, {"ttl_s": "1"}, {"ttl_s": True}, {"ttl_s": 1, "x": 2}]
)
def test_a_wish_that_makes_no_sense(wish: Any) -> None:
    """Refused with its place, however little is kept here."""
    for config in (CONFIG, {"providers": PROVIDERS}):
        with pytest.raises(BadChoice, match=r"orchestrator\.cache"):
            terms("a/x", config, rest={"override": {"cache": wish}})


def test_the_same_request() -> None:
    """However its fields stand, streamed or not, with what its tier would have set; by an alias; with its own wish."""
    assert key() == key(stream_options={"include_obfuscation": False})
    one, two = ({"messages": USER, "temperature": 0, "seed": 1}, {"seed": 1, "temperature": 0, "messages": USER})
    assert len({key(rest={"request": Request(body, stream)}) for body in (one, two) for stream in (False, True)}) == 1
    cold, said = terms("tier:cold"), terms("tier:cold", temperature=0)
    assert cold == said
    assert key() == key("bare") == key(rest={"override": {"cache": {"ttl_s": 5}}})


def test_another_request() -> None:
    """Any field, another route, another caller, another shape of answer."""
    others = [
        key(),
        key(seed=1),
        key(seed=2),
        key(messages=[*USER, *USER]),
        key("b/x"),
        key("a/y"),
        key("tier:cold"),
        key(rest={"override": {"models": ["a/x", "b/y"]}}),
        key(rest={"override": {"models": ["b/y", "a/x"]}}),
        key(rest={"override": {"strategy": "race", "models": ["a/x", "b/y"]}}),
        key(rest={"caller": Caller("ada")}),
        key(rest={"caller": Caller("john")}),
        key(rest={"request": Request({"input": "hi"}, operation="embeddings")}),
    ]
    assert len(others) == len(set(others))


def test_the_order_within_a_schema_counts() -> None:
    """A model writes its properties in that order."""
    formats = [
        {"type": "json_schema", "json_schema": {"schema": {"properties": {name: {} for name in names}}}}
        for names in ("ab", "ba")
    ]
    assert key(response_format=formats[0]) != key(response_format=formats[1])


def test_embeddings_have_no_temperature() -> None:
    """And are kept all the same."""
    found = terms(rest={"request": Request({"input": "hi"}, operation="embeddings")})
    assert found is not None
    assert 60 == found.ttl_s


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"tiers": {**CONFIG["tiers"], "cold": {"models": ["a/x"], "params": {"temperature": 0}}}}, False),
        ({"providers": {**PROVIDERS, "b": {"base_url": "http://c/v1", "api_key": "k"}}}, False),
        ({"providers": {**PROVIDERS, "b": {**PROVIDERS["b"], "pool": {"concurrency": 1}}}}, True),
        ({"providers": {**PROVIDERS, "c": {"base_url": "http://c/v1", "api_key": "k"}}}, True),
        ({"cache": {"ttl_s": 5}}, True),
        ({"tiers": {**CONFIG["tiers"], "cold": {**CONFIG["tiers"]["cold"], "cache": {"ttl_s": 9}}}}, True),
    ],
    ids=["members", "address", "places", "another provider", "time", "the tier's time"],
)
def test_a_reload(change: Json, same: bool) -> None:
    """What may change an answer makes another of it; what does not, and other parts of the configuration, do not."""
    assert same == (key("tier:cold") == key("tier:cold", {**CONFIG, **change}))


def test_the_arm_of_a_split_counts() -> None:
    """Not the user: those who come to one arm share its answers. Where nobody is said, the request's own arm counts."""
    by_user = {key("tier:trial", rest={"user": f"u{i}"}) for i in range(60)}
    by_request = {key("tier:trial", rest={"request_id": f"r{i}"}) for i in range(60)}
    assert 3 == len(by_user), "one, two with p, two with q"
    assert by_user == by_request
    assert 1 == len({key("a/x", rest={"user": f"u{i}"}) for i in range(9)})
