"""Some of the wrong requests of tests/wire/test_wrong_requests.py through the real port."""

from __future__ import annotations

import httpx
import pytest

from bench.serving import Served
from tests.wire.test_wrong_requests import BASE, BODIES, CASES, told

NAMES = (
    "tools as text",
    "a schema: a type far within",
    "a temperature out of all bounds",
    "tokens beyond sense",
    "five stops",
)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("path", BASE)
def test_a_body_that_is_no_json(served: Served, path: str, stream: bool) -> None:
    """400 with what it is, in the caller's own shape."""
    for added, words in BODIES.values():
        content = f'{{"model": "sim/chat", "stream": {str(stream).lower()}, {added}}}'.encode("latin-1")
        status, kind, _, message = told(path, httpx.post(f"{served.url}/{path}?beta=true", content=content))
        assert (400, "invalid_request_error", True) == (status, kind, words in message), message


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(("path", "name"), [(path, name) for name in NAMES for path in CASES[name][0]])
def test_a_field_that_is_wrong(served: Served, path: str, name: str, stream: bool) -> None:
    """400 with its place, and `x-request-id`, before any event."""
    fields, params = CASES[name]
    answer = httpx.post(
        f"{served.url}/{path}", json={"model": "sim/chat", "stream": stream, **BASE[path], **fields[path]}
    )
    assert (400, "invalid_request_error", params[path]) == told(path, answer)[:3]
    assert answer.headers["x-request-id"]
