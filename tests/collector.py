"""A collector of OpenTelemetry's, as far as tests need one: takes traces over OTLP/HTTP and keeps them decoded."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Wire


class Span(NamedTuple):
    """A span as it came."""

    name: str
    kind: str
    trace: str
    id: str
    parent: str
    """Empty: it has none."""
    start_s: float
    end_s: float
    failed: bool
    said: dict[str, Any]
    resource: dict[str, Any]


class Collector:
    """The server; `spans` has all that came."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.headers: list[dict[str, str]] = []
        self.paths: set[str] = set()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                collector.paths.add(self.path)
                collector.headers.append({name.lower(): value for name, value in self.headers.items()})
                collector._take(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def _take(self, request: ExportTraceServiceRequest) -> None:
        for group in request.resource_spans:
            resource = {one.key: _value(one.value) for one in group.resource.attributes}
            for scope in group.scope_spans:
                for span in scope.spans:
                    self.spans.append(
                        Span(
                            span.name,
                            Wire.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
                            span.trace_id.hex(),
                            span.span_id.hex(),
                            span.parent_span_id.hex(),
                            span.start_time_unix_nano / 1e9,
                            span.end_time_unix_nano / 1e9,
                            span.status.code == span.status.STATUS_CODE_ERROR,
                            {one.key: _value(one.value) for one in span.attributes},
                            resource,
                        )
                    )

    def of(self, request_id: str, seconds: float = 10.0) -> tuple[Span, list[Span]]:
        """The span of a request and those within it, in the order of their starts; waits for them to come."""
        deadline_s = time.monotonic() + seconds
        while True:
            for span in tuple(self.spans):
                if span.said.get("orchestrator.request_id") == request_id:
                    within = sorted((one for one in self.spans if one.parent == span.id), key=lambda one: one.start_s)
                    if len(within) == span.said["orchestrator.attempts"]:
                        return span, within
            assert time.monotonic() < deadline_s, f"there is no whole trace of {request_id}: {self.spans}"
            time.sleep(0.05)

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(one) for one in value.array_value.values]
    return getattr(value, kind)


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector, meanwhile."""
    collector = Collector()
    try:
        yield collector
    finally:
        collector.stop()
