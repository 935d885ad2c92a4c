"""The table that comes along, and names: what costs what, and what has no price."""

from __future__ import annotations

import re
from datetime import date

import pytest

from orchestrator.config.load import load_mapping
from orchestrator.pricing.book import Prices
from orchestrator.pricing.rows import price_of, row_of
from orchestrator.pricing.sellers import SELLERS, resellable, seller_at
from orchestrator.pricing.table import table
from orchestrator.providers import PRESETS

ENV = {
    row.key_variable: "k" for row in PRESETS.values()
} | {"AWS_REGION": "us-east-1", "AZURE_OPENAI_ENDPOINT": "https://acme.openai.azure.com"}  # fmt: skip


@pytest.fixture(scope="module")
def prices() -> Prices:
    """Of every known provider at its own address, and of an unknown one."""
    known = {name: {"optional": True} for name, row in PRESETS.items() if row.base_url}
    lab = {"base_url": "http://10.0.0.5:8000/v1", "api_key": "none"}
    proxied = {"preset": "openai", "base_url": "https://proxy.example.com/v1", "api_key": "k"}
    return load_mapping({"providers": {**known, "lab": lab, "proxied": proxied}}, ENV).prices


def test_every_row_says_where_it_stands_and_since_when() -> None:
    """An address and a day, and a price that is one: no output costs less than nothing, and what is cached no more than
    what is not."""
    rows = [(f"{seller}/{name}", price) for seller, found in table().items() for name, price in found.items()]
    assert len(rows) > 300
    for name, price in rows:
        assert re.match(r"https://\S+( \(second hand: .+\))?$", price.source), name
        assert date(2025, 1, 1) < date.fromisoformat(price.date), name
        assert 0 < price.input_per_mtok_usd, name
        assert price.output_per_mtok_usd > 0 or "embed" in name, name
        assert price.cached_input_per_mtok_usd is None or price.cached_input_per_mtok_usd < price.input_per_mtok_usd, (
            name
        )
        for tier in price.tiers:
            assert tier.input_per_mtok_usd > price.input_per_mtok_usd, name
            assert (tier.cached_input_per_mtok_usd is None) == (price.cached_input_per_mtok_usd is None), name
            assert (tier.cache_write_per_mtok_usd is None) == (price.cache_write_per_mtok_usd is None), name
            assert (tier.cache_write_1h_per_mtok_usd is None) == (price.cache_write_1h_per_mtok_usd is None), name
        assert price == price_of(row_of(price)), name
    assert set(table()) <= set(SELLERS) <= set(PRESETS)


def test_claudes_cache_is_priced_as_documented() -> None:
    """Written for five minutes: 1.25 times the input; for an hour: twice. Claude 3 Haiku's are rounded."""
    for name, price in table()["anthropic"].items():
        if name != "claude-3-haiku":
            assert pytest.approx(1.25 * price.input_per_mtok_usd) == price.cache_write_per_mtok_usd, name
        assert pytest.approx(2 * price.input_per_mtok_usd) == price.cache_write_1h_per_mtok_usd, name


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("openai/gpt-4o", (2.5, 10)),
        ("openai/gpt-4o-2024-08-06", (2.5, 10)),
        ("openai/gpt-4o-2024-05-13", (5, 15)),
        ("openai/gpt-4o-mini", (0.15, 0.6)),
        ("openai/gpt-4.1-nano", (0.1, 0.4)),
        ("openai/gpt-5", (1.25, 10)),
        ("openai/o3", (2, 8)),
        ("openai/o4-mini-2025-04-16", (1.1, 4.4)),
        ("openai/text-embedding-3-small", (0.02, 0)),
        ("openai/ft:gpt-4o-mini-2024-07-18:acme::abc", (0.3, 1.2)),
        # A snapshot that is not known may cost something else.
        ("openai/gpt-4o-2031-01-01", None),
        ("openai/gpt-4o-audio-preview", None),
        ("openai/gpt", None),
        ("anthropic/claude-sonnet-4-5", (3, 15)),
        ("anthropic/claude-sonnet-4-5-20250929", (3, 15)),
        ("anthropic/claude-sonnet-4.5", (3, 15)),
        ("anthropic/claude-sonnet-4-0", (3, 15)),
        ("anthropic/claude-sonnet-4-20250514", (3, 15)),
        ("anthropic/claude-opus-4-1-20250805", (15, 75)),
        ("anthropic/claude-opus-4-5", (5, 25)),
        ("anthropic/claude-haiku-4-5", (1, 5)),
        ("anthropic/claude-3-5-haiku-latest", (0.8, 4)),
        ("anthropic/claude-3-5-sonnet-20241022", (3, 15)),
        ("anthropic/claude-3-7-sonnet-20250219", (3, 15)),
        ("anthropic/claude-3-haiku-20240307", (0.25, 1.25)),
        ("anthropic/claude-sonnet", None),
        ("anthropic/claude-sonnet-45", None),
        ("gemini/gemini-2.5-pro", (1.25, 10)),
        ("gemini/models/gemini-2.5-flash", (0.3, 2.5)),
        ("gemini/gemini-2.0-flash", (0.1, 0.4)),
        ("gemini/gemini-1.5-pro", (1.25, 5)),
        ("groq/llama-3.3-70b-versatile", (0.59, 0.79)),
        ("groq/openai/gpt-oss-120b", (0.15, 0.6)),
        ("groq/gpt-4o", None),
        ("mistral/mistral-large-latest", (0.5, 1.5)),
        ("deepseek/deepseek-chat", (0.28, 0.42)),
        ("together/meta-llama/Llama-3.3-70B-Instruct-Turbo", (1.04, 1.04)),
        ("bedrock/us.anthropic.claude-sonnet-4-5-20250929-v1:0", (3.3, 16.5)),
        ("bedrock/global.anthropic.claude-sonnet-4-5-20250929-v1:0", (3, 15)),
        ("bedrock/openai.gpt-oss-120b", (0.15, 0.6)),
        ("bedrock/claude-sonnet-4-5", None),
        # Deployments' names say nothing; what OpenRouter asks is not known before it was asked for it.
        ("azure/gpt-4o", None),
        ("openrouter/openai/gpt-4o", None),
        ("ollama/llama3.2", None),
        ("lab/gpt-4o", None),
        ("proxied/gpt-4o", None),
        ("nobody/gpt-4o", None),
    ],
)
def test_which_price_holds(prices: Prices, selector: str, expected: tuple[float, float] | None) -> None:
    """By the address that is asked, and by the spellings of its own company; none is better than a wrong one."""
    found = prices.of(*selector.split("/", 1))
    assert expected == (None if found is None else (found.input_per_mtok_usd, found.output_per_mtok_usd))


def test_bedrock_is_priced_where_the_table_is_from() -> None:
    """Each region of AWS has its own prices."""
    assert "bedrock" == seller_at("https://bedrock-mantle.us-east-1.api.aws/v1")
    assert None is seller_at("https://bedrock-mantle.eu-west-1.api.aws/v1")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("anthropic/claude-sonnet-4.5", ("anthropic", "claude-sonnet-4-5")),
        ("anthropic/claude-3.5-haiku", ("anthropic", "claude-3-5-haiku")),
        ("anthropic/claude-opus-4", ("anthropic", "claude-opus-4")),
        ("anthropic/claude-3.7-sonnet:thinking", None),
        ("openai/gpt-4o", ("openai", "gpt-4o")),
        ("openai/gpt-4o:extended", None),
        ("openai/gpt-oss-120b", None),
        ("google/gemini-2.5-pro", ("gemini", "gemini-2.5-pro")),
        ("google/gemma-3-27b-it", None),
        ("mistralai/mistral-nemo", None),
        ("deepseek/deepseek-chat", None),
        ("meta-llama/llama-3.3-70b-instruct", None),
    ],
)
def test_whose_price_openrouter_passes_on(name: str, expected: tuple[str, str] | None) -> None:
    """Of models that their companies alone offer; never of open weights, whose price there is another host's."""
    assert expected == resellable(name)


@pytest.mark.parametrize(
    "row",
    [{}, {"input": 1}, {"input": -1, "output": 1}, {"input": True, "output": 1}, {"input": "1", "output": 1},
     {"input": 1e9, "output": 1}, {"input": 1, "output": 1, "tiers": [{"above": 1.5, "input": 1, "output": 1}]},
     {"input": 1, "output": 1, "tiers": [3]}, {"input": 1, "output": 1, "image_tokens": -1}],
)  # fmt: skip
def test_what_is_no_price(row: dict[str, object]) -> None:
    """A row that lacks something, or has what cannot be."""
    with pytest.raises((KeyError, ValueError, TypeError)):
        price_of(row)
