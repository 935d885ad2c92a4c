"""An event loop whose clock goes on by itself when nobody has anything to do: hours pass at once."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _Selector(selectors.DefaultSelector):
    """Never waits: what would have been waited is on the clock."""

    now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout:
            self.now_s += timeout
        assert timeout is not None, "everybody waits for somebody else"
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """`time` is virtual; sleeps, time-outs and the order of what happens are as on a clock. For what opens no sockets."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        """Seconds since it was made."""
        return self._virtual.now_s


def run(main: Coroutine[Any, Any, T]) -> T:
    """Runs to the end, in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
