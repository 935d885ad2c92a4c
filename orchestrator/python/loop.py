"""An event loop in a thread of its own, on which plain calls have things run."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future, wait
from functools import partial
from typing import Any, TypeVar

from orchestrator.errors import OrchestratorError

T = TypeVar("T")
CANCEL_S = 5.0
"""How long a call that was interrupted may take to end what it had started."""


class Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="orchestrator", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        try:
            self._loop.run_forever()
        finally:
            # Here, since the thread that closes it may have a loop of its own running.
            self._loop.run_until_complete(_cancel_others())  # what came from another thread at the last moment
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
            self._loop.close()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Waits for what runs there; interrupted (Ctrl-C), it is cancelled first. Raises OrchestratorError in that thread."""
        if threading.current_thread() is self._thread:
            coroutine.close()
            raise OrchestratorError(
                "plain calls would wait for themselves here: use the asynchronous API, or a plain function"
            )
        result: Future[T] = Future()
        tasks: list[asyncio.Task[T]] = []

        def begin() -> None:
            tasks.append(self._loop.create_task(coroutine))
            tasks[0].add_done_callback(partial(_hand_over, result))

        def cancel() -> None:
            tasks[0].cancel()  # there by then: what a loop is told runs in that order

        self._loop.call_soon_threadsafe(begin)
        try:
            return result.result()
        except BaseException:
            if not result.done():
                self._loop.call_soon_threadsafe(cancel)
                wait([result], CANCEL_S)
            raise

    def close(self) -> None:
        """Ends it. What still runs there is cancelled."""
        self.run(_cancel_others())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()


def _hand_over(result: Future[T], task: asyncio.Task[T]) -> None:
    """What came of a task becomes the result that another thread waits for."""
    if task.cancelled():
        result.cancel()
        result.set_running_or_notify_cancel()
    elif (error := task.exception()) is not None:
        result.set_exception(error)
    else:
        result.set_result(task.result())


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
