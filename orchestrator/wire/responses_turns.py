"""The turns of a conversation that comes as a response's items."""

from __future__ import annotations

from orchestrator.content import joined
from orchestrator.dialects.signatures import Signature, is_sealed, put, unsealed
from orchestrator.types import Json

ENCRYPTED = "gAAAA"
"""How OpenAI's ciphertexts begin, which are Fernet's (github.com/fernet/spec)."""


class Turns:
    """The turns of a conversation, as its items come."""

    def __init__(self) -> None:
        self._messages: list[Json] = []
        self._thoughts: list[Json] = []
        """What the assistant thought before what it says next."""
        self._signed: list[Signature] = []
        """Signatures of the turn that is being read: they stand before their calls, or behind them."""
        self._beside: list[Json] = []
        """What results have that is no text; behind the last of them, since results follow their calls."""

    def think(self, item: Json) -> None:
        """The assistant thinks."""
        for thought in _thoughts(item):
            if isinstance(thought, Signature):
                self._signed.append(thought)
            else:
                self._thoughts.append(thought)

    def assistant(self) -> Json:
        """The assistant's turn that an item belongs to: what it thought, said and called in a row is one."""
        self._show()
        last = self._messages[-1] if self._messages else {}
        # Calls side by side are of one turn, whatever was thought between them: their results follow the last of them.
        if last.get("role") != "assistant" or (self._thoughts and "tool_calls" not in last):
            last = {"role": "assistant", "content": None}
            self._messages.append(last)
        self._remember(last)
        return last

    def result(self, message: Json, beside: list[Json]) -> None:
        """The result of a call; see `result_of`."""
        self._end()
        self._messages.append(message)
        self._beside += beside

    def add(self, message: Json) -> None:
        """A message that is not the assistant's. What it thought, and then said nothing, belongs to no turn."""
        self._end()
        self._show()
        self._messages.append(message)

    def whole(self) -> list[Json]:
        """All of them."""
        self._end()
        self._show()
        return self._messages

    def _end(self) -> None:
        """The assistant's turn, if one was being read, is over."""
        last = self._messages[-1] if self._messages else {}
        if last.get("role") == "assistant":
            if "tool_calls" in last:
                self._remember(last)  # a provider may sign a call behind it
            for signature in self._signed:
                put(signature, last)
        self._thoughts, self._signed = [], []

    def _remember(self, turn: Json) -> None:
        """A turn of the assistant's has what it thought."""
        if self._thoughts:
            turn["reasoning_details"] = [*turn.get("reasoning_details", ()), *self._thoughts]
            self._thoughts = []

    def _show(self) -> None:
        if self._beside:
            self._messages.append({"role": "user", "content": self._beside})
            self._beside = []


def _thoughts(item: Json) -> list[Json | Signature]:
    text = joined(item.get("content") or item.get("summary") or [])
    kept = item.get("encrypted_content")
    if not kept:
        return []
    if is_sealed(kept):
        found = unsealed(kept)
        return [] if found is None else [{**found, "text": text} if text and isinstance(found, dict) else found]
    thought: Json = (
        {"type": "reasoning.text", "text": text, "signature": kept}
        if text
        else {"type": "reasoning.encrypted", "data": kept}
    )
    if isinstance(kept, str) and kept.startswith(ENCRYPTED):
        thought["format"] = "openai-responses-v1"  # a conversation that began at OpenAI
    return [thought]
