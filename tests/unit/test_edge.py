"""What is refused before the application sees it, where no key protects the endpoint."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from actors import edge


async def ask(monkeypatch: pytest.MonkeyPatch, *, client: Any = ("127.0.0.1", 5), host: bytes | None = None) -> Any:
    """What a request comes to: the reason that it is refused for, or the headers that reach the application."""
    monkeypatch.setattr(edge, "loopback_only", True)
    sent: list[Any] = []

    async def app(scope: Any, _receive: Any, _send: Any) -> None:
        sent.append(scope["headers"])

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            sent.append(orjson.loads(message["body"])["error"]["message"])

    headers = [(b"x-request-timeout-seconds", b"1"), *([(b"host", host)] if host is not None else [])]
    guard: Any = edge.Guard(app)
    await guard({"type": "http", "client": client, "headers": headers}, None, send)
    (one,) = sent
    return one


@pytest.mark.parametrize(
    "host", [b"localhost:8000", b"127.0.0.1:8000", b"[::1]:8000", b"LOCALHOST", b"api.localhost", None]
)
async def test_this_machine_by_a_name_of_its_own(monkeypatch: pytest.MonkeyPatch, host: bytes | None) -> None:
    """Goes through, without the headers that Serve would obey."""
    expected = [] if host is None else [(b"host", host)]
    assert expected == await ask(monkeypatch, host=host)


@pytest.mark.parametrize(
    "host",
    [
        b"evil.example",
        b"evil.example:8000",
        b"localhost.evil.example",
        b"127.evil.example",
        b"127.0.0.1.nip.io",
        b"[::1",
        b"",
        b"0.0.0.0",
    ],
)
async def test_another_name(monkeypatch: pytest.MonkeyPatch, host: bytes) -> None:
    """Refused: a page could have its own name mean this machine."""
    assert "by a name of this machine" in await ask(monkeypatch, host=host)


@pytest.mark.parametrize("client", [("10.0.0.7", 5), None, ("", 5)])
async def test_another_machine(monkeypatch: pytest.MonkeyPatch, client: Any) -> None:
    """Refused, whatever name it asks for."""
    assert "only this machine" in await ask(monkeypatch, client=client, host=b"localhost")
