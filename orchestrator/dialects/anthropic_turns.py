"""Turns that other models took, as Anthropic takes them: a conversation may have been another provider's until now."""

from __future__ import annotations

import hashlib
import re
from typing import Any

_ID = re.compile(r"[a-zA-Z0-9_-]+")


def call_identity(identity: Any) -> Any:
    """The identity of a call: one that Anthropic refuses (docs.anthropic.com/en/api/messages: `^[a-zA-Z0-9_-]+$`), such as
    Kimi's `functions.f:0`, is replaced by its digest, in the call and in its result alike."""
    if not isinstance(identity, str) or _ID.fullmatch(identity):
        return identity
    return f"call_{hashlib.sha256(identity.encode()).hexdigest()[:24]}"


def acceptable(turns: list[Any]) -> list[Any]:
    """Turns in Anthropic's shape, with identities that it takes, and without thoughts that bear no signature.

    Those are another model's, as a caller was told them and gives them back; for one of them the whole request is refused
    (docs.anthropic.com/en/docs/build-with-claude/extended-thinking, "Preserving thinking blocks"). What needs no change is
    as it came.
    """
    found: list[Any] = []
    for turn in turns:
        content = turn.get("content") if isinstance(turn, dict) else None
        blocks = [_block(block) for block in content if not _is_unsigned(block)] if isinstance(content, list) else []
        if not isinstance(content, list) or blocks == content:
            found.append(turn)
        elif blocks:  # an empty turn is refused, too
            found.append({**turn, "content": blocks})
    return found


def _is_unsigned(block: Any) -> bool:
    return isinstance(block, dict) and block.get("type") == "thinking" and not block.get("signature")


def _block(block: Any) -> Any:
    kind = block.get("type") if isinstance(block, dict) else None
    name = "id" if kind == "tool_use" else "tool_use_id" if kind == "tool_result" else None
    if name is None:
        return block
    given = block.get(name)
    identity = call_identity(given)
    return block if identity is given else {**block, name: identity}
