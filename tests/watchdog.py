"""Ends a process of tests in which one test does not end.

pytest-timeout raises an exception in the test, once: that is lost where code waits outside Python (`ray.shutdown`), where an
event loop catches it for a callback, and for a fixture that is torn down after it. All of those would hang a run for ever.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import sys
import threading
import time

import psutil


class Watchdog:
    """Of a test that has not ended in its time, fixtures included: says its name and where each thread is, kills the
    process's descendants, and ends it with status 70. pytest-xdist has the test failed then, and goes on with the others."""

    def __init__(self) -> None:
        self._running: tuple[str, float, float] | None = None
        # Tests capture what is written as standard error; this is the terminal's, of workers as of a process without.
        self._terminal = os.fdopen(os.dup(2), "w")
        threading.Thread(target=self._watch, daemon=True, name="watchdog").start()

    def begin(self, test: str, limit_s: float) -> None:
        """A test begins that may take so long."""
        self._running = (test, limit_s, time.monotonic() + limit_s)

    def end(self) -> None:
        """It has ended, or is not to be watched any more."""
        self._running = None

    def _watch(self) -> None:
        while True:
            time.sleep(1)
            running = self._running
            if running is not None and time.monotonic() > running[2]:
                self._kill(*running[:2])

    def _kill(self, test: str, limit_s: float) -> None:
        print(f"\nWATCHDOG: {test} did not end in {limit_s:g} s", file=self._terminal, flush=True)
        faulthandler.dump_traceback(self._terminal, all_threads=True)
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                print(f"WATCHDOG: killed {process.pid} {process.name()}", file=self._terminal, flush=True)
                process.kill()
        sys.stdout.flush()
        os._exit(70)
