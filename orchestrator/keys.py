"""Keys for callers of the endpoint: made at random, shown once, kept as hashes.

A key is 32 bytes of the system's randomness: 256 bits, that no guesser gets anywhere near. A hash that is slow on purpose, as
passwords need it because people choose them, would protect nothing here and cost each request a tenth of a second: a plain
SHA-256 is right, and is what GitHub, Stripe and others keep of theirs.
"""

from __future__ import annotations

import hashlib
import secrets

PREFIX = "sk-orch-"
"""So that a key that turns up somewhere is known for what it is, by people and by scanners."""
BYTES = 32


def make_key() -> str:
    """A new key: the prefix and 43 characters that need no quoting in shells, URLs and YAML."""
    return PREFIX + secrets.token_urlsafe(BYTES)


def hash_of(key: str) -> str:
    """What is kept of a key: 64 hexadecimal digits."""
    return hashlib.sha256(key.encode()).hexdigest()
