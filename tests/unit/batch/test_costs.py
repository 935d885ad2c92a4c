"""The worst case of a batch's requests, by a configuration's prices."""

from __future__ import annotations

from orchestrator.batch.costs import worst_of
from orchestrator.batch.items import Item, asked_of
from orchestrator.config.load import load_mapping

CONFIG = load_mapping(
    {
        "providers": {"lab": {"base_url": "http://127.0.0.1:1/v1"}},
        "tiers": {"two": ["lab/a", "lab/a"], "odd": ["lab/a", "lab/b"]},
        "pricing": {"overrides": {"lab/a": {"input_per_mtok_usd": 0, "output_per_mtok_usd": 10}}},
    },
    {},
)
ITEM = Item(1, "1", "/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}], "max_tokens": 1000})


def test_all_calls_of_a_route() -> None:
    """Of a fallback both; nothing for a model that is not there, and nobody knows where one has no price."""
    worst = worst_of(CONFIG)
    assert 0.01 == worst(asked_of(ITEM, "lab/a", {}))
    assert 0.02 == worst(asked_of(ITEM, "tier:two", {}))
    assert 0 == worst(asked_of(ITEM, "nobody/x", {}))
    assert worst(asked_of(ITEM, "tier:odd", {})) is None
