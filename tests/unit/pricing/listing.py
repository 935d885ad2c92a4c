"""A server of OpenRouter's list: the real one's shape, or what may come instead."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

LISTED = (Path(__file__).resolve().parents[2] / "golden" / "openrouter_models.json").read_bytes()
"""Made after openrouter.ai/api/v1/models as it was on 2026-11-25: its fields, as far as prices go, and its spellings."""


class Listing(ThreadingHTTPServer):
    """`answer` is what comes next: a status and a body, in parts."""

    answer: tuple[int, list[bytes]] = 200, [LISTED]
    pause_s = 0.0
    """Between parts."""
    asked = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/api/v1/models"


class _Handler(BaseHTTPRequestHandler):
    server: Listing

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.server.asked += 1
        status, parts = self.server.answer
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.end_headers()
        try:
            for part in parts:
                self.wfile.write(part)
                time.sleep(self.server.pause_s)
        except OSError:
            return  # who had heard enough


@contextmanager
def listing() -> Iterator[Listing]:
    """Serves the list on this machine."""
    server = Listing(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
