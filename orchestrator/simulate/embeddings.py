"""Embeddings that are made up: unit vectors, by the words of a text, so that the same text has the same and texts that share
words are near each other."""

from __future__ import annotations

import base64
import hashlib
import math
import re
import struct
from typing import Any

from orchestrator.simulate.answers import Refusal

DIMENSIONS = 64
MAX_DIMENSIONS = 4096


def embeddings(body: Any) -> dict[str, Any]:
    """The answer to a request. Raises Refusal."""
    given = body.get("input") if isinstance(body, dict) else None
    size = body.get("dimensions") or DIMENSIONS if isinstance(body, dict) else DIMENSIONS
    if not isinstance(given, str | list) or not given or not isinstance(size, int) or not 0 < size <= MAX_DIMENSIONS:
        raise Refusal(400, "invalid_request", "'input' or 'dimensions' is wrong")
    inputs = given if isinstance(given, list) and not isinstance(given[0], int) else [given]
    rows, words = [], 0
    for index, one in enumerate(inputs):
        tokens = re.findall(r"\w+", one.lower()) if isinstance(one, str) else list(map(str, one))
        words += len(tokens)
        vector = _vector(tokens or ["empty"], size)
        said: Any = vector
        if body.get("encoding_format") == "base64":
            said = base64.b64encode(struct.pack(f"<{size}f", *vector)).decode()
        rows.append({"object": "embedding", "index": index, "embedding": said})
    usage = {"prompt_tokens": words, "total_tokens": words}
    return {"object": "list", "data": rows, "model": body.get("model"), "usage": usage}


def _vector(tokens: list[str], size: int) -> list[float]:
    sums = [0.0] * size
    for token in tokens:
        seed = hashlib.sha256(token.encode()).digest()
        for i in range(size):
            sums[i] += seed[i % 32] / 127.5 - 1 if i < 32 else ((seed[i % 32] * (i // 32 + 1)) % 256) / 127.5 - 1
    length = math.sqrt(sum(value * value for value in sums)) or 1.0
    return [value / length for value in sums]
