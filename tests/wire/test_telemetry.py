"""Traces as a collector gets them over OTLP/HTTP, from one process."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from orchestrator.accounting import Asked, Ended
from orchestrator.asks import Ask
from orchestrator.config.load import load_mapping
from orchestrator.config.operations import Telemetry as Settings
from orchestrator.config.shown import shown
from orchestrator.drive import Record
from orchestrator.errors import ConfigError
from orchestrator.routes import Candidate
from orchestrator.telemetry import Telemetry
from orchestrator.tracing import begin
from orchestrator.types import Finish, Json, Reply, Request, Usage
from tests.collector import Collector, collecting
from tests.unit.test_counters import ROUTE, attempt
from tests.upstream import Upstream
from tests.wire.conftest import Serve, Stack

TRACE_ID, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as one:
        yield one


async def traced(upstream: Upstream, serve: Serve, collector: Collector, **telemetry: Any) -> Stack:
    address = f"http://127.0.0.1:{upstream.port}/v1"
    retry = {"attempts": 2, "backoff_s": 0.01, "backoff_max_s": 0.02}
    return await serve(
        {
            "providers": {
                "up": {"base_url": address, "models": [], "retry": retry},
                "mistral": {"base_url": address, "api_key": "none"},
            },
            "tiers": {"rescue": ["up/unavailable", "mistral/ok"]},
            "telemetry": {"otlp": collector.url, "headers": {"x-token": "s3cret"}, **telemetry},
        }
    )  # fmt: skip


async def told(stack: Stack) -> None:
    await asyncio.to_thread(stack.coordinator.lasting.telemetry.close)


async def test_a_request_and_its_attempts(upstream: Upstream, serve: Serve, collector: Collector) -> None:
    """One trace, that of the caller: each try is a span within the request's, and the provider was told of it."""
    stack = await traced(upstream, serve, collector)
    began_s = time.time()
    body = {
        "model": "tier:rescue",
        "messages": [{"role": "user", "content": "the question"}],
        "temperature": 0.5,
        "seed": 2**63,
    }
    headers = {"traceparent": f"00-{TRACE_ID}-{PARENT}-01", "x-request-id": "one"}
    answer = await stack.http.post("/v1/chat/completions", json=body, headers=headers)
    assert 200 == answer.status_code
    await told(stack)
    request, attempts = collector.of("one")
    assert ("chat tier:rescue", "SERVER", TRACE_ID, PARENT, False) == (
        request.name, request.kind, request.trace, request.parent, request.failed,
    )  # fmt: skip
    expected: Json = {
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "mistral_ai", "gen_ai.request.model": "tier:rescue",
        "gen_ai.request.stream": False, "gen_ai.request.temperature": 0.5, "gen_ai.response.model": "ok",
        "gen_ai.response.id": "up-1", "gen_ai.response.finish_reasons": ["stop"], "gen_ai.usage.input_tokens": 1,
        "gen_ai.usage.output_tokens": 3, "orchestrator.request_id": "one", "orchestrator.strategy": "fallback",
        "orchestrator.attempts": 3, "orchestrator.winner": "mistral/ok",
    }  # fmt: skip
    assert expected == request.said
    assert ["chat unavailable", "chat unavailable", "chat ok"] == [one.name for one in attempts]
    assert {("CLIENT", TRACE_ID, request.id)} == {(one.kind, one.trace, one.parent) for one in attempts}
    assert [True, True, False] == [one.failed for one in attempts]
    assert ["server_error", "server_error", None] == [one.said.get("error.type") for one in attempts]
    assert [503, 503, 200] == [one.said["http.response.status_code"] for one in attempts]
    assert ["up", "up", "mistral_ai"] == [one.said["gen_ai.provider.name"] for one in attempts]
    assert {("127.0.0.1", upstream.port)} == {(one.said["server.address"], one.said["server.port"]) for one in attempts}
    # What each try was told upstream is the identity of its span.
    assert [f"00-{TRACE_ID}-{one.id}-01" in seen.head for one, seen in zip(attempts, upstream.log, strict=True)] == [
        True
    ] * 3
    assert began_s <= request.start_s <= attempts[0].start_s <= attempts[-1].end_s <= request.end_s + 0.001
    assert "orchestrator" == request.resource["service.name"]
    assert ({"/v1/traces"}, "s3cret") == (collector.paths, collector.headers[0]["x-token"])
    assert "the question" not in str(collector.spans)


async def test_streams_and_failures(upstream: Upstream, serve: Serve, collector: Collector) -> None:
    """A stream has the time of its first token; a request that nobody answered is an error, one that was left is none."""
    stack = await traced(upstream, serve, collector)
    assert 200 == (await stack.chat("up/ok", stream=True)).status_code
    assert 502 == (await stack.chat("up/unavailable")).status_code
    task = asyncio.ensure_future(stack.chat("up/slow-5"))
    while not upstream.attempts("slow-5"):
        await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await told(stack)
    streamed, failed, left = [one for one in collector.spans if one.kind == "SERVER"]
    assert streamed.said["gen_ai.request.stream"]
    assert 0 < streamed.said["gen_ai.response.time_to_first_chunk"] < 1
    assert ["stop"] == streamed.said["gen_ai.response.finish_reasons"]
    assert (True, "server_error") == (failed.failed, failed.said["error.type"])
    assert (False, False) == (left.failed, "error.type" in left.said)
    assert "" == streamed.parent
    assert 3 == len({streamed.trace, failed.trace, left.trace})


async def test_what_else_is_known_is_said(serve: Serve, collector: Collector) -> None:
    """Costs, and whether they are estimates; cached and reasoning tokens; the arm of a split; what is not known is not."""
    stack = await serve({"providers": {"sim": {"simulate": {}}}, "telemetry": {"otlp": collector.url}})
    asked = Asked(Ask("tier:t", Request({}), None, "told"), ROUTE, stack.config, time.time())
    telemetry = stack.coordinator.lasting.telemetry
    spent: Json = {"cost_usd": 0.5, "cost_is_estimate": True, "first_token_s": 0.1}
    report = {
        "request_id": "told", "selector": "tier:t", "strategy": "split", "arm": "new", "winner": "sim/a", "cost_usd": 0.5,
        "attempts": [attempt(**spent), attempt("cancelled", latency_s=None, status=None)],
    }  # fmt: skip
    finish = Finish({"choices": [{"index": 0}]}, "a-1", Usage(1, 2, cached_tokens=3, reasoning_tokens=4))
    records = [Record(Candidate("sim", "a"), 0.0, 0.2, finish), Record(Candidate("sim", "a"), 0.0, 0.2)]
    trace = begin(None, 1.0)
    telemetry.ended(Ended(asked._replace(trace=trace), finish, report, 0.3, 0.1, {}, records))
    telemetry.ended(Ended(asked, finish, report, 0.3, 0.1, {}, records))  # it is not traced
    bare = Reply({"choices": "none"}, "a-2")
    untold = {**report, "attempts": [], "arm": None, "winner": None, "cost_usd": None}
    telemetry.ended(Ended(asked._replace(trace=begin(None, 1.0)), bare, untold, 0.3, None, {}, []))
    await told(stack)
    request, within = collector.of("told")
    assert (0.5, "new", 3, 4, "a-1") == tuple(
        request.said[name]
        for name in (
            "orchestrator.cost_usd", "orchestrator.arm", "gen_ai.usage.cache_read.input_tokens",
            "gen_ai.usage.reasoning.output_tokens", "gen_ai.response.model",
        )
    )  # fmt: skip
    assert [True, None] == [one.said.get("orchestrator.cost_is_estimate") for one in within]
    assert [None, None] == [one.said.get("server.address") for one in within]
    assert "gen_ai.response.finish_reasons" not in request.said
    (other,) = [one for one in collector.spans if one.said["gen_ai.request.model"] == "tier:t" and one.id != request.id]
    assert {"gen_ai.response.model", "orchestrator.attempts"} < set(other.said)
    assert set() == set(other.said) & {"orchestrator.winner", "orchestrator.cost_usd", "gen_ai.usage.input_tokens"}


async def test_what_is_not_sampled_costs_nothing(upstream: Upstream, serve: Serve, collector: Collector) -> None:
    """No span, and no header upstream; neither where the caller says so."""
    stack = await traced(upstream, serve, collector, sample=0)
    assert 200 == (await stack.chat("up/ok")).status_code
    unsampled = {"traceparent": f"00-{TRACE_ID}-{PARENT}-00"}
    body = {"model": "up/ok", "messages": [{"role": "user", "content": "x"}]}
    assert 200 == (await stack.http.post("/v1/chat/completions", json=body, headers=unsampled)).status_code
    await told(stack)
    assert ([], False) == (collector.spans, any("traceparent" in seen.head for seen in upstream.log))


async def test_the_headers_are_never_shown(upstream: Upstream, serve: Serve, collector: Collector) -> None:
    """They may hold credentials: /admin/config and whatever prints a configuration has their names alone."""
    stack = await traced(upstream, serve, collector)
    await told(stack)
    assert ["x-token"] == shown(stack.config)["telemetry"]["headers"]
    assert "s3cret" not in repr(stack.config) + str(shown(stack.config))


@pytest.mark.parametrize("url", ["collector:4318", "ftp://x", "http://user:pw@x:4318", "http://x:4318?key=pw"])
def test_an_address_is_one_without_credentials(url: str) -> None:
    """And says so without repeating it."""
    with pytest.raises(ConfigError, match=r"telemetry.otlp: has to") as raised:
        load_mapping({"providers": {"sim": {"simulate": {}}}, "telemetry": {"otlp": url}}, {})
    assert "pw" not in str(raised.value)


def test_standard_variables_count(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the configuration says nothing; switched off by the standard one, too."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    telemetry = Telemetry()
    telemetry.configure(Settings())
    assert telemetry._out is not None
    telemetry.flush()
    telemetry.close()
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    telemetry.configure(Settings())
    assert telemetry._out is None


def test_other_settings_take_over(collector: Collector) -> None:
    """The same ones change nothing; none end it, whether or not there was anything."""
    telemetry, seen = Telemetry(), []
    again = Settings(f"{collector.url}/v1/traces/", {"x": "y"})
    for wanted in (Settings(collector.url), Settings(collector.url), again, Settings()):
        telemetry.configure(wanted)
        seen.append(telemetry._out)
    first, same, other, none = seen
    assert (True, False, None) == (first is same, first is other, none)
    telemetry.flush()
    telemetry.close()


def test_a_missing_package_is_said_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """In one line, and requests go on."""
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    telemetry = Telemetry()
    with caplog.at_level(logging.WARNING, "orchestrator"):
        for _ in range(2):
            telemetry.configure(Settings("http://127.0.0.1:1"))
    (record,) = caplog.records
    assert "pip install 'orchestrator[otel]'" in record.getMessage()
    assert telemetry._out is None
