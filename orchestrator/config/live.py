"""A configuration file that may change while it is in use: the last good one stays until there is a better one.

A plain object that looks when it is told to; the control actor (`actors.control`) tells it to, several times a second.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from typing import NamedTuple

from orchestrator.config.load import load
from orchestrator.config.settings import Config
from orchestrator.errors import ConfigError

AGAIN_S = 30.0
"""How often it is read anew although it has not changed, while a provider was left out because nobody listened."""

_log = logging.getLogger("orchestrator.config")
_Signature = tuple[int, int, int]


class Snapshot(NamedTuple):
    """A configuration as it was published. Never changed afterwards."""

    version: int
    """Grows with each publication, also over restarts of whoever publishes: milliseconds since 1970, or one more."""
    config: Config


class Live:
    """What a file says, as far as it can be used."""

    def __init__(self, path: str, read: Callable[[str], Config] = load, clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self.snapshot: Snapshot | None = None
        self.problems: tuple[str, ...] = ()
        """Why the file as it is now cannot be used; empty: it is what was published."""
        self.problems_since: float | None = None
        """When they were seen, in seconds since 1970."""
        self._read = read
        self._clock = clock
        self._seen: _Signature | None = None
        """The file as it was at the last look."""
        self._done: _Signature | None = None
        """The file as it was when it was read."""
        self._looked_again_s = 0.0

    def look(self) -> bool:
        """Reads the file if it has changed and stopped changing. Says whether there is a new snapshot."""
        signature = self._signature()
        settled = signature == self._seen
        self._seen = signature
        if settled and signature != self._done:
            return self.reload()
        if self._waits_for_somebody() and self._clock() - self._looked_again_s >= AGAIN_S:
            return self.reload()
        return False

    def reload(self) -> bool:
        """Reads the file now. Says whether there is a new snapshot."""
        before = self._signature()
        self._looked_again_s = self._clock()
        try:
            config = self._read(self.path)
        except ConfigError as error:
            self._done = before
            if error.problems != self.problems:
                self.problems, self.problems_since = error.problems, self._clock()
                for problem in error.problems:
                    _log.error("the configuration was not taken over: %s", problem)
            return False
        if self._signature() != before:
            return False  # somebody is writing it: this may be half of it, and the next look will see
        self._done = before
        if self.problems:
            _log.info("the configuration %s is good again", self.path)
        self.problems, self.problems_since = (), None
        if self.snapshot is not None and config == self.snapshot.config:
            return False
        self.publish(config)
        return True

    def publish(self, config: Config, least: int = 0) -> None:
        """Makes it the snapshot, with a version over all before it."""
        before = 0 if self.snapshot is None else self.snapshot.version
        self.snapshot = Snapshot(max(before + 1, least, int(self._clock() * 1000)), config)

    def _signature(self) -> _Signature | None:
        try:
            stat = os.stat(self.path)
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_size, stat.st_ino

    def _waits_for_somebody(self) -> bool:
        left_out = {} if self.snapshot is None else self.snapshot.config.left_out
        return any(reason.startswith("nothing answers") for reason in left_out.values())
