"""What holds where the endpoint has no keys."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from orchestrator.config.operations import CallerKey
from orchestrator.wire.access import CLOSED, Access, keyless_of
from orchestrator.wire.http import Refused, duration

KEYS = (CallerKey("a", "ab" * 32),)


def reason(*, client: Any = ("127.0.0.1", 5), host: bytes | None = None, access: Access | None = None) -> str:
    """Why a request is refused that comes to an endpoint without keys; empty: it is not."""
    headers = [(b"accept", b"*/*"), *([(b"host", host)] if host is not None else [])]
    try:
        (access or Access("here")).guard({"client": client, "headers": headers}, ())
    except Refused as refused:
        return f"{refused.status} {refused}"
    return ""


@pytest.mark.parametrize(
    "host", [b"localhost:8000", b"127.0.0.1:8000", b"[::1]:8000", b"LOCALHOST", b"api.localhost", None]
)
@pytest.mark.parametrize("client", [("127.0.0.1", 5), ("::1", 5, 0, 0)], ids=str)
def test_this_machine_by_a_name_of_its_own(client: Any, host: bytes | None) -> None:
    """May."""
    assert "" == reason(client=client, host=host)


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
def test_another_name(host: bytes) -> None:
    """May not: a page could have its own name mean this machine."""
    assert reason(host=host).startswith("403 without keys, the endpoint is to be asked for by a name of this machine")


@pytest.mark.parametrize("client", [("10.0.0.7", 5), None, ("", 5)])
def test_another_machine(client: Any) -> None:
    """May not, whatever name it asks for."""
    assert "403 without keys, only this machine may use the endpoint" == reason(client=client, host=b"localhost")


@pytest.mark.parametrize("client", [("10.0.0.7", 5), ("127.0.0.1", 5)])
def test_an_endpoint_that_lost_its_keys(client: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Is closed to everybody, this machine too, and says so; also in the log."""
    access = Access("nobody")
    access.taken(KEYS)
    assert [] == caplog.messages
    with caplog.at_level(logging.ERROR):
        access.taken(())
    assert [CLOSED] == caplog.messages
    assert f"401 {CLOSED}" == reason(client=client, access=access)


def test_with_keys_it_does_not_matter_where_from() -> None:
    """Nor where nothing is protected on purpose."""
    for keyless in ("here", "nobody", "anybody"):
        access = Access(keyless)
        access.guard({"client": ("10.0.0.7", 5), "headers": [(b"host", b"api.example")]}, KEYS)
    assert "" == reason(client=("10.0.0.7", 5), host=b"api.example", access=Access("anybody"))


def test_what_holds_when_keys_are_lost() -> None:
    """An application that began with keys is closed when a reload loses them, whoever deploys it; unless it says else."""
    cases = ((None, KEYS, "nobody"), (None, (), "anybody"), ("here", KEYS, "here"), ("nobody", (), "nobody"))
    assert [expected for *_, expected in cases] == [keyless_of(wanted, callers) for wanted, callers, _ in cases]
    with pytest.raises(ValueError, match="there is here, nobody, anybody, and no 'all'"):
        keyless_of("all", KEYS)


def test_durations_are_written_as_openai_does() -> None:
    """Rounded up: whoever waits so long has waited enough."""
    said = {0: "0ms", 0.1201: "121ms", 1: "1s", 11.2: "12s", 60: "1m0s", 360: "6m0s", 3601: "60m1s"}
    assert [*said.values()] == [duration(seconds) for seconds in said]
