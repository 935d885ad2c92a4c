"""OpenRouter's list: what is read out of it, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from orchestrator.pricing import openrouter
from orchestrator.pricing.cost import cost_of
from orchestrator.pricing.openrouter import NotFetched, fetch, read
from orchestrator.pricing.price import Price, Tier
from orchestrator.types import Usage
from tests.unit.pricing.listing import LISTED, Listing, listing

SAID: dict[str, Any] = {"source": openrouter.URL, "date": "2026-11-25"}


@pytest.fixture
def server() -> Iterator[Listing]:
    with listing() as running:
        yield running


def test_what_it_says() -> None:
    """Dollars a token become dollars a million; -1 is no price, a free variant is free, and 0 elsewhere says nothing."""
    found = read(LISTED, "2026-11-25")
    assert len(found) == LISTED.count(b'"id"') - 1
    assert "openrouter/auto" not in found
    expected = {
        "openai/gpt-4o-mini": Price(
            input_per_mtok_usd=0.15,
            output_per_mtok_usd=0.6,
            cached_input_per_mtok_usd=0.075,
            image_usd=0.000217,
            **SAID,
        ),
        "anthropic/claude-sonnet-4.5": Price(
            input_per_mtok_usd=3.0,
            output_per_mtok_usd=15.0,
            cached_input_per_mtok_usd=0.3,
            cache_write_per_mtok_usd=3.75,
            **SAID,
        ),
        "openai/gpt-6-astra": Price(
            input_per_mtok_usd=10.0,
            output_per_mtok_usd=50.0,
            cached_input_per_mtok_usd=1.0,
            cache_write_per_mtok_usd=12.5,
            tiers=(
                Tier(
                    above_input_tokens=271_999,
                    input_per_mtok_usd=20.0,
                    output_per_mtok_usd=75.0,
                    cached_input_per_mtok_usd=1.0,
                    cache_write_per_mtok_usd=12.5,
                ),
            ),
            **SAID,
        ),
        "openai/gpt-oss-20b:free": Price(
            input_per_mtok_usd=0.0,
            output_per_mtok_usd=0.0,
            cached_input_per_mtok_usd=0.0,
            cache_write_per_mtok_usd=0.0,
            **SAID,
        ),
        "meta-llama/llama-3.3-70b-instruct": Price(input_per_mtok_usd=0.1, output_per_mtok_usd=0.32, **SAID),
        "perplexity/sonar": Price(input_per_mtok_usd=1.0, output_per_mtok_usd=1.0, request_usd=0.005, **SAID),
        "deepseek/deepseek-flash": Price(
            input_per_mtok_usd=0.3, output_per_mtok_usd=1.2, cached_input_per_mtok_usd=0.006, varies=True, **SAID
        ),
    }
    assert expected == {name: found[name] for name in expected}
    assert None is found["google/gemini-2.5-pro"].reasoning_per_mtok_usd


@pytest.mark.parametrize(("thoughts", "expected"), [("0.00001", 15.0), ("0.00003", 30.0)])
def test_thoughts_that_cost_what_output_does_are_output(thoughts: str, expected: float) -> None:
    """Behind a long input, too, where output costs more: a tier has no price of thoughts. Those of another price keep it."""
    overrides = [{"min_prompt_tokens": 200_001, "prompt": "0", "completion": "0.000015"}]
    pricing = {"prompt": "0", "completion": "0.00001", "internal_reasoning": thoughts, "overrides": overrides}
    price = read(orjson.dumps({"data": [{"id": "a", "pricing": pricing}]}), "2026-11-25")["a"]
    thought = Usage(200_001, 1_000_000, reasoning_tokens=1_000_000)
    assert expected == cost_of(price, thought)


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>", b"[]", b"{}", b'{"data": {}}', b'{"data": []}', b'{"data": [3, {"id": 7}, {"id": "a"}]}',
     b'{"data": [{"id": "a", "pricing": {"prompt": "x", "completion": "1"}}]}', b'{"data": "' + b"x" * 99 + b'"}'],
)  # fmt: skip
def test_what_is_no_list(content: bytes) -> None:
    """It is refused as a whole where nothing in it is a price."""
    with pytest.raises(NotFetched):
        read(content, "2026-11-25")


@pytest.mark.parametrize(
    "pricing",
    [{"prompt": "0.1"}, {"prompt": "nan", "completion": "1"}, {"prompt": "inf", "completion": "1"},
     {"prompt": True, "completion": 1}, {"prompt": "1e99", "completion": "1"}, {"prompt": None, "completion": "1"},
     {"prompt": "-0.1", "completion": "1"}],
)  # fmt: skip
def test_a_model_with_garbage_is_left_out(pricing: dict[str, Any]) -> None:
    """The others stay."""
    good = {"id": "a/good", "pricing": {"prompt": 0.000001, "completion": "0.000002", "overrides": "none"}}
    rows = [{"id": "a/bad", "pricing": pricing}, good, {"id": "a/odd", "pricing": 3}, {"id": "", "pricing": {}}]
    assert ["a/good"] == list(read(orjson.dumps({"data": rows}), "2026-11-25"))


def test_tiers_that_cannot_be_are_left_out() -> None:
    """Those that can be come in order."""
    overrides = [
        {"min_prompt_tokens": 500, "prompt": "0.000003"},
        {"min_prompt_tokens": 200, "prompt": "0.000002"},
        {"min_prompt_tokens": "many", "prompt": "0.000009"},
        {"min_prompt_tokens": 300, "prompt": "-1"},
        7,
    ]
    pricing = {"prompt": "0.000001", "completion": "0.000001", "overrides": overrides}
    price = read(orjson.dumps({"data": [{"id": "a", "pricing": pricing}]}), "2026-11-25")["a"]
    assert [(199, 2.0), (499, 3.0)] == [(tier.above_input_tokens, tier.input_per_mtok_usd) for tier in price.tiers]
    assert not price.varies


def test_it_is_fetched(server: Listing) -> None:
    """From the address given; prices name it, and today."""
    price = fetch(server.url)["openai/gpt-4o-mini"]
    assert (server.url, 10) == (price.source, len(price.date))


def test_an_answer_that_fails_says_why(server: Listing) -> None:
    """In one line: its status, that nobody is there, or that the address is none."""
    server.answer = 503, [b"no"]
    with pytest.raises(NotFetched, match="HTTP 503"):
        fetch(server.url)
    for address in ("http://127.0.0.1:1/x", "nowhere", "http://[::1"):
        with pytest.raises(NotFetched, match="cannot be reached") as failed:
            fetch(address)
        assert 1 == len(str(failed.value).splitlines())
        assert failed.value.retryable


def test_an_answer_without_end_is_left(server: Listing, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its size, and by its time."""
    monkeypatch.setattr(openrouter, "MOST_BYTES", 2**20)
    server.answer = 200, [b" " * 65_536] * 100
    with pytest.raises(NotFetched, match="more than 1 MB"):
        fetch(server.url)
    server.answer, server.pause_s = (200, [b" "] * 100), 0.01
    ticks = iter(range(0, 10_000, 10))
    with pytest.raises(NotFetched, match="more than 30 s"):
        fetch(server.url, clock=lambda: float(next(ticks)))


def test_another_address_may_be_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a variable."""
    monkeypatch.delenv(openrouter.URL_VARIABLE, raising=False)
    assert openrouter.URL == openrouter.url()
    monkeypatch.setenv(openrouter.URL_VARIABLE, "http://mirror/models")
    assert "http://mirror/models" == openrouter.url()
