"""The chunks of a streamed chat completion, put in order.

What needs no change is not touched: a chunk that keeps the rules is handed on as the bytes that came. Decoding costs
about 5 µs a chunk then, twice that where it must be written anew. A chunk without choices is not handed on, since clients
look at the first one unasked; what it says (Azure's filter results, for one) is said by the last chunk.
"""

from __future__ import annotations

from typing import Any

import orjson

from orchestrator.dialects.choices import answer_id, as_text, broken, call_id, finish_of, flatten
from orchestrator.dialects.events import Decode, JsonEvents
from orchestrator.dialects.failures import of_error
from orchestrator.dialects.messages import whole_number
from orchestrator.dialects.usage import usage_of
from orchestrator.types import Chunk, Finish, Json, Piece

_HEAD = ("id", "object", "created", "model")


class ChunkDecoder(JsonEvents):
    """The decoder of a stream of chunks. Guarantees contract §3's rules of SSE for what it hands on."""

    def __init__(self, model: str, choices: int, decode: Decode | None = None) -> None:
        super().__init__(model, decode)
        self.holding = False
        self._choices = choices
        self._head: Json | None = None
        """id, object, created and model of the first chunk: those of all."""
        self._roles: set[int] = set()
        self._finished: dict[int, Any] = {}
        self._tools: dict[int, ToolCalls] = {}
        """By choice."""
        self._last: Json | None = None
        self._usage: Json | None = None
        self._beside: Json = {}
        """What chunks said that were not handed on."""

    def _event(self, chunk: Json, raw: bytes) -> Piece | None:
        """One chunk: handed on as it is, rewritten, held back or swallowed."""
        changed = b"\n" in raw or b"\r" in raw
        if "usage" in chunk:
            usage = chunk.pop("usage")
            changed = True
            if isinstance(usage, dict):
                self._usage = usage
        if "x_groq" in chunk and (failure := self._of_groq(chunk["x_groq"])) is not None:
            return failure
        choices = chunk.get("choices")
        if not isinstance(choices, list) or not choices:
            self._keep(chunk)
            return None
        changed |= self._align(chunk)
        if not all(isinstance(choice, dict) for choice in choices):
            chunk["choices"] = choices = [choice for choice in choices if isinstance(choice, dict)]
            changed = True
        ended = self._release()
        finishes = False
        for choice in choices:
            if (failure := broken(choice)) is not None:
                self._ended = True
                return failure
            changed |= self._choice(choice)
            finishes |= choice.get("finish_reason") is not None
        if finishes and (len(self._finished) >= self._choices or self._roles <= self._finished.keys()):
            return self._hold(chunk, ended)
        if ended:
            chunk["choices"] = choices = ended + choices
            changed = True
        if not changed:
            return Chunk(raw)
        if any(map(_says_something, choices)):
            return Chunk(orjson.dumps(chunk))
        self._keep(chunk)
        return None

    def _keep(self, chunk: Json) -> None:
        """The chunk is not handed on: what it says beside its choices comes with the last one."""
        self._beside |= {name: value for name, value in chunk.items() if name not in _HEAD and name != "choices"}

    def _of_groq(self, said: object) -> Piece | None:
        """Groq's `x_groq`: the usage, where it does not stand where it should, and an error that ended the stream
        (github.com/groq/groq-python, types/chat/chat_completion_chunk.py, 1.7.0, 2026-11-25)."""
        if not isinstance(said, dict):
            return None
        if error := said.get("error"):
            self._ended = True
            return of_error(200, error if isinstance(error, dict) else {"message": str(error)})
        if self._usage is None and isinstance(usage := said.get("usage"), dict):
            self._usage = usage
        return None

    def _align(self, chunk: Json) -> bool:
        """Gives a chunk the head of the first one. Says whether that changed anything."""
        if self._head is None:
            self._head = {
                "id": answer_id(chunk.get("id")),
                "object": "chat.completion.chunk",
                "created": whole_number(chunk.get("created")),
                "model": _text(chunk.get("model")) or self.model,
            }
            self.model = self._head["model"]
        changed = False
        for name, value in self._head.items():
            if chunk.get(name) != value:
                chunk[name] = value
                changed = True
        return changed

    def _choice(self, choice: Json) -> bool:
        """Puts one choice in order. Says whether that changed anything."""
        changed = False
        index = choice.get("index")
        if not isinstance(index, int):
            index = choice["index"] = 0
            changed = True
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            delta = choice["delta"] = {}
            changed = True
        if index not in self._roles:
            self._roles.add(index)
            if not delta.get("role"):
                choice["delta"] = delta = {"role": "assistant", **{k: v for k, v in delta.items() if k != "role"}}
                changed = True
        elif "role" in delta:
            del delta["role"]
            changed = True
        changed |= flatten(delta)
        calls = delta.get("tool_calls")
        if isinstance(calls, list) and calls:
            if (begun := self._tools.get(index)) is None:
                assert self._head is not None
                begun = self._tools[index] = ToolCalls(self._head["id"], index)
            changed |= begun.take(calls)
        if any(value for name, value in delta.items() if name != "role"):
            self.opened = True
            self.deltas += 1
        if choice.get("finish_reason") is not None:
            changed |= finish_of(choice)
        if (reason := choice.get("finish_reason")) is not None:
            self.opened = True
            if index in self._finished:
                choice["finish_reason"] = None
                changed = True
            else:
                self._finished[index] = reason
        return changed

    def _release(self) -> list[Json]:
        """The choices whose end was held back as the last, though more choices were asked for, and now go on."""
        if self._last is None or self.holding:
            return []
        ended, self._last = self._last["choices"], None
        return list(ended)

    def _hold(self, chunk: Json, ended: list[Json]) -> Piece | None:
        """Keeps back the chunk that finishes all choices there are: it may be the last, since a provider may give fewer than
        were asked for. The text that it may carry goes out before it, with the choices that had ended before."""
        text = {**chunk, "choices": [_without_finish(choice) for choice in chunk["choices"]]}
        said = [choice for choice in text["choices"] if any(choice["delta"].values()) or choice.get("logprobs")]
        self._last = {
            **chunk,
            "choices": [
                {**choice, "delta": {}, **({"logprobs": None} if "logprobs" in choice else {})}
                for choice in chunk["choices"]
                if choice.get("finish_reason") is not None
            ],
        }
        self.holding = len(self._finished) >= self._choices
        said = ended + said
        return Chunk(orjson.dumps({**text, "choices": said})) if said else None

    def _complete(self) -> bool:
        return self._last is not None

    def _finish(self) -> Finish:
        self._ended = True
        self.holding = False
        if self._last is None:
            # [DONE] says that the answer is whole; the reason was forgotten, and clients insist on one.
            assert self._head is not None
            missing = [index for index in sorted(self._roles) if index not in self._finished]
            self._last = {
                **self._head,
                "choices": [
                    {"index": i, "delta": {}, "finish_reason": "tool_calls" if self._tools.get(i) else "stop"}
                    for i in missing
                ],
            }
        return Finish({**self._beside, **self._last}, self.model, usage_of(self._usage), self._usage)


def _without_finish(choice: Json) -> Json:
    return {**choice, "finish_reason": None}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _says_something(choice: Json) -> bool:
    """Text or an end, or what a provider says beside it, such as log probabilities."""
    beside = (value for name, value in choice.items() if name not in ("index", "delta"))
    return any(choice["delta"].values()) or any(beside)


def _without(holder: Json, name: str) -> bool:
    """Takes a field out. Says whether it was there."""
    if name not in holder:
        return False
    del holder[name]
    return True


class ToolCalls:
    """The tool calls of one choice, as its deltas begin and lengthen them."""

    def __init__(self, answer: str, choice: int) -> None:
        self._answer = answer
        self._choice = choice
        self._begun: dict[int, str | None] = {}
        """By index: the calls that have begun, with the identities that they came with."""
        self._named: set[int] = set()
        """Those whose names have come."""
        self._moved: dict[int, int] = {}
        """Where a call is, of those that came by an index that another had already."""

    def take(self, calls: list[Any]) -> bool:
        """Puts the calls of one delta in order: `index` always; `id`, `type` and `name` once. Says whether that changed
        anything."""
        changed = False
        for call in calls:
            if not isinstance(call, dict):
                continue
            kind = "custom" if "custom" in call or call.get("type") == "custom" else "function"
            given, made = call.get("index"), call.get(kind)
            index = self._place(given, call.get("id") or None, made)
            if index != given:
                call["index"] = index
                changed = True
            if index not in self._begun:
                self._begun[index] = call.get("id") or None
                if not call.get("id"):
                    call["id"] = call_id(self._answer, self._choice, index)
                    changed = True
                if call.get("type") != kind:
                    call["type"] = kind
                    changed = True
            else:
                changed |= _without(call, "id") | _without(call, "type")
            if isinstance(made, dict):
                changed |= as_text(made)
                if index in self._named:
                    changed |= _without(made, "name")
                elif made.get("name"):
                    self._named.add(index)
        return changed

    def _place(self, given: object, identity: str | None, made: object) -> int:
        """The index of the call that a delta belongs to.

        Gemini gives none, or the same to all, and each call whole in one delta; so a delta with a name is another call,
        unless its identity is one that is known. (Some servers make an identity up for every delta: those have no name.)
        """
        known = [index for index, other in self._begun.items() if identity is not None and other == identity]
        named = isinstance(made, dict) and bool(made.get("name"))
        behind = max(self._begun, default=-1) + 1
        if not isinstance(given, int):
            return known[0] if known else behind if identity is not None or named or not self._begun else behind - 1
        index = self._moved.get(given, given)
        if named and identity is not None and self._begun.get(index) not in (None, identity):
            index = self._moved[given] = known[0] if known else behind
        return index
