"""The coordinator's side of the ledger: what has ended is noted, gathered, and posted until it is acknowledged.

One batch is on its way at a time, the same one again and again until the ledger says that it is on disk; so nothing is lost
with a ledger that dies, and nothing is written twice. What a coordinator has not posted when it is killed itself is lost: the
last fifth of a second.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping
from uuid import uuid4

from orchestrator.accounting import Ended
from orchestrator.counters import ALERTS, LOST, Counters
from orchestrator.errors import Denied, LedgerFailed
from orchestrator.ledger.records import Batch, Note, Posted, RequestRecord, note, record_of, weight_of
from orchestrator.types import Json

EVERY_S = 0.2
"""How long a record waits for others to go with it. A batch takes 3 ms of CPU on its way, whatever is in it."""
MOST = 500
"""Records of a batch: so many are not waited for."""
CAPACITY = 10_000
"""Records that are kept while the ledger does not take any; of long texts fewer."""
QUIET_S = 1.0
"""How often a coordinator without anything to record says that it is there, and hears of changed keys."""
POST_S = 10.0
"""How long an acknowledgement is waited for; then the batch is posted again."""
UNSURE_S = 10.0
"""Without an acknowledgement for so long, a ledger that is required is held to be away."""
AGAIN_S = 0.1
AGAIN_MAX_S = 5.0
"""Between two attempts to post, at first and at most."""
RETRY_AFTER_S = 5.0

_log = logging.getLogger("orchestrator.ledger")


class Recorder:
    """An `Observer` of all requests of a process, which also says when no more may be begun: while a required ledger is away.

    `post` raises whatever keeps a batch from being acknowledged. Everything runs on one event loop.
    """

    def __init__(
        self,
        post: Callable[[Batch], Awaitable[Posted]],
        *,
        counters: Counters | None = None,
        required: bool = False,
        store_text: bool = False,
        capacity: int = CAPACITY,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.writer = uuid4().hex
        """Its name in the ledger."""
        self.required = required
        self.store_text = store_text
        self.told: Callable[[Posted], None] = _nobody
        """Called with each acknowledgement."""
        self.settled: Callable[[Mapping[str, int], Mapping[str, int]], None] = _neither
        """Called with what of accounts was spent and given back by then (`settle`)."""
        self._post = post
        self._counters = counters or Counters()
        self._capacity = capacity
        self._clock = clock
        self._notes: deque[Note] = deque()
        self._weight = 0
        self._spent: Counter[str] = Counter()
        self._returned: Counter[str] = Counter()
        self._sequence = 0
        self._number = 0
        self._some = asyncio.Event()
        """There is something to post."""
        self._many = asyncio.Event()
        """There is so much that nothing more is waited for."""
        self._idle = asyncio.Event()
        """All has been acknowledged."""
        self._idle.set()
        self._waiting_since_s: float | None = None
        """When the batch that is on its way was first posted."""
        self._problem: str | None = None
        """Why it was not acknowledged, which has been said."""
        self._behind = False
        """Whether records are being lost, which has been said."""
        self._under_way = 0
        """Records of the batch that is on its way."""
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to post."""
        self._task = asyncio.ensure_future(self._run())

    async def flush(self, limit_s: float) -> bool:
        """Posts what there is, and waits for it to be acknowledged. False: it was not, in so long."""
        self._many.set()
        return await _set(self._idle, limit_s)

    async def aclose(self, limit_s: float = 5.0) -> None:
        """Posts what there is, and ends. What is not acknowledged in so long is lost, and said."""
        assert self._task is not None
        self._closing = True
        self._some.set()
        self._many.set()
        await asyncio.wait((self._task,), timeout=limit_s)
        if not self._task.done():
            self._task.cancel()
            await asyncio.wait((self._task,))
            left = len(self._notes) + self._under_way
            self._counters.count(LOST, amount=left)
            why = self._problem or "it is busy"
            _log.error("the ledger did not acknowledge the last %d records within %g s: %s", left, limit_s, why)

    def check(self) -> None:
        """Raises Denied while a required ledger is away."""
        if self.required and (self._weight >= self._capacity or self._unsure()):
            why = f": {self._problem}" if self._problem is not None else ""
            message = f"requests have to be recorded, and the ledger does not take any at the moment{why}"
            raise Denied(503, "ledger_unavailable", message, RETRY_AFTER_S)

    def _unsure(self) -> bool:
        return self._waiting_since_s is not None and self._clock() - self._waiting_since_s > UNSURE_S

    def ended(self, ended: Ended) -> None:
        """See `orchestrator.accounting.Observer`."""
        # Of a ledger that is required, nothing is let go of: no new request is begun instead.
        if self._weight >= self._capacity and not self.required:
            self._lose()
            return
        noted = note(ended, texts=self.store_text)
        self._notes.append(noted)
        self._weight += weight_of(noted)
        if len(self._notes) == MOST:
            self._many.set()
        elif not self._some.is_set():
            self._begin()

    def _lose(self) -> None:
        self._counters.count(LOST)
        if not self._behind and self._problem is None:
            _log.error("the ledger takes records too slowly: what comes now is not recorded")
        self._behind = True

    def settle(self, account: str, *, spent: int = 0, returned: int = 0) -> None:
        """So many units of what was leased have been spent, or are given back; they go with the next batch."""
        self._spent[account] += spent
        self._returned[account] += returned
        self._begin()

    def _begin(self) -> None:
        self._some.set()
        self._idle.clear()

    def state(self) -> Json:
        """What /admin/spend shows of it."""
        return {"buffered": len(self._notes), "lost": int(self._counters.counted(LOST)), "problem": self._problem}

    async def _run(self) -> None:
        while True:
            await self._due()
            await self._deliver(self._batch())
            if not self._notes and not self._spent and not self._returned:
                self._some.clear()
                self._idle.set()
                if self._closing:
                    return

    async def _due(self) -> None:
        """Waits until there is a batch to post, or nothing to be said for long enough."""
        if await _set(self._some, QUIET_S):
            if len(self._notes) < MOST and not self._closing:
                await _set(self._many, EVERY_S)
            self._many.clear()

    def _batch(self) -> Batch:
        records: list[RequestRecord] = []
        for _ in range(min(MOST, len(self._notes))):
            noted = self._notes.popleft()
            self._weight -= weight_of(noted)
            self._number += 1
            try:
                records.append(record_of(f"{self.writer}-{self._number}", noted))
            except (ArithmeticError, LookupError, TypeError, ValueError):
                # One report that is not as it should be must not keep all others from being recorded.
                _log.exception("a request could not be recorded")
                self._counters.count(LOST)
        spent, self._spent = self._spent, Counter()
        returned, self._returned = self._returned, Counter()
        if not records and not spent and not returned:
            return Batch(self.writer, 0)
        self._sequence += 1
        return Batch(self.writer, self._sequence, tuple(records), +spent, +returned)

    async def _deliver(self, batch: Batch) -> None:
        """Posts a batch until it is acknowledged."""
        again_s = AGAIN_S
        self._under_way = len(batch.records)
        self._waiting_since_s = self._clock()
        while True:
            try:
                # Not wait_for, which in Python 3.11 forgets that it was cancelled where both come together.
                async with asyncio.timeout(POST_S):
                    posted = await self._post(batch)
            except Exception as error:
                # Whatever it was: the batch is kept, and posted again.
                self._failed(error)
                if isinstance(error, LedgerFailed) and not error.passes and batch.records:
                    # No database will ever take it: what was spent is told all the same, and what comes after it.
                    self._counters.count(LOST, amount=len(batch.records))
                    batch = batch._replace(records=())
            else:
                self._well()
                try:
                    self._tell(batch, posted)
                except Exception:
                    # A mistake of ours, which must not be the end of all records.
                    _log.exception("a batch was written, and could not be settled")
                return
            await asyncio.sleep(again_s)
            again_s = min(2 * again_s, AGAIN_MAX_S)

    def _tell(self, batch: Batch, posted: Posted) -> None:
        self.told(posted)
        for account, threshold in posted.alerts:
            self._counters.count(ALERTS, {"account": account, "threshold": threshold})
        self.settled(batch.spent, batch.returned)

    def _failed(self, error: Exception) -> None:
        first = self._problem is None
        self._problem = str(error) or type(error).__name__
        if first:
            then = (
                f"requests are refused if this lasts for {UNSURE_S:g} s"
                if self.required
                else f"requests are answered all the same; after the next {self._capacity} they are not recorded"
            )
            _log.error("the ledger takes no records: %s; %s", self._problem, then)

    def _well(self) -> None:
        assert self._waiting_since_s is not None
        caught_up = self._weight < self._capacity // 2
        if self._problem is not None or (self._behind and caught_up):
            lost = int(self._counters.counted(LOST))
            _log.warning("the ledger takes records again; %d requests were not recorded since the beginning", lost)
            self._behind = False
        self._problem = self._waiting_since_s = None
        self._under_way = 0


async def _set(event: asyncio.Event, limit_s: float) -> bool:
    """Waits for an event. False: it did not come in so long."""
    try:
        async with asyncio.timeout(limit_s):
            await event.wait()
    except TimeoutError:
        return False
    return True


def _nobody(_: Posted) -> None:
    return


def _neither(_spent: Mapping[str, int], _returned: Mapping[str, int]) -> None:
    return
