"""Where `orchestrator serve` may be bound, and what it says of it."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from actors import launch
from actors.launch import Address, address_of, flags, serve

KEYS = "server: {keys: [{name: a, key_sha256: " + "ab" * 32 + "}]}\n"
SIM = "providers: {sim: {simulate: {}}}\n"


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", (True, "127.0.0.1", "http://127.0.0.1:8000")),
        ("127.0.0.5", (True, "127.0.0.5", "http://127.0.0.5:8000")),
        ("::1", (True, "::1", "http://[::1]:8000")),
        ("0.0.0.0", (False, "0.0.0.0", "http://127.0.0.1:8000")),
        ("::", (False, "::0", "http://[::1]:8000")),
        ("10.1.2.3", (False, "10.1.2.3", "http://10.1.2.3:8000")),
        ("fd00::2", (False, "fd00::2", "http://[fd00::2]:8000")),
    ],
)
def test_addresses(host: str, expected: tuple[bool, str, str]) -> None:
    """Whether it is this machine's alone, how it is bound, and where it can be asked from here."""
    address = Address(host, 8000)
    assert expected == (address.local, address.bind, address.url)


def test_names_become_addresses() -> None:
    """`localhost` is IPv4's; what is no address of this machine, or taken, is an error."""
    assert "127.0.0.1" == address_of("localhost", 0).host
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match="in use"):
            address_of("127.0.0.1", taken.getsockname()[1])
    with pytest.raises(OSError):  # noqa: PT011 - its words are the system's
        address_of("192.0.2.1", 0)


def test_what_others_can_reach_needs_keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Refused before anything is started, with what to do; so is a host that is none."""
    config = tmp_path / "config.yaml"
    config.write_text(SIM)
    assert 2 == serve(str(config), "0.0.0.0", 0)
    said = capsys.readouterr().err
    assert said.startswith("--host: 0.0.0.0 can be reached by other machines, and the configuration asks for no keys")
    assert ("orchestrator key new" in said, "--insecure" in said) == (True, True)
    config.write_text(SIM + KEYS)
    assert 2 == serve(str(config), "no.such.host.invalid", 0)
    assert capsys.readouterr().err.startswith("--host: no.such.host.invalid is no address")


def test_the_endpoint_s_port_is_left_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the cluster's own services are given are other ports, each another one."""
    own = launch.free_port()
    monkeypatch.setattr(launch, "PORTS", range(own - 20, own + 20))
    for _ in range(50):
        monkeypatch.setattr(launch, "_given", set())
        ports = [int(value) for name, value in flags("/tmp/x", "x", own).items() if name.endswith("_PORT")]
        assert len({own, *ports}) == 1 + len(ports)


def test_no_port_is_given_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """By one process, that is, whether somebody uses it already or not."""
    monkeypatch.setattr(launch, "_given", set())
    found = [launch.free_port() for _ in range(100)]
    assert 100 == len(set(found))


def test_those_that_start_together_look_for_ports_in_different_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """None is given to two of them, although none of them uses it yet."""
    found: list[int] = []
    for process in range(40_000, 40_200):
        monkeypatch.setattr("os.getpid", lambda process=process: process)
        found += [int(value) for name, value in flags("/tmp/x", "x").items() if name.endswith("_PORT")]
    assert len(found) == len(set(found)) >= 200
