"""/metrics over HTTP, in one process."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from orchestrator.coordinator import Coordinator
from orchestrator.errors import Denied
from orchestrator.lasting import Lasting
from tests.upstream import Upstream
from tests.wire.conftest import Serve, Stack
from tests.wire.test_accounting import Book


async def scraped(stack: Stack) -> dict[tuple[str, ...], float]:
    """Name and sorted labels' values -> value."""
    answer = await stack.http.get("/metrics", headers={"accept": "text/plain"})
    assert (200, "text/plain; version=0.0.4; charset=utf-8") == (answer.status_code, answer.headers["content-type"])
    families = text_string_to_metric_families(answer.text)
    return {
        (one.name, *(value for _, value in sorted(one.labels.items()))): one.value
        for f in families
        for one in f.samples
    }


async def test_what_was_asked_is_counted(stack: Stack) -> None:
    """Whole and streamed answers, failures, retries and hedges, with how long they took."""
    for stream in (False, True):
        assert 200 == (await stack.chat("up/ok", stream=stream)).status_code
    assert 502 == (await stack.chat("up/unavailable")).status_code
    assert 200 == (await stack.chat("tier:hedge")).status_code
    found = await scraped(stack)
    assert 2 == found["orchestrator_requests_total", "ok", "up/ok", "first"]
    assert 2 == found["orchestrator_attempts_total", ["up", "unavailable"][1], "server_error", "up"]
    assert 1 == found["orchestrator_calls_total", "retry"]
    assert 1 == found["orchestrator_calls_total", "hedge"]
    assert 0.5 == found[("orchestrator_extra_calls_ratio",)]
    assert 3 == found[("orchestrator_request_seconds_count",)]
    assert 1 == found[("orchestrator_first_token_seconds_count",)]
    assert 4 == found[("orchestrator_overhead_seconds_count",)]
    assert 0 < found[("orchestrator_overhead_seconds_sum",)] < 1
    assert 0 == found["orchestrator_in_flight", "up"]


async def test_who_is_refused_is_counted_by_the_code(upstream: Upstream, serve: Serve) -> None:
    """It has no attempts and no outcome of a request."""
    stack = await serve({"providers": {"up": {"base_url": f"http://127.0.0.1:{upstream.port}/v1", "models": []}}})
    lasting = Lasting(counters=stack.above._counters, allowing=(Book(Denied(403, "budget_exceeded", "spent")),))
    stack.coordinator = Coordinator(stack.config, stack.runtime, stack.pools, lasting=lasting)
    assert 403 == (await stack.chat("up/ok")).status_code
    found = await scraped(stack)
    assert 1 == found["orchestrator_refused_total", "budget_exceeded"]
    assert [] == [name for name, *_ in found if name == "orchestrator_requests_total"]


async def test_openmetrics_is_given_to_who_accepts_it(stack: Stack) -> None:
    """By content negotiation; it ends as that format does."""
    answer = await stack.http.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert answer.text.endswith("# EOF\n")
