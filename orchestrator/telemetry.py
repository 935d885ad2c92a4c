"""Spans of requests and their attempts, sent by OpenTelemetry's SDK over OTLP/HTTP.

Names are those of the GenAI semantic conventions (opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans, 1.37, in
development): a SERVER span for the request, as its caller sees it, and in it a CLIENT span for each attempt. No text of a
conversation is in them. They are made in the coordinator when the request has ended, from its report: 30 µs a request that is
traced. Whether it is, is decided before anything else is done.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import uuid4

from orchestrator.config import operations
from orchestrator.config.settings import Config
from orchestrator.tracing import Trace, attempt_id, begin, of_call
from orchestrator.types import Failure, FailureKind, Finish, Json, Reply, Request, Usage

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    from orchestrator.accounting import Ended
    from orchestrator.asks import Ask

PROVIDERS = {
    "azure": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
}
"""Values of gen_ai.provider.name that are other than our names of the providers."""
PARAMS = {
    "max_tokens": "gen_ai.request.max_tokens",
    "max_completion_tokens": "gen_ai.request.max_tokens",
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "seed": "gen_ai.request.seed",
    "n": "gen_ai.request.choice.count",
}
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
"""Its own variables (opentelemetry.io/docs/specs/otel/protocol/exporter): used where the configuration says nothing."""
_NO_ERROR = ("ok", FailureKind.CANCELLED.value)

_log = logging.getLogger("orchestrator.telemetry")


class Telemetry:
    """The spans of one process. Off until it is configured; an `orchestrator.accounting.Observer`."""

    def __init__(self) -> None:
        self._settings: operations.Telemetry | None = None
        self._out: _Out | None = None

    def configure(self, wanted: operations.Telemetry) -> None:
        """Goes on by these settings. The first time that there is an endpoint, the SDK is imported: 0.3 s."""
        if wanted == self._settings:
            return
        before, self._settings, self._out = self._out, wanted, None
        if before is not None:
            # What is left is sent; that may take a while.
            threading.Thread(target=before.close, daemon=True).start()
        if wanted.otlp is None and not any(map(os.environ.get, _ENDPOINTS)):
            return
        if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
            return
        try:
            self._out = _Out(wanted)
        except ImportError as error:
            _log.warning("no traces are sent: %s; `pip install 'orchestrator[otel]'` brings what is missing", error)

    def begin(self, ask: Ask, config: Config) -> Trace | None:
        """The trace of a request that begins; None: it is not traced."""
        return None if self._out is None else begin(ask.traceparent, config.telemetry.sample)

    def ended(self, ended: Ended) -> None:
        """See `orchestrator.accounting.Observer`."""
        if self._out is not None and ended.asked.trace is not None:
            self._out.send(ended, ended.asked.trace)

    def flush(self) -> None:
        """Sends what has not been sent yet. Blocks for 5 s at the most."""
        if self._out is not None:
            self._out.flush()

    def close(self) -> None:
        """The same, and ends it."""
        if self._out is not None:
            self._out.close()
            self._settings = self._out = None


class _Out:
    """OpenTelemetry's batching processor and exporter."""

    def __init__(self, wanted: operations.Telemetry) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope

        from orchestrator import __version__

        url = None
        if wanted.otlp is not None:
            url = wanted.otlp.rstrip("/")
            url = url if url.endswith("/v1/traces") else f"{url}/v1/traces"
        exporter = OTLPSpanExporter(endpoint=url, headers=dict(wanted.headers) or None)
        self._processor: BatchSpanProcessor = BatchSpanProcessor(exporter)
        own: Json = {"service.version": __version__, "service.instance.id": str(uuid4()), "process.pid": os.getpid()}
        name: Json = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": "orchestrator"}
        self._resource: Resource = Resource.create({**own, **name})
        self._scope = InstrumentationScope("orchestrator", __version__)
        atexit.register(self.close)

    def send(self, ended: Ended, trace: Trace) -> None:
        """Hands the spans of a request over; never blocks."""
        for span in _spans(ended, trace, self._resource, self._scope):
            self._processor.on_end(span)

    def flush(self) -> None:
        self._processor.force_flush(5_000)

    def close(self) -> None:
        atexit.unregister(self.close)
        self._processor.shutdown()  # type: ignore[no-untyped-call]


def _spans(ended: Ended, trace: Trace, resource: Resource, scope: Any) -> Iterator[ReadableSpan]:
    """The request's span, then those of its attempts."""
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

    trace_id, flags = int.from_bytes(trace.trace_id, "big"), TraceFlags(TraceFlags.SAMPLED)

    def context(span_id: bytes, *, remote: bool = False) -> SpanContext:
        return SpanContext(trace_id, int.from_bytes(span_id, "big"), remote, flags)

    def span(
        name: str,
        span_id: bytes,
        parent: SpanContext | None,
        kind: SpanKind,
        start_s: float,
        seconds: float,
        said: Json,
    ) -> ReadableSpan:
        status = Status(StatusCode.ERROR) if "error.type" in said else Status()
        start_ns = int(start_s * 1e9)
        end_ns = start_ns + int(seconds * 1e9)
        return ReadableSpan(
            name, context(span_id), parent, resource, said, kind=kind, status=status, start_time=start_ns,
            end_time=end_ns, instrumentation_scope=scope,
        )  # fmt: skip

    ask, report, at_s = ended.asked.ask, ended.report, ended.asked.at_s
    operation = ask.request.operation
    caller = None if trace.parent is None else context(trace.parent, remote=True)
    said = _of_request(ended)
    yield span(f"{operation} {ask.selector}", trace.span_id, caller, SpanKind.SERVER, at_s, ended.seconds, said)
    identities = (
        attempt_id(of_call(trace.context, call), attempt)
        for call, record in enumerate(ended.records)
        for attempt in range(len(() if record.outcome is None else record.outcome.tries) or 1)
    )
    within = context(trace.span_id)
    # Not strictly: an observer never raises, whatever a report leaves out.
    for span_id, attempt in zip(identities, report["attempts"], strict=False):
        name = f"{operation} {attempt['model']}"
        said = _of_attempt(ended, attempt)
        yield span(name, span_id, within, SpanKind.CLIENT, at_s + attempt["start_s"], attempt["latency_s"] or 0.0, said)


def _of_request(ended: Ended) -> Json:
    ask, report, outcome = ended.asked.ask, ended.report, ended.outcome
    said = {
        **_asked(ask.request, ask.selector),
        "orchestrator.request_id": ask.request_id,
        "orchestrator.strategy": report["strategy"],
        "orchestrator.attempts": len(report["attempts"]),
        **{name: ask.request.body[key] for key, name in PARAMS.items() if _is_number(ask.request.body.get(key))},
    }
    if report["winner"] is not None:
        said["gen_ai.provider.name"] = _provider(report["winner"].partition("/")[0])
        said["orchestrator.winner"] = report["winner"]
    if report["cost_usd"] is not None:
        said["orchestrator.cost_usd"] = report["cost_usd"]
    if arm := report.get("arm"):
        said["orchestrator.arm"] = arm
    if ended.first_token_s is not None:
        said["gen_ai.response.time_to_first_chunk"] = ended.first_token_s
    if isinstance(outcome, Failure):
        if outcome.kind is not FailureKind.CANCELLED:
            said["error.type"] = outcome.kind.value
    else:
        said |= _answered(outcome)
    if outcome.usage is not None:
        said |= _used(outcome.usage)
    return said


def _of_attempt(ended: Ended, attempt: Json) -> Json:
    provider, model, outcome = attempt["provider"], attempt["model"], attempt["outcome"]
    said = {
        **_asked(ended.asked.ask.request, model),
        "gen_ai.provider.name": _provider(provider),
        "orchestrator.provider": provider,
        "orchestrator.outcome": outcome,
    }
    known = ended.asked.config.providers.get(provider)
    if known is not None and known.base_url:
        parts = urlsplit(known.base_url)
        said["server.address"] = parts.hostname or ""
        said["server.port"] = parts.port or (443 if parts.scheme == "https" else 80)
    for name, key in (
        ("http.response.status_code", "status"),
        ("gen_ai.response.time_to_first_chunk", "first_token_s"),
        ("gen_ai.usage.input_tokens", "input_tokens"),
        ("gen_ai.usage.output_tokens", "output_tokens"),
        ("orchestrator.cost_usd", "cost_usd"),
    ):
        if attempt[key] is not None:
            said[name] = attempt[key]
    if attempt["cost_is_estimate"]:
        said["orchestrator.cost_is_estimate"] = True
    if outcome not in _NO_ERROR:
        said["error.type"] = outcome
    elif ended.report["winner"] == f"{provider}/{model}" and outcome == "ok" and not isinstance(ended.outcome, Failure):
        said |= _answered(ended.outcome)
    return said


def _asked(request: Request, model: str) -> Json:
    return {
        "gen_ai.operation.name": request.operation,
        "gen_ai.request.model": model,
        "gen_ai.request.stream": request.stream,
    }


def _answered(outcome: Reply | Finish) -> Json:
    body = outcome.body if isinstance(outcome, Reply) else outcome.last
    choices = body.get("choices")
    reasons = (
        [one.get("finish_reason") for one in choices if isinstance(one, dict)] if isinstance(choices, list) else []
    )
    said: Json = {"gen_ai.response.model": outcome.model}
    if reasons := [reason for reason in reasons if isinstance(reason, str)]:
        said["gen_ai.response.finish_reasons"] = reasons
    if isinstance(body.get("id"), str):
        said["gen_ai.response.id"] = body["id"]
    return said


def _used(usage: Usage) -> Json:
    said: Json = {
        "gen_ai.usage.input_tokens": usage.input_tokens,
        "gen_ai.usage.output_tokens": usage.output_tokens,
    }
    if usage.cached_tokens:
        said["gen_ai.usage.cache_read.input_tokens"] = usage.cached_tokens
    if usage.reasoning_tokens:
        said["gen_ai.usage.reasoning.output_tokens"] = usage.reasoning_tokens
    return said


def _provider(name: str) -> str:
    return PROVIDERS.get(name, name)


def _is_number(value: object) -> bool:
    """Whether it is one that the protocol has a place for, which is 64 bits wide."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**63
