"""All windows of all keys in one place, and what each coordinator holds of them: a plain machine, told what time it is.

Whoever takes permits (a holder: a coordinator) says what it has used since it last asked, and what it still holds; permits
are good for `HOLD_S`. So nothing is counted twice and nothing is lost: what a message that got lost had granted is put right
by the next one. A holder that is not heard of by then has used what it held, as far as anybody knows; when it is heard of
again, it tells of the whole last minute.

Nothing is kept anywhere else. A control actor that comes back after a kill knows of no holder and asks each for its last
minute, when it hears of it. For a minute, as long as it has heard of fewer than there were, it grants each no more than it
might have had by itself (`Take.alone`).
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import merge
from typing import NamedTuple

from orchestrator.limits.window import WINDOW_S, Window

HOLD_S = 1.0
"""How long permits are good for at their holder, from when it asked."""
_SLACK_S = 0.25
"""They are waited for so much longer here: a message takes its time."""
_BATCH = 16
"""A holder is given this part of what is free beyond what it needs, shared among holders."""


class Take(NamedTuple):
    """What a holder asks for, and tells."""

    holder: str
    limit_of: str
    """Which limit it is: the key's name, and of what."""
    limit: int
    """In any 60 seconds."""
    need: int
    """Less is of no use; 0: it only tells."""
    want: int
    """What it has use for at once."""
    held: int
    """What it has left, and keeps."""
    used: tuple[tuple[float, int], ...]
    """How long ago, and how much, since it last told."""
    whole: bool
    """Whether that is all of the last minute."""
    peers: int
    """How many holders share it, as it was last told."""
    alone: int
    """How much of the window it may fill while nobody knows of all holders."""


class Grant(NamedTuple):
    """What it gets."""

    amount: int
    """At least what it needs, or 0."""
    again_s: float
    """For 0: how long it is of no use to ask for as much."""
    free: int
    """What is left for everybody."""
    peers: int
    share: int
    """What of that its holder might use if nobody could be asked any more."""


class _Holding:
    """What a holder has of one limit."""

    __slots__ = ("held", "lost", "seen_s", "until_s", "window")

    def __init__(self) -> None:
        self.window = Window()
        self.held = 0
        self.until_s = 0.0
        self.seen_s = 0.0
        self.lost = False
        """It was not heard of while it held something: that counts as used."""


class Central:
    """The windows."""

    def __init__(self, now_s: float) -> None:
        self._born_s = now_s
        self._limits: dict[str, dict[str, _Holding]] = {}
        """By limit, then by holder."""
        self._swept_s = now_s

    def take(self, now_s: float, take: Take) -> Grant | None:
        """Grants permits; None: the holder has to tell of its whole last minute."""
        self._sweep(now_s)
        holders = self._limits.setdefault(take.limit_of, {})
        mine = holders.get(take.holder)
        if take.whole:
            mine = holders[take.holder] = _Holding()
        elif mine is None or mine.lost:
            return None
        assert mine is not None
        for age_s, amount in take.used:
            mine.window.add(now_s, now_s - age_s, amount)
        mine.held, mine.seen_s, mine.until_s = take.held, now_s, now_s + HOLD_S + _SLACK_S
        free = take.limit - sum(_taken(one, now_s) for one in holders.values())
        peers = sum(now_s - one.seen_s < WINDOW_S for one in holders.values())
        sharing = peers
        if peers < take.peers and now_s - self._born_s < WINDOW_S:
            # Others have used some of it, and have not told: what is free of this holder's part is free, and all its own.
            peers, sharing, free = take.peers, 1, min(free, take.alone - mine.window.total - mine.held)
        left = max(0, free)
        if take.need == 0:
            return Grant(0, 0.0, left, peers, left // sharing)
        if free < take.need:
            again_s = _when(holders, mine, take.need - free, now_s) - now_s
            return Grant(0, max(0.05, again_s), left, peers, left // sharing)
        amount = min(free, max(take.need, take.want, free // (_BATCH * peers)))
        mine.held += amount
        return Grant(amount, 0.0, free - amount, peers, (free - amount) // sharing)

    def _sweep(self, now_s: float) -> None:
        """Lets go of holders that are gone and forgotten: keys come and go."""
        if now_s - self._swept_s < WINDOW_S:
            return
        self._swept_s = now_s
        for name, holders in [*self._limits.items()]:
            for holder, one in [*holders.items()]:
                if not _taken(one, now_s) and now_s - one.seen_s > WINDOW_S:
                    del holders[holder]
            if not holders:
                del self._limits[name]


def _taken(one: _Holding, now_s: float) -> int:
    """What a holder has used and holds."""
    if one.held and one.until_s <= now_s:
        one.window.add(now_s, now_s, one.held)
        one.held, one.lost = 0, True
    return one.window.forget(now_s) + one.held


def _when(holders: dict[str, _Holding], mine: _Holding, short: int, now_s: float) -> float:
    """When as much as is lacking may be free: something is forgotten, or is given back by another."""
    back = sorted((one.until_s, one.held) for one in holders.values() if one is not mine and one.held)
    coming: Iterator[tuple[float, int]] = merge(*(one.window.forgets() for one in holders.values()), back)
    for free_s, amount in coming:
        short -= amount
        if short <= 0:
            return free_s
    return now_s + WINDOW_S
