"""The items of a worker: they come in blocks, go out as pairs to be asked, and leave again when all their arms are done.

Items are begun in the order in which they came, whichever block they are of: while the slowest of one block are waited for,
the window is filled from the next.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

import orjson

from orchestrator.batch.blocks import Chosen
from orchestrator.batch.items import Item, Wrong, item_of
from orchestrator.batch.planning import Judging, Worst, pair_of
from orchestrator.batch.schedule import Pair
from orchestrator.batch.spec import Spec
from orchestrator.types import Json


class Done(NamedTuple):
    """An item that leaves."""

    item: str
    """Its id, which counts as done where there are lines; empty: it was given up when some of its arms were done, and so is
    not, but for those."""
    lines: bytes | None
    """Those of its arms, as JSONL; None: it was not wanted, or given up before any of them was done."""


class _Open:
    """An item on its way."""

    __slots__ = ("lines", "waits")

    def __init__(self, waits: int) -> None:
        self.waits = waits
        self.lines: list[bytes] = []


class Feed:
    """See the module. `done` takes each item that came in, exactly once."""

    def __init__(
        self,
        spec: Spec,
        worst: Worst,
        done: Callable[[Done], None],
        *,
        judging: Judging | None = None,
        chosen: Chosen | None = None,
        had: Mapping[str, frozenset[str]] | None = None,
    ) -> None:
        self._spec = spec
        self._worst = worst
        self._judging = judging
        self._done = done
        self._chosen = chosen
        self._had = had or {}
        """The arms that an item has lines of already."""
        self._open: dict[str, _Open] = {}
        self._queues: dict[str, deque[Item]] = {arm: deque() for arm in spec.selectors()}
        self._over = False

    @property
    def idle(self) -> bool:
        """Whether no item is on its way."""
        return not self._open

    def arms(self) -> Mapping[str, Iterator[Pair | None]]:
        """What a schedule takes from."""
        return {arm: self._pairs(arm) for arm in self._spec.selectors()}

    def _pairs(self, arm: str) -> Iterator[Pair | None]:
        queue = self._queues[arm]
        while True:
            if not queue:
                yield None
                continue
            yield pair_of(queue.popleft(), arm, self._spec, self._worst, self._judging)

    def add(self, rows: Iterable[tuple[str, bytes]]) -> None:
        """Items come in: their ids and lines."""
        for name, content in rows:
            if self._over or (self._chosen is not None and name not in self._chosen):
                self._done(Done(name, None))
                continue
            had = self._had.get(name, frozenset())
            wanted = [queue for arm, queue in self._queues.items() if arm not in had]
            if not wanted:
                self._done(Done(name, b""))
                continue
            try:
                item = item_of(0, content)
                if name in self._open:
                    raise Wrong("id: stands twice")
            except Wrong:
                # It was looked at before, and has changed since: it is left to the next run, which says so.
                self._done(Done(name, None))
                continue
            self._open[name] = _Open(len(wanted))
            for queue in wanted:
                queue.append(item)

    def write(self, line: Json) -> None:
        """A pair of its items is done."""
        name = line["item"]
        item = self._open.get(name)
        if item is None:
            return  # it was given up meanwhile
        item.lines.append(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
        item.waits -= 1
        if not item.waits:
            del self._open[name]
            self._done(Done(name, b"".join(item.lines)))

    def give_up(self) -> None:
        """Whatever is here leaves, and whatever comes; lines that have come are kept, since they were paid for."""
        self._over = True
        for queue in self._queues.values():
            queue.clear()
        given_up, self._open = self._open, {}
        for name, item in given_up.items():
            self._done(Done("", b"".join(item.lines)) if item.lines else Done(name, None))
