"""A coordinator's questions to the control actor."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from ray.exceptions import ActorUnavailableError

from actors.following import Following
from orchestrator.counters import Counters
from orchestrator.limits.central import Central, Grant, Take
from orchestrator.limits.limiter import Away


class Control:
    """The actor, as far as permits are concerned."""

    def __init__(self) -> None:
        self.central = Central(0.0)
        self.messages = 0
        self.broken: Exception | None = None
        self.permits = self

    async def remote(self, takes: Sequence[Take]) -> list[Grant | None]:
        self.messages += 1
        await asyncio.sleep(0)
        if self.broken is not None:
            raise self.broken
        return [self.central.take(1.0, take) for take in takes]


def following(control: Control | None) -> Following:
    async def nothing(*_: Any) -> None:
        return

    made = Following("c.yaml", Counters(), nothing, nothing)
    made._control = control
    return made


def take(name: str, need: int, limit: int = 10) -> Take:
    return Take("me", name, limit, need, need, 0, (), True, 1, limit)


async def test_what_is_asked_at_once_is_one_message() -> None:
    """Each gets its own answer, be its caller gone or not."""
    control = Control()
    one = following(control)
    left = asyncio.ensure_future(one.take(take("c", 1)))
    asking = [asyncio.ensure_future(one.take(take(name, need))) for name, need in (("a", 4), ("b", 11), ("d", 7))]
    await asyncio.sleep(0)
    left.cancel()
    grants = await asyncio.gather(*asking)
    assert [4, 0, 7] == [grant.amount for grant in grants if grant is not None]
    assert 1 == control.messages
    assert await one.take(take("a", 1)) is not None
    assert 2 == control.messages


@pytest.mark.parametrize("broken", [ActorUnavailableError("gone", b"x" * 16), ValueError("a mistake")])
async def test_all_who_asked_hear_that_it_is_away(broken: Exception) -> None:
    """Whatever it was: nobody waits for ever, and it is asked again the next time."""
    control = Control()
    control.broken = broken
    one = following(control)
    came = await asyncio.gather(one.take(take("a", 1)), one.take(take("b", 1)), return_exceptions=True)
    assert [Away, Away] == [type(error) for error in came]
    control.broken = None
    assert await one.take(take("a", 1)) is not None
    with pytest.raises(Away):
        await following(None).take(take("a", 1))
