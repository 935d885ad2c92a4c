"""`POST /v1/embeddings`: OpenAI's shape, passed on as it is; any provider that has it can answer, by any strategy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.types import Request
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
        parsed = Parsed(model, request, override, user if isinstance(user, str) else None, ChatSpeaker())
        return for_client(parsed, headers)


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
