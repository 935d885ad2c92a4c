"""The ledger actor: the one process of a cluster that writes to the ledger's database.

A named, detached actor, like the pools. Its database comes by actor call, since the URL may hold a password, never as an
argument of its creation, which Ray shows. After a restart it has none, and says so; whoever asked brings it along and asks
again. What it has acknowledged is on disk; what it has not is posted again, and a batch that was written all the same is not
written twice. Left without any coordinator for `LONELY_S`, it ends itself.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from typing import Any, Literal

import ray
from ray.exceptions import RayError

from actors.pool import detached, on_the_head
from orchestrator.budgets.accounts import Answer as LeaseAnswer
from orchestrator.budgets.accounts import Ask
from orchestrator.config.ledger import without_password
from orchestrator.config.operations import Alerts
from orchestrator.config.operations import Ledger as Settings
from orchestrator.errors import LedgerFailed
from orchestrator.ledger.asking import Asking
from orchestrator.ledger.bookkeeper import Bookkeeper
from orchestrator.ledger.records import Batch, KeyRow, Posted, packed, unpacked
from orchestrator.ledger.store import Store
from orchestrator.types import Json

LONELY_S = 60.0
MAX_CONCURRENCY = 10_000
"""Of calls: those that wait for a lease must not keep the batches out that they wait for."""

_log = logging.getLogger("orchestrator.ledger")


Question = Literal["spend", "lease", "budgets", "keys", "put_key", "revoke_key", "keys_version"]
"""Methods of a bookkeeper's that coordinators may call."""


class Ledger:
    """The actor. Its methods run on one event loop. They return None where the database is not known (any more), and
    LedgerFailed instead of raising it: an exception would carry its stack along."""

    def __init__(self) -> None:
        self._url: str | None = None
        self._bookkeeper: Bookkeeper | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._asked_s = asyncio.get_running_loop().time()
        # From the beginning: whoever made it may be gone before it asks for anything.
        self._watch = asyncio.ensure_future(self._end_when_lonely())

    async def open(self, url: str, retention_days: int, alerts: Alerts) -> None:
        """Goes on with this database."""
        if self._bookkeeper is None or url != self._url:
            before, self._url = self._bookkeeper, url
            self._bookkeeper = Bookkeeper(Store(url), retention_days, alerts=alerts)
            self._bookkeeper.start()
            if before is not None:
                task = asyncio.ensure_future(before.aclose())
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)
        self._bookkeeper.retention_days = retention_days
        self._bookkeeper.alerts.rules = alerts

    async def post(self, batch: bytes) -> Posted | LedgerFailed | None:
        """Returns when a batch (`packed`) is on disk."""
        bookkeeper = self._asked()
        if bookkeeper is None:
            return None
        try:
            return await bookkeeper.post(unpacked(batch))
        except LedgerFailed as error:
            return error

    async def ask(self, what: Question, *arguments: Any) -> tuple[Any] | LedgerFailed | None:
        """What a method of the bookkeeper's gives: in a tuple, so that one that gives nothing is told from no database."""
        bookkeeper = self._asked()
        if bookkeeper is None:
            return None
        try:
            return (await getattr(bookkeeper, what)(*arguments),)
        except LedgerFailed as error:
            return error

    async def pid(self) -> int:
        """Its process, for those who look at what is left behind."""
        return os.getpid()

    def _asked(self) -> Bookkeeper | None:
        self._asked_s = asyncio.get_running_loop().time()
        return self._bookkeeper

    async def _end_when_lonely(self) -> None:
        while True:
            await asyncio.sleep(1)
            if asyncio.get_running_loop().time() - self._asked_s > LONELY_S:
                _log.info("no coordinator any more: the ledger ends")
                if self._bookkeeper is not None:
                    await self._bookkeeper.aclose()
                ray.kill(ray.get_runtime_context().current_actor, no_restart=True)


def actor_name(url: str) -> str:
    """The name of a database's ledger in the namespace `orchestrator`: another database is another actor."""
    return f"ledger:{hashlib.sha256(without_password(url).encode()).hexdigest()[:12]}"


def find_or_make(url: str) -> Any:
    """The handle of a database's ledger; the first who asks makes it. Blocks."""
    # A file is where the head is: coordinators may be anywhere, and a restart may not lead elsewhere.
    here = on_the_head() if url.startswith("sqlite:") else None
    return detached(Ledger, actor_name(url), max_concurrency=MAX_CONCURRENCY, resources=here)


class RayDesk:
    """`orchestrator.ledger.keeping.Desk` over the actor, whatever happens to it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._handle: Any = None

    def configure(self, settings: Settings) -> None:
        """See `Desk.configure`."""
        self._settings = settings
        self._handle = None  # the next call tells the actor

    async def post(self, batch: Batch) -> Posted:
        """See `Desk.post`."""
        posted: Posted = await self._call("post", packed(batch))
        return posted

    async def spend(self, asked: Asking) -> Json:
        """See `Desk.spend`."""
        answer: Json = await self._ask("spend", asked)
        return answer

    async def lease(self, ask: Ask, wait_s: float) -> LeaseAnswer:
        """See `Desk.lease`."""
        answer: LeaseAnswer = await self._ask("lease", ask, wait_s)
        return answer

    async def budgets(self) -> list[Json]:
        """See `Desk.budgets`."""
        rows: list[Json] = await self._ask("budgets")
        return rows

    async def keys(self) -> tuple[KeyRow, ...]:
        """See `Desk.keys`."""
        rows: tuple[KeyRow, ...] = await self._ask("keys")
        return rows

    async def put_key(self, row: KeyRow) -> None:
        """See `Desk.put_key`."""
        await self._ask("put_key", row)

    async def revoke_key(self, name: str, at_s: float) -> bool:
        """See `Desk.revoke_key`."""
        revoked: bool = await self._ask("revoke_key", name, at_s)
        return revoked

    async def keys_version(self) -> int:
        """See `Desk.keys_version`."""
        version: int = await self._ask("keys_version")
        return version

    async def aclose(self) -> None:
        """See `Desk.aclose`: the actor ends when nobody posts to it any more."""

    async def _ask(self, what: Question, *arguments: object) -> Any:
        return (await self._call("ask", what, *arguments))[0]

    async def _call(self, method: Literal["post", "ask"], *arguments: object) -> Any:
        try:
            handle = await self._reached()
            came = await getattr(handle, method).remote(*arguments)
            if came is None:
                await self._opened(handle)
                came = await getattr(handle, method).remote(*arguments)
        except (RayError, ValueError) as error:
            # It is being restarted, or has ended itself: it is found or made again.
            self._handle = None
            raise LedgerFailed(f"the ledger's actor is away ({type(error).__name__})") from None
        if came is None:
            # Nothing was acknowledged, and nothing asked: whoever called keeps what it had to say.
            raise LedgerFailed("the ledger's actor was restarted, and restarted again")
        if isinstance(came, LedgerFailed):
            raise came
        return came

    async def _reached(self) -> Any:
        if self._handle is None:
            handle = await asyncio.to_thread(find_or_make, self._settings.url)
            await self._opened(handle)
            self._handle = handle
        return self._handle

    async def _opened(self, handle: Any) -> None:
        settings = self._settings
        await handle.open.remote(settings.url, settings.retention_days, settings.alerts)
