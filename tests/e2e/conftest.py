"""One served cluster for all end-to-end tests; and what proves a cell of the README's table has to run."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from bench.serving import Served
from tests.e2e.table import cells_of
from tests.upstream import Upstream, running

CONFIG = """
providers:
  sim: {{simulate: {{latency_s: {{median: 0.05, p99: 0.2}}, tokens_per_s: 500}}}}
  spare: {{simulate: {{latency_s: {{median: 0.05, p99: 0.2}}, tokens_per_s: 500}}}}
  up:
    base_url: http://127.0.0.1:{port}/v1
    api_key: none
    models: [ok]
    retry: {{attempts: 2, backoff_s: 0.05, backoff_max_s: 0.1}}
    timeouts: {{connect_s: 2, first_token_s: 1, idle_s: 1, answer_s: 1.5, total_s: 10}}
    breaker: {{failures: 1000}}
  locked:
    base_url: http://127.0.0.1:{port}/v1
    models: [ok]
  narrow:
    base_url: http://127.0.0.1:{port}/v1
    models: [ok]
    pool: {{concurrency: 4, queue: 500}}
  tight:
    base_url: http://127.0.0.1:{port}/v1
    models: [ok]
    pool: {{concurrency: 1, queue: 1}}
  patient:
    base_url: http://127.0.0.1:{port}/v1
    models: [ok]
tiers:
  plain: {{strategy: first, models: [sim/chat]}}
  first: {{strategy: first, models: [sim/chat]}}
  fallback: [up/unavailable, sim/chat]
  race: {{strategy: race, models: [sim/latency-0.05, sim/latency-5]}}
  complete: {{strategy: race, models: [sim/a, sim/b], commit: complete}}
  hedge: {{strategy: hedge, models: [sim/latency-5, sim/chat], after: 0.2, extra_calls: 1}}
  nested: {{strategy: race, models: [tier:fallback, sim/latency-5]}}
  halves:
    strategy: split
    unit: request
    arms: {{left: {{model: sim/left+latency-0+rate-0}}, right: {{model: sim/right+latency-0+rate-0}}}}
pricing:
  overrides:
    "sim/penny*": {{input_per_mtok_usd: 0, output_per_mtok_usd: 5}}
    "sim/left*": {{input_per_mtok_usd: 0.15, output_per_mtok_usd: 0.6}}
    "sim/right*": {{input_per_mtok_usd: 1.1, output_per_mtok_usd: 4.4}}
ledger: {{url: "sqlite:///ledger.db"}}
budgets: {{users: {{spender: 1}}, wait_s: 30}}
users: {{ada: {{experiments: {{one: [sim/chat]}}}}}}
"""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Under CI, a test that bears a cell of the README's table fails where it is skipped, or is expected to fail."""
    report = yield
    if report.skipped and os.environ.get("CI") == "true" and (cells := cells_of(item)):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} proves {cells} in README.md, and did not pass: {report.longrepr}"
        vars(report).pop("wasxfail", None)
    return report


@pytest.fixture(scope="package")
def upstream() -> Iterator[Upstream]:
    """The misbehaving upstream, on a loop of its own."""
    with running() as server:
        yield server


@pytest.fixture(scope="package")
def served(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The endpoint, with two coordinators."""
    config = Path(tmp_path_factory.mktemp("served")) / "config.yaml"
    config.write_text(CONFIG.format(port=upstream.port))
    endpoint = Served(config, "--replicas", "2")
    yield endpoint
    assert endpoint.stop() < 10
    assert endpoint.left() == []
