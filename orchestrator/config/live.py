"""A configuration file that may change while it is in use: the last good one stays until there is a better one.

The same holds for each file of its users' folder, by itself: see `orchestrator.config.users`. The cache of prices is looked
at with the file itself: new prices make a new snapshot.

A plain object that looks when it is told to; the control actor (`actors.control`) tells it to, several times a second.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from orchestrator.config.load import load_file
from orchestrator.config.settings import Config, Tier
from orchestrator.config.users import Folder, Loaded, with_users
from orchestrator.errors import ConfigError

AGAIN_S = 30.0
"""How often it is read anew although it has not changed, while a provider was left out because nobody listened."""

_log = logging.getLogger("orchestrator.config")
_Signature = tuple[tuple[int, int, int], tuple[int, int, int] | None]
"""Of the file, and of the cache of prices, if there is one."""


class Snapshot(NamedTuple):
    """A configuration as it was published. Never changed afterwards."""

    version: int
    """Grows with each publication, also over restarts of whoever publishes: milliseconds since 1970, or one more."""
    config: Config


class Live:
    """What a file says, and its users' files, as far as they can be used."""

    def __init__(
        self, path: str, read: Callable[[str], Config] = load_file, clock: Callable[[], float] = time.time
    ) -> None:
        self.path = path
        self.snapshot: Snapshot | None = None
        self.problems: tuple[str, ...] = ()
        """Why the file as it is now cannot be used; empty: it is what was published."""
        self.user_problems: Mapping[str, tuple[str, ...]] = {}
        """User -> why the file as it is now cannot be used; the others' are what was published."""
        self.problems_since: float | None = None
        """When they were seen, in seconds since 1970."""
        self.unsure = False
        """Whether a user's file could not be used from the start: what it last said is known to whoever was there before."""
        self._read = read
        self._clock = clock
        self._main: Config | None = None
        """What the file says by itself, when it was last good."""
        self._folder: Folder | None = None
        self._seen: _Signature | None = None
        """The file as it was at the last look."""
        self._done: _Signature | None = None
        """The file as it was when it was read."""
        self._looked_again_s = 0.0

    def look(self) -> bool:
        """Reads what has changed and stopped changing. Says whether there is a new snapshot."""
        signature = self._signature()
        settled = signature == self._seen
        self._seen = signature
        again = self._waits_for_somebody() and self._clock() - self._looked_again_s >= AGAIN_S
        changed = ((settled and signature != self._done) or again) and self._read_main()
        if self._folder is not None and self._folder.look():
            changed = True
        return changed and self._take()

    def reload(self) -> bool:
        """Reads everything now. Says whether there is a new snapshot."""
        changed = self._read_main()
        if self._folder is not None and self._folder.look(at_once=True):
            changed = True
        return changed and self._take()

    def _read_main(self) -> bool:
        """Reads the file itself. Says whether it can be used and says something else than before."""
        before = self._signature()
        self._looked_again_s = self._clock()
        try:
            config = self._read(self.path)
        except ConfigError as error:
            self._done = before
            for problem in error.problems if error.problems != self.problems else ():
                _log.error("the configuration was not taken over: %s", problem)
            self._note(error.problems, self.user_problems)
            return False
        if self._signature() != before:
            return False  # somebody is writing it: this may be half of it, and the next look will see
        self._done = before
        if self.problems:
            _log.info("the configuration %s is good again", self.path)
        self._note((), self.user_problems)
        if config == self._main:
            return False
        self._follow(config)
        return True

    def _follow(self, config: Config) -> None:
        self._main = config
        if config.users_folder is None:
            self._folder = None
        elif self._folder is None or self._folder.path != config.users_folder:
            self._folder = Folder(config.users_folder)
            self._folder.look(at_once=True)

    def _take(self, former: Mapping[str, Tier] | None = None) -> bool:
        """Makes a snapshot of the file and its users' files, unless it would say the same as the last one.

        `former`: the experiments that stay where a user's file is broken; left out: those of the last snapshot.
        """
        assert self._main is not None
        last = None if self.snapshot is None else self.snapshot.config
        if former is None:
            former = {} if last is None else last.experiments
        loaded = Loaded(self._main, {}) if self._folder is None else with_users(self._main, self._folder, former)
        self.unsure = self.unsure or (last is None and bool(loaded.problems))
        for user, problems in loaded.problems.items():
            for problem in problems if problems != self.user_problems.get(user) else ():
                _log.error("the experiments of '%s' were not taken over: %s", user, problem)
        for user in self.user_problems.keys() - loaded.problems.keys():
            _log.info("the experiments of '%s' are good again, or gone", user)
        self._note(self.problems, loaded.problems)
        if loaded.config == last:
            return False
        self.publish(loaded.config)
        return True

    def _note(self, problems: tuple[str, ...], user_problems: Mapping[str, tuple[str, ...]]) -> None:
        if (problems, user_problems) != (self.problems, self.user_problems):
            self.problems, self.user_problems = problems, user_problems
            self.problems_since = self._clock() if problems or user_problems else None

    def publish(self, config: Config, least: int = 0) -> None:
        """Makes it the snapshot, with a version over all before it."""
        before = 0 if self.snapshot is None else self.snapshot.version
        self.snapshot = Snapshot(max(before + 1, least, int(self._clock() * 1000)), config)

    def restore(self, snapshot: Snapshot) -> bool:
        """Takes over what is lacking here from somebody who was there before. Says whether there is a new snapshot."""
        if self.snapshot is None:
            self.snapshot = snapshot
            self._follow(snapshot.config)
            self._take()
            return True
        if not self.unsure:
            return False
        self.unsure = False
        return self._take({**snapshot.config.experiments, **self.snapshot.config.experiments})

    def _signature(self) -> _Signature | None:
        file = _stat(self.path)
        cache = "" if self._main is None else self._main.prices.cache
        return None if file is None else (file, _stat(cache) if cache else None)

    def _waits_for_somebody(self) -> bool:
        left_out = {} if self.snapshot is None else self.snapshot.config.left_out
        return any(reason.startswith("nothing answers") for reason in left_out.values())


def _stat(path: str) -> tuple[int, int, int] | None:
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino
