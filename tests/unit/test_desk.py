"""The ledger's actor as a coordinator reaches it."""

from __future__ import annotations

import pytest

from actors.ledger import RayDesk
from orchestrator.config.operations import Ledger
from orchestrator.errors import LedgerFailed
from orchestrator.ledger.records import Batch, Posted


class Actor:
    """One that is killed, and comes back without its database, so many times after it was told of it."""

    def __init__(self, kills: int) -> None:
        self.kills = kills
        self.knows = False
        self.open, self.post, self.ask = _Method(self._open), _Method(self._post), _Method(self._ask)

    def _open(self) -> None:
        self.knows, self.kills = self.kills == 0, max(0, self.kills - 1)

    def _post(self) -> Posted | None:
        return Posted(1, 0) if self.knows else None

    def _ask(self) -> tuple[int] | None:
        return (7,) if self.knows else None


class _Method:
    def __init__(self, does: object) -> None:
        self._does = does

    async def remote(self, *_: object) -> object:
        assert callable(self._does)
        return self._does()


def desk(actor: Actor) -> RayDesk:
    made = RayDesk(Ledger("sqlite:///l.db"))
    made._handle = actor
    return made


async def test_one_that_was_restarted_is_told_its_database() -> None:
    """And asked again."""
    assert Posted(1, 0) == await desk(Actor(0)).post(Batch("w", 1))
    assert 7 == await desk(Actor(0)).keys_version()


async def test_one_that_is_restarted_again_has_acknowledged_nothing() -> None:
    """Whoever posts keeps the batch and posts it again: it is not taken for written."""
    restarted = desk(Actor(1))
    with pytest.raises(LedgerFailed, match="restarted"):
        await restarted.post(Batch("w", 1))
    assert Posted(1, 0) == await restarted.post(Batch("w", 1))
    with pytest.raises(LedgerFailed, match="restarted"):
        await desk(Actor(1)).keys_version()
