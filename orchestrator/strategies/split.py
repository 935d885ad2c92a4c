"""Split: which arm of an A/B a unit (a user, a request) is sent to.

Weighted rendezvous hashing: each arm draws a number u in (0, 1) from the SHA-256 of the seed, the unit and its own name, and
the largest -weight / ln(u) wins, which each arm does with the probability of its share of the weights (Mosko et al.,
"Rendezvous-based directory services", 2000, after Thaler and Ravishankar 1998). No arm's number depends on another's weight,
so a weight that grows moves units to its arm alone, one that shrinks moves units away from it alone, and an arm of weight 0
neither gets nor moves anybody.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from math import log

_BITS = 53
"""Of a double: each number that is drawn is exact, and none is 0 or 1."""


def choose(arms: Mapping[str, float], seed: str, unit: str) -> str:
    """The arm that `unit` is sent to. At least one weight has to be above 0."""
    return max((arm for arm, weight in arms.items() if weight > 0), key=lambda arm: _score(arms[arm], seed, unit, arm))


def _score(weight: float, seed: str, unit: str, arm: str) -> float:
    # No text holds the separator's byte, 0xff, in UTF-8: no two triples are hashed alike.
    text = b"\xff".join(part.encode(errors="replace") for part in (seed, unit, arm))
    drawn = int.from_bytes(sha256(text).digest()[:8], "big") >> (64 - _BITS)
    return -weight / log((drawn + 0.5) / 2**_BITS)
