"""What the actors of `orchestrator serve` warn of, on the terminal that it was started in.

Ray keeps what actors write to standard error in files that nobody looks at. So they send warnings to a socket in the private
folder as well (`orchestrator.logs.ToSocket`), and a thread of the serving process prints them. Nothing waits for it: what it
does not take in time, or once it is gone, is in those files alone.
"""

from __future__ import annotations

import socket
import threading
from typing import TextIO

MAX_BYTES = 64 * 1024


class Terminal:
    """Prints the lines that come to a socket."""

    def __init__(self, path: str, out: TextIO) -> None:
        self._path = path
        self._out = out
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(path)
        self._thread = threading.Thread(target=self._print, daemon=True)
        self._thread.start()

    def _print(self) -> None:
        with self._socket:
            self._print_all()

    def _print_all(self) -> None:
        while line := self._socket.recv(MAX_BYTES):
            # Of what is in a message, some may be a provider's: nothing of it controls the terminal.
            text = "".join(c if c.isprintable() or c in "\n\t" else "?" for c in line.decode(errors="replace"))
            try:
                print(text, file=self._out, flush=True)
            except OSError:
                continue  # nobody reads it any more: the next may find somebody

    def close(self) -> None:
        """Prints what has come, and ends."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.settimeout(1)
            try:
                last.sendto(b"", self._path)
                self._thread.join(1)
            except OSError:
                pass  # it is held up by who reads it; as a daemon, it ends with the process
