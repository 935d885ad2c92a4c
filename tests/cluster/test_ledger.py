"""The ledger's actor: killed, found by many, alone."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config.operations import Alerts, Ledger
from orchestrator.errors import LedgerFailed
from orchestrator.ledger.asking import Asking
from orchestrator.ledger.recorder import Recorder
from orchestrator.ledger.records import Batch, Posted, packed
from orchestrator.ledger.spend import spend
from orchestrator.ledger.store import Store
from tests.unit.ledger.making import ended, request


@pytest.fixture
def opened(cluster: Any) -> Callable[[str], Any]:
    """Makes desks by their databases' URLs."""
    from actors.ledger import RayDesk

    return lambda url: RayDesk(Ledger(url))


@pytest.fixture
def desk(opened: Callable[[str], Any], tmp_path: Path) -> Any:
    """To an actor of the test's own."""
    return opened(f"sqlite:///{tmp_path}/ledger.db")


async def killed(desk: Any) -> None:
    """kill -9 of the actor's process, once it answers."""
    from ray.exceptions import RayError

    pid = None
    async with asyncio.timeout(30):
        while pid is None:
            await asyncio.sleep(0.05)
            with suppress(RayError):
                pid = desk._handle and await desk._handle.pid.remote()
    os.kill(pid, signal.SIGKILL)


async def test_nothing_is_lost_with_an_actor_that_is_killed(desk: Any, tmp_path: Path) -> None:
    """Three coordinators post while it is killed twice: each request is there, and once."""
    recorders = [Recorder(desk.post) for _ in range(3)]
    for recorder in recorders:
        recorder.start()
    for round_ in range(60):
        for recorder in recorders:
            for _ in range(10):
                recorder.ended(ended(user=f"u{round_ % 3}"))
        await asyncio.sleep(0.02)
        if round_ in (15, 40):
            await killed(desk)
    for recorder in recorders:
        assert await recorder.flush(30)
        await recorder.aclose()
        assert 0 == recorder.state()["lost"]
    with closing(Store(f"sqlite:///{tmp_path}/ledger.db")) as store:
        found = spend(store, Asking("user"))
    assert (1_800, 9e-5) == (found["total"]["requests"], found["total"]["cost_usd"])
    assert [("u0", 3e-5), ("u1", 3e-5), ("u2", 3e-5)] == [(row["user"], row["cost_usd"]) for row in found["rows"]]


async def test_what_was_written_and_not_acknowledged_is_not_written_again(desk: Any) -> None:
    """An actor that was killed after it had written knows the batch by its number."""
    batch = Batch("w", 1, (request("w-1"),), {"x": 5})
    assert Posted(1, 0) == await desk.post(batch)
    await killed(desk)
    recorder = Recorder(desk.post)
    recorder.start()
    recorder.ended(ended())
    assert await recorder.flush(30)
    await recorder.aclose()
    assert Posted(1, 0) == await desk.post(batch)
    assert 2 == (await desk.spend(Asking()))["total"]["requests"]


async def test_what_goes_wrong_is_said(opened: Callable[[str], Any], tmp_path: Path) -> None:
    """In one line, not with the actor's stack; a database that comes about later is written."""
    desk = opened(f"sqlite:///{tmp_path}/nowhere/ledger.db")
    for asked in (desk.post(Batch("w", 1, (request("w-1"),))), desk.spend(Asking())):
        with pytest.raises(LedgerFailed) as caught:
            await asked
        assert f"sqlite:///{tmp_path}/nowhere/ledger.db: unable to open database file" == str(caught.value)
    (tmp_path / "nowhere").mkdir()
    assert Posted(1, 0) == await desk.post(Batch("w", 1, (request("w-1"),)))


async def test_settings_change_in_place(desk: Any, tmp_path: Path) -> None:
    """The same actor goes on by them."""
    await desk.post(Batch("w", 1, (request("w-1"),)))
    pid = await desk._handle.pid.remote()
    desk.configure(Ledger(f"sqlite:///{tmp_path}/ledger.db", retention_days=3))
    await desk.post(Batch("w", 2, (request("w-2"),)))
    assert pid == await desk._handle.pid.remote()
    await desk.aclose()


async def test_another_password_is_the_same_ledger(opened: Callable[[str], Any]) -> None:
    """A password is no part of its name, and when it changes the actor goes on with the new one."""
    from actors.ledger import actor_name

    old, new = (f"postgresql://ada:{word}@127.0.0.1:9/x" for word in ("old-secret", "new-secret"))
    assert actor_name(old) == actor_name(new)
    assert actor_name(old) != actor_name("postgresql://ada@127.0.0.1:9/y")
    for url in (old, new):
        with pytest.raises(LedgerFailed, match=r"postgresql://ada:\*\*\*@127.0.0.1:9/x: "):
            await opened(url).spend(Asking())


async def test_left_alone_it_ends(cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody has posted for a minute (here: for a moment), also one whose maker was gone at once; its database is
    closed."""
    from actors import ledger

    class Context:
        current_actor = "the ledger"

    gone: asyncio.Queue[tuple[str, bool]] = asyncio.Queue()
    monkeypatch.setattr(ledger, "LONELY_S", 0.5)
    monkeypatch.setattr(cluster, "get_runtime_context", Context)
    monkeypatch.setattr(cluster, "kill", lambda actor, *, no_restart: gone.put_nowait((actor, no_restart)))
    alone, used = ledger.Ledger(), ledger.Ledger()
    for name in ("one", "two"):
        await used.open(f"sqlite:///{tmp_path}/{name}.db", 90, Alerts())
        assert Posted(1, 0) == await used.post(packed(Batch("w", 1, (request("w-1"),))))
    assert [("the ledger", True)] * 2 == [await asyncio.wait_for(gone.get(), 5) for _ in range(2)]
    # SQLite removes its log when the last connection is closed.
    assert ["one.db", "two.db"] == sorted(os.listdir(tmp_path))
    for one in (alone, used):
        one._watch.cancel()
