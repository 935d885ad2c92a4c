"""Hosts on this machine hear each other, by their addresses alone, and not once they are cut off; what is called on one can
be given up."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

import pytest

from tests.hosts import Hosts, need_hosts

LISTEN = "import socket; s = socket.create_server(('', 9999)); print('up', flush=True); s.accept()[0].sendall(b'here')"
ASK = "import socket, sys; s = socket.create_connection((sys.argv[1], 9999), 2); print(s.recv(9).decode())"


def test_hosts() -> None:
    need_hosts()
    with Hosts(2) as (one, two):
        listening = one.start([sys.executable, "-c", LISTEN], stdout=-1)
        assert listening.stdout is not None
        assert listening.stdout.readline() == "up\n"
        assert "refused" in two.run([sys.executable, "-c", ASK, "127.0.0.1"]).stderr
        assert two.run([sys.executable, "-c", ASK, one.address]).stdout == "here\n"
        two.cut()
        assert "unreachable" in two.run([sys.executable, "-c", ASK, one.address]).stderr
        assert listening.wait(10) == 0
        listening.stdout.close()
        left = one.start(["sleep", "100"])
        while not one.processes():
            pass
    assert left.wait(10) == -9
    assert one.processes() == []


def test_a_call_that_is_given_up() -> None:
    """By a time-out that is raised in the main thread: what was called may go on for ever, and nobody waits for it."""
    need_hosts()
    ended = threading.Event()

    def give_up(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGUSR1, give_up)
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGUSR1))
    try:
        with Hosts(1) as (one,):
            assert "there" == one.call(lambda: "there")
            timer.start()
            began_s = time.monotonic()
            with pytest.raises(TimeoutError):
                one.call(lambda: ended.wait(20))
            assert time.monotonic() - began_s < 10
    finally:
        ended.set()
        timer.join()
        signal.signal(signal.SIGUSR1, before)
