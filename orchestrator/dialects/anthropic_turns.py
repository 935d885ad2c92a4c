"""Turns that other models took, as Anthropic takes them: a conversation may have been another provider's until now."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from orchestrator.dialects.choices import taken_id
from orchestrator.dialects.signatures import is_sealed


def call_identity(identity: Any) -> Any:
    """The identity of a call: one that Anthropic refuses (docs.anthropic.com/en/api/messages: `^[a-zA-Z0-9_-]+$`), such as
    Kimi's `functions.f:0`, is replaced by its digest, in the call and in its result alike."""
    return taken_id(identity, r"[a-zA-Z0-9_-]+", 24, "call_")


def acceptable(turns: list[Any]) -> list[Any]:
    """Turns in Anthropic's shape, with identities that it takes, and without thoughts that bear no signature, or another's.

    Those are another model's, as a caller was told them and gives them back; for one of them the whole request is refused
    (docs.anthropic.com/en/docs/build-with-claude/extended-thinking, "Preserving thinking blocks"). What needs no change is
    as it came.
    """
    return _changed(turns, lambda blocks: [_block(block) for block in blocks if not _is_anothers(block)])


def without_sealed(turns: list[Any]) -> list[Any]:
    """Turns in Anthropic's shape without what was sealed for another model (`orchestrator.dialects.signatures`)."""
    return _changed(turns, lambda blocks: [block for block in blocks if not _is_sealed(block)])


def _changed(turns: list[Any], change: Callable[[list[Any]], list[Any]]) -> list[Any]:
    found: list[Any] = []
    for turn in turns:
        content = turn.get("content") if isinstance(turn, dict) else None
        blocks = change(content) if isinstance(content, list) else []
        if not isinstance(content, list) or blocks == content:
            found.append(turn)
        elif blocks:  # an empty turn is refused, too
            found.append({**turn, "content": blocks})
    return found


def _is_anothers(block: Any) -> bool:
    if isinstance(block, dict) and block.get("type") == "thinking":
        return not block.get("signature") or is_sealed(block["signature"])
    return _is_sealed(block)


def _is_sealed(block: Any) -> bool:
    return isinstance(block, dict) and block.get("type") == "redacted_thinking" and is_sealed(block.get("data"))


def _block(block: Any) -> Any:
    kind = block.get("type") if isinstance(block, dict) else None
    name = "id" if kind == "tool_use" else "tool_use_id" if kind == "tool_result" else None
    if name is None:
        return block
    given = block.get(name)
    identity = call_identity(given)
    return block if identity is given else {**block, name: identity}
