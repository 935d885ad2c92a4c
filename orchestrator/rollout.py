"""Who is sent through the orchestrator, beside an existing system: a stable share of the users.

A user's bucket is the first 6 bytes, big-endian, of the SHA-256 of the UTF-8 text `seed:user`, over 2^48, times 100: a number
from 0 up to 100 that every language computes alike (48 bits and the product are exact enough in a double). Who is below the
percentage is sent through, so a larger percentage adds users and takes none away. docs/rollout.md has test vectors.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Literal, NamedTuple

from orchestrator.config.settings import Rollout


class Decision(NamedTuple):
    """Whether a user is sent through, and why."""

    user: str
    use: bool
    reason: Literal["deny", "allow", "percent"]
    percent: float
    bucket: float
    """From 0 up to 100; also where the reason is another."""
    seed: str


def bucket(seed: str, user: str) -> float:
    """Where a user stands among all, from 0 up to (not including) 100."""
    digest = sha256(f"{seed}:{user}".encode(errors="replace")).digest()
    return int.from_bytes(digest[:6], "big") / 2**48 * 100


def decide(rollout: Rollout, user: str) -> Decision:
    """Whether `user` is sent through: `deny` wins over `allow`, `allow` over the percentage."""
    at = bucket(rollout.seed, user)

    def because(reason: Literal["deny", "allow", "percent"], use: bool) -> Decision:
        return Decision(user, use, reason, rollout.percent, at, rollout.seed)

    if user in rollout.deny:
        return because("deny", False)
    if user in rollout.allow:
        return because("allow", True)
    return because("percent", at < rollout.percent)
