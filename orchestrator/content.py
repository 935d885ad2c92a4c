"""What a message's content says, whichever way a provider or a caller wrote it."""

from __future__ import annotations

from typing import Any


def joined(parts: Any) -> str:
    """The texts of a content's parts, one after the other; nothing for what is no list of parts."""
    if not isinstance(parts, list):
        return ""
    return "".join(str(part.get("text") or "") for part in parts if isinstance(part, dict))
