"""What scrapers read: names and labels of contract §8, in both formats."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from orchestrator.counters import Counters
from orchestrator.metrics import exposition, totals
from orchestrator.types import Json
from tests.unit.test_counters import attempt, ended

CONTRACT = {
    "orchestrator_requests_total": {"selector", "strategy", "outcome"},
    "orchestrator_attempts_total": {"provider", "model", "outcome"},
    "orchestrator_request_seconds_bucket": {"le"},
    "orchestrator_first_token_seconds_bucket": {"le"},
    "orchestrator_overhead_seconds_bucket": {"le"},
    "orchestrator_tokens_total": {"provider", "model", "direction"},
    "orchestrator_cost_usd_total": {"provider", "model", "user"},
    "orchestrator_in_flight": {"provider"},
    "orchestrator_queued": {"provider"},
    "orchestrator_breaker_open": {"provider"},
    "orchestrator_extra_calls_ratio": set(),
}
ACCOUNT: Json = {"breaker": "open", "models": {"a": {"breaker": "open"}, "b": {"breaker": "half_open"}}}
POOLS: list[Json] = [
    {"provider": "sim", "in_flight": 3, "queued": 2, "accounts": [ACCOUNT, {"breaker": "closed", "models": {}}]},
    {
        "provider": "gpu",
        "in_flight": 0,
        "queued": 0,
        "accounts": [],
        "replicas": [{"state": "up"}, {"state": "starting"}],
    },
    {"provider": "away", "problem": "it was killed"},
    {"provider": "openai", "left_out": "OPENAI_API_KEY is not set"},
]


@pytest.fixture
def counters() -> Counters:
    counters = Counters()
    said = attempt(first_token_s=0.1, input_tokens=10, output_tokens=20, cost_usd=0.25)
    counters.ended(ended(said, user='jo"hn\n', first_token_s=0.11))
    counters.count("orchestrator_cache_total", {"outcome": "hit"}, 4)
    counters.count("orchestrator_new_total")
    return counters


def samples(text: str, parse: Any) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for family in parse(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample)
    return found


@pytest.mark.parametrize(
    ("accept", "kind", "parse"),
    [
        ("", "text/plain; version=0.0.4", text_string_to_metric_families),
        ("application/openmetrics-text;version=1.0.0,text/plain;q=0.5", "application/openmetrics-text; version=1.0.0",
         openmetrics.text_string_to_metric_families),
    ],
)  # fmt: skip
def test_the_names_and_labels_of_the_contract(counters: Counters, accept: str, kind: str, parse: Any) -> None:
    """In the format that the scraper accepts, by the rules of that format."""
    body, content_type = exposition(counters, POOLS, accept)
    assert content_type.startswith(kind)
    found = samples(body.decode(), parse)
    assert CONTRACT == {name: set(found[name][0].labels) for name in CONTRACT}
    assert ('jo"hn\n', 0.25) == (
        found["orchestrator_cost_usd_total"][0].labels["user"],
        found["orchestrator_cost_usd_total"][0].value,
    )
    buckets = found["orchestrator_attempt_seconds_bucket"]
    assert [(0.1, 0.0), (0.2, 1.0), (float("inf"), 1.0)] == [
        (float(one.labels["le"]), one.value) for one in buckets if one.labels["le"] in ("0.1", "0.2", "+Inf")
    ]
    assert [0.2, 1.0] == [found[f"orchestrator_attempt_seconds_{end}"][0].value for end in ("sum", "count")]
    assert [({"outcome": "hit"}, 4.0)] == [(one.labels, one.value) for one in found["orchestrator_cache_total"]]
    assert 1.0 == found["orchestrator_new_total"][0].value


def test_gauges_are_those_of_the_pools(counters: Counters) -> None:
    """Breakers that are open, of accounts and models; a pool that does not answer is down; what is left out is none.
    Replicas that are up, of local models alone."""
    found = samples(exposition(counters, POOLS, "")[0].decode(), text_string_to_metric_families)

    def values(name: str) -> dict[str, float]:
        return {sample.labels["provider"]: sample.value for sample in found[name]}

    assert {"sim": 3.0, "gpu": 0.0} == values("orchestrator_in_flight")
    assert {"sim": 2.0, "gpu": 0.0} == values("orchestrator_queued")
    assert {"sim": 2.0, "gpu": 0.0} == values("orchestrator_breaker_open")
    assert {"sim": 1.0, "gpu": 1.0, "away": 0.0} == values("orchestrator_pool_up")
    assert {"gpu": 1.0} == values("orchestrator_replicas_up")


def test_totals_are_all_that_only_grows(counters: Counters) -> None:
    """By the same names; a histogram's count and sum. What they say is what is scraped."""
    found = samples(exposition(counters, POOLS, "")[0].decode(), text_string_to_metric_families)
    given = [(name, sorted(labels.items()), float(value)) for name, labels, value in totals(counters)]
    scraped = [
        (one.name, sorted(one.labels.items()), one.value)
        for name, all_of_it in found.items()
        for one in all_of_it
        if name.endswith(("_total", "_count", "_sum"))
    ]
    assert sorted(scraped) == sorted(given)
    assert ("orchestrator_attempt_seconds_sum", [("model", "a"), ("provider", "sim")], 0.2) in given
