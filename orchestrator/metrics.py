"""Counts of all processes and the state of the pools as Prometheus and OpenMetrics read them (contract §8).

Of requests, as callers see them, there are `orchestrator_request_seconds`, `orchestrator_first_token_seconds` and
`orchestrator_overhead_seconds`; of attempts, by provider and model, `orchestrator_attempt_…`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from orchestrator.counters import Counters
from orchestrator.histogram import Histogram
from orchestrator.types import Json


class Family(NamedTuple):
    """One metric: its name, its labels and what it says."""

    name: str
    labels: tuple[str, ...]
    about: str


_MODEL = ("provider", "model")
COUNTS: dict[str, Family] = {
    "requests": Family(
        "orchestrator_requests_total",
        ("selector", "strategy", "outcome"),
        "Requests that ended; outcome: ok, or the kind of failure",
    ),
    "attempts": Family(
        "orchestrator_attempts_total", (*_MODEL, "outcome"), "Calls of models, each try by itself, those refused too"
    ),
    "arms": Family(
        "orchestrator_arm_requests_total",
        ("selector", "arm", "outcome"),
        "Requests by arm of a split; outcome: the arm's own",
    ),
    "calls": Family(
        "orchestrator_calls_total", ("kind",), "Calls that went upstream: first, or added as a hedge or a retry"
    ),
    "tokens": Family(
        "orchestrator_tokens_total",
        (*_MODEL, "direction"),
        "Tokens: input (of which cached), output (of which reasoning)",
    ),
    "cost_usd": Family(
        "orchestrator_cost_usd_total", (*_MODEL, "user"), "US dollars, as far as prices are known; estimates included"
    ),
}
"""By the attribute of `Counters`."""
HISTOGRAMS: dict[str, Family] = {
    "request_s": Family("orchestrator_request_seconds", (), "To the end of the answer, of requests that got one"),
    "first_token_s": Family(
        "orchestrator_first_token_seconds", (), "To the first token for the caller, of streamed requests"
    ),
    "overhead_s": Family(
        "orchestrator_overhead_seconds",
        (),
        "Of a request, the time in which nothing of it was upstream; queues and waits before retries included",
    ),
    "attempt_s": Family("orchestrator_attempt_seconds", _MODEL, "To the end of the answer, of calls that got one"),
    "attempt_first_token_s": Family(
        "orchestrator_attempt_first_token_seconds", _MODEL, "To the first token, of streamed calls"
    ),
    "attempt_tokens_per_s": Family(
        "orchestrator_attempt_tokens_per_second",
        _MODEL,
        "Output tokens a second; of streamed calls, from their first token on",
    ),
}
"""The same, of histograms."""
NAMED: dict[str, str] = {
    "orchestrator_refused_total": "Requests that were refused before anybody was called, by the code of the error",
    "orchestrator_cache_total": "Requests that the cache was asked for, by outcome",
    "orchestrator_budget_alerts_total": "Thresholds of budgets that were passed",
    "orchestrator_ledger_lost_total": "Records of requests that the ledger could not keep",
}
"""What counters say that are counted by name (`Counters.count`)."""
EXTRA_RATIO = Family(
    "orchestrator_extra_calls_ratio", (), "Hedges and retries over the calls they were added to, since the start"
)
GAUGES: dict[str, Family] = {
    "in_flight": Family("orchestrator_in_flight", ("provider",), "Calls that are upstream now"),
    "queued": Family("orchestrator_queued", ("provider",), "Calls that wait for a place"),
    "breakers": Family(
        "orchestrator_breaker_open", ("provider",), "Breakers that are open, of accounts and of their models"
    ),
    "up": Family("orchestrator_pool_up", ("provider",), "1: the pool's actor answers"),
    "replicas": Family("orchestrator_replicas_up", ("provider",), "Replicas of a local model that answer"),
}


def exposition(counters: Counters, pools: Sequence[Json], accept: str) -> tuple[bytes, str]:
    """The body and its content type, by what the scraper accepts: OpenMetrics, else Prometheus's text.

    `pools`: the rows of /admin/pools. Takes about 5 µs a time series: not for an event loop.
    """
    # 25 ms to import: for those who are asked.
    from prometheus_client.exposition import choose_encoder

    encode, kind = choose_encoder(accept)

    class Collected:
        def collect(self) -> Iterator[Any]:
            yield from _families(counters, pools)

    encoded: bytes = encode(Collected())
    return encoded, kind


def gauges(pools: Sequence[Json]) -> dict[str, dict[str, float]]:
    """By the key of `GAUGES`, each provider's value."""
    found: dict[str, dict[str, float]] = {key: {} for key in GAUGES}
    for row in pools:
        provider = row["provider"]
        if "left_out" in row:
            continue
        found["up"][provider] = float("problem" not in row)
        if "accounts" in row:
            found["in_flight"][provider] = row["in_flight"]
            found["queued"][provider] = row["queued"]
            found["breakers"][provider] = sum(map(_open, row["accounts"]))
        if "replicas" in row:
            found["replicas"][provider] = sum(one["state"] == "up" for one in row["replicas"])
    return found


def totals(counters: Counters) -> Iterator[tuple[str, Mapping[str, str], float]]:
    """Name, labels and value of all that only grows; of histograms, how many there were and their sum."""
    for key, family in COUNTS.items():
        for labels, value in getattr(counters, key).items():
            yield family.name, dict(zip(family.labels, labels, strict=True)), value
    for name, counts in counters.named.items():
        for pairs, value in counts.items():
            yield name, dict(pairs), value
    for key, family in HISTOGRAMS.items():
        for labels, cell in getattr(counters, key).cells.items():
            named = dict(zip(family.labels, labels, strict=True))
            yield f"{family.name}_count", named, sum(cell[:-1])
            yield f"{family.name}_sum", named, cell[-1]


def _open(account: Json) -> int:
    return sum(one["breaker"] == "open" for one in (account, *account["models"].values()))


def _families(counters: Counters, pools: Sequence[Json]) -> Iterator[Any]:
    from prometheus_client.core import Metric

    for key, family in COUNTS.items():
        metric = Metric(family.name.removesuffix("_total"), family.about, "counter")
        for labels, value in _rows(getattr(counters, key)):
            metric.add_sample(family.name, dict(zip(family.labels, labels, strict=True)), value)
        yield metric
    for name, counts in sorted(counters.named.items()):
        metric = Metric(name.removesuffix("_total"), NAMED.get(name, "See what counts it"), "counter")
        for pairs, value in _rows(counts):
            metric.add_sample(name, dict(pairs), value)
        yield metric
    for key, family in HISTOGRAMS.items():
        yield _histogram(family, getattr(counters, key))
    metric = Metric(EXTRA_RATIO.name, EXTRA_RATIO.about, "gauge")
    metric.add_sample(EXTRA_RATIO.name, {}, counters.extra_calls_ratio)
    yield metric
    for key, by_provider in gauges(pools).items():
        family = GAUGES[key]
        metric = Metric(family.name, family.about, "gauge")
        for provider, value in by_provider.items():
            metric.add_sample(family.name, {"provider": provider}, value)
        yield metric


def _rows(counts: Mapping[Any, float]) -> Iterable[tuple[Any, float]]:
    return sorted(counts.items())


def _histogram(family: Family, histogram: Histogram) -> Any:
    from prometheus_client.core import Metric

    metric = Metric(family.name, family.about, "histogram")
    bounds = [*(str(float(bound)) for bound in histogram.bounds), "+Inf"]
    for values, cell in sorted(histogram.cells.items()):
        labels = dict(zip(family.labels, values, strict=True))
        cumulative = list(accumulate(cell[:-1]))
        for bound, count in zip(bounds, cumulative, strict=True):
            metric.add_sample(f"{family.name}_bucket", {**labels, "le": bound}, count)
        metric.add_sample(f"{family.name}_count", labels, cumulative[-1])
        metric.add_sample(f"{family.name}_sum", labels, cell[-1])
    return metric
