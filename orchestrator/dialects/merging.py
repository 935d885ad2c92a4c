"""The chunks of a stream as the whole chat completion that they add up to: the way back of `as_chunks`.

Texts are joined, lists are put together (their entries by `index`, where they have one), of all else the last word counts,
as in OpenAI's own clients. What an event of Anthropic's says that has no place in the chat shape cannot be put together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from orchestrator.types import Finish, Json

REDUCE_BYTES = 64 * 1024
"""Chunks are worked in when there are so many, so that the end of a long answer does not hold up everybody else's."""
_JOINED = frozenset(
    {
        "content",
        "refusal",
        "reasoning",
        "reasoning_content",
        "arguments",
        "input",
        "text",
        "summary",
        "data",
        "transcript",
    }
)
"""Fields whose text comes in pieces."""
_OF_ALL = frozenset({"choices", "object", "usage", "provider", "orchestrator"})


class Merging:
    """Adds up one stream. About 3 µs a chunk."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._size = 0
        self._choices: dict[int, Json] = {}
        self._lost = False
        """Something has come that a whole answer has no place for."""

    def add(self, chunks: Sequence[bytes]) -> None:
        """These have come."""
        if not self._lost:
            self._chunks += chunks
            self._size += sum(map(len, chunks))
            if self._size > REDUCE_BYTES:
                self._reduce()

    def body(self, finish: Finish) -> Json | None:
        """The whole answer, once it has come to its end; None where there is none that says all of it."""
        self._reduce()
        for choice in finish.last["choices"]:
            self._take(choice)
        if self._lost:
            return None
        head = {name: value for name, value in finish.last.items() if name not in _OF_ALL}
        usage = {} if finish.usage_body is None else {"usage": finish.usage_body}
        choices = [self._choices[index] for index in sorted(self._choices)]
        for choice in choices:
            calls = choice["message"].get("tool_calls")
            for call in calls if isinstance(calls, list) else ():
                if isinstance(call, dict):
                    call.pop("index", None)
        return {**head, "object": "chat.completion", "choices": choices, **usage}

    def _reduce(self) -> None:
        chunks, self._chunks, self._size = self._chunks, [], 0
        for data in chunks:
            chunk = orjson.loads(data)
            own = chunk.get("anthropic")
            self._lost = self._lost or (isinstance(own, dict) and "event" in own)
            for choice in chunk["choices"]:
                self._take(choice)

    def _take(self, choice: Json) -> None:
        index = choice.get("index") or 0
        begun = {"index": index, "message": {"role": "assistant", "content": None}, "finish_reason": None}
        whole = self._choices.setdefault(index, begun)
        _merge(whole["message"], choice.get("delta") or {})
        _merge(whole, {name: value for name, value in choice.items() if name not in ("index", "delta")})


def _merge(whole: Json, part: Json) -> None:
    for name, value in part.items():
        before = whole.get(name)
        if value is None:
            whole.setdefault(name, None)
        elif isinstance(before, str) and isinstance(value, str):
            whole[name] = before + value if name in _JOINED else value or before
        elif isinstance(value, dict):
            begun = before if isinstance(before, dict) else {}
            _merge(begun, value)
            whole[name] = begun
        elif isinstance(value, list):
            whole[name] = before if isinstance(before, list) else []
            for entry in value:
                _append(whole[name], entry)
        else:
            whole[name] = value


def _append(entries: list[Any], entry: Any) -> None:
    """Adds an entry of a list: to the one that it goes on with, or behind all."""
    if not isinstance(entry, dict):
        entries.append(entry)
        return
    if (index := entry.get("index")) is not None:
        for one in entries:
            if isinstance(one, dict) and one.get("index") == index and _alike(one, entry):
                _merge(one, entry)
                return
    begun: Json = {}
    _merge(begun, entry)
    entries.append(begun)


def _alike(one: Json, other: Json) -> bool:
    """Whether they are of one kind, as far as they say."""
    return "type" not in one or "type" not in other or one["type"] == other["type"]
