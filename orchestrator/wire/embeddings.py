"""`POST /v1/embeddings`: OpenAI's shape, passed on as it is; any provider that has it can answer, by any strategy."""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping
from typing import Any

from orchestrator.asks import Answer
from orchestrator.types import Json, Request
from orchestrator.wire.chat import (
    CHARACTERS_PER_TOKEN,
    ChatShape,
    ChatSpeaker,
    for_client,
    parse_object,
    take_model,
    take_override,
)
from orchestrator.wire.checks import check_fields, whole, wrong
from orchestrator.wire.shape import Parsed

MAX_INPUTS = 2048
"""As OpenAI allows."""

_CHECKS = {"dimensions": whole(1)}


class EmbeddingsShape(ChatShape):
    """The shape; its errors are those of chat completions."""

    def parse(self, body: bytes, headers: Mapping[bytes, bytes]) -> Parsed:
        """See `Shape.parse`."""
        data = parse_object(body)
        model, override = take_model(data), take_override(data)
        tokens = _tokens(data.get("input"))
        if data.get("encoding_format") not in (None, "float", "base64"):
            raise wrong("encoding_format", "has to be float or base64")
        check_fields(data, _CHECKS)
        user = data.get("user")
        request = Request(data, False, tokens, operation="embeddings")
        speaker = _Packing() if data.get("encoding_format") == "base64" else ChatSpeaker()
        parsed = Parsed(model, request, override, user if isinstance(user, str) else None, speaker)
        return for_client(parsed, headers)


class _Packing(ChatSpeaker):
    """Packs what a provider gave as numbers although it was asked for base64, which many do not know. OpenAI's client for
    Node asks for it unless it is told otherwise, and makes other numbers of what comes, whatever it is."""

    def whole(self, body: Json, answer: Answer) -> Json:
        """See `Speaker.whole`."""
        rows = [{**row, "embedding": _packed(row["embedding"])} for row in body["data"]]
        return super().whole({**body, "data": rows}, answer)


def _packed(embedding: Any) -> Any:
    """Numbers as OpenAI packs them: 32-bit floats, the least significant byte first, in base64. What is no list of them
    stays."""
    if not isinstance(embedding, list):
        return embedding
    try:
        return base64.b64encode(struct.pack(f"<{len(embedding)}f", *embedding)).decode()
    except (struct.error, OverflowError):
        return embedding


def _tokens(given: Any) -> int:
    """How many tokens the input has, estimated where it is text. Raises Refused for what is no input."""
    inputs = given if isinstance(given, list) and given and not isinstance(given[0], int) else [given]
    if len(inputs) > MAX_INPUTS:
        raise wrong("input", f"has to have at most {MAX_INPUTS} entries")
    tokens = 0
    for position, one in enumerate(inputs):
        where = f"input[{position}]" if inputs is given else "input"
        if isinstance(one, str) and one:
            tokens += len(one) // CHARACTERS_PER_TOKEN + 1
        elif (
            isinstance(one, list)
            and one
            and all(isinstance(token, int) and not isinstance(token, bool) for token in one)
        ):
            tokens += len(one)
        else:
            raise wrong(where, "has to be text, or a list of tokens, and not empty")
    return tokens
