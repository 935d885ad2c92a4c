"""Chunks of a chat completion as the events of a response: items that are added, grow and are done, numbered throughout."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import orjson

from orchestrator.asks import Answer
from orchestrator.dialects.messages import count
from orchestrator.dialects.signatures import kept, signatures
from orchestrator.types import Json
from orchestrator.wire.responses_calls import CALLS, begun, ended
from orchestrator.wire.responses_parts import PARTS, citations_of, logprobs_of, thoughts, usage_of_chat
from orchestrator.wire.responses_tools import Tools
from orchestrator.wire.shape import sse

_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}


class ResponseEvents:
    """The response as far as it has come. `begin`, then `take` each delta, then `finished`."""

    def __init__(self, asked: Json, tools: Tools, *, told: bool) -> None:
        self._asked = asked
        self._tools = tools
        self._thoughts = thoughts(asked)
        """The kind of part that they are."""
        self._told = told
        """Whether events are wanted; a whole response needs none."""
        self._response: Json = {}
        self._events: list[bytes] = []
        """Made, and not handed over yet."""
        self._sequence = 0
        self._open: str | None = None
        """What the item is that grows: reasoning, message, or a tool call's index."""
        self._part: Json = {}
        """The part of it that grows; empty: none does."""
        self._cited: list[Json] = []
        """Citations that have come, and no text yet that they could be of."""
        self._signed: list[Any] = []
        """Signatures that have come, sealed, and have no item yet."""
        self._calls: dict[str, int] = {}
        """The place of each call among the items."""
        self._arguments: dict[int, str] = {}
        """What has come of each, by that place."""

    def chunks(self, chunks: Sequence[bytes]) -> bytes:
        """See `Speaker.chunks`."""
        for data in chunks:
            chunk = orjson.loads(data)
            self.begin(chunk)
            for choice in chunk["choices"]:
                if choice.get("index", 0) == 0:
                    self.take(choice["delta"], choice)
        return self._taken()

    def end(self, last: Json, usage: Any, answer: Answer) -> bytes:
        """See `Speaker.end`."""
        self.begin(last)
        response = self.finished(last["choices"][0].get("finish_reason"), usage, answer)
        self._event(f"response.{response['status']}", response=response)
        return self._taken()

    def failed(self, error: Json, report: Json | None) -> bytes:
        """See `Speaker.failed`. Clients that read events get `response.failed`; the official ones raise on `error`."""
        self.begin({})
        limited = error.get("type") == "rate_limit_error"
        # Of a response's own error, OpenAI names few kinds; the event that follows has ours.
        inner = {"code": "rate_limit_exceeded" if limited else "server_error", "message": error.get("message")}
        response = {**self._response, "status": "failed", "error": inner}
        if report is not None:
            response["orchestrator"] = self._with_left_out(report)
        self._event("response.failed", response=response)
        said = {name: error.get(name) for name in ("code", "message", "param")}
        self._event("error", error=error, **said)
        return self._taken()

    def begin(self, head: Json) -> None:
        """The first chunk, or a whole answer, says who answers."""
        if self._response:
            return
        asked = self._asked
        identity = str(head.get("id") or "0")
        self._response = {
            "id": identity if identity.startswith("resp_") else f"resp_{identity}",
            "object": "response",
            "created_at": count(head.get("created")) or int(time.time()),
            "status": "in_progress",
            "error": None,
            "incomplete_details": None,
            "model": head.get("model") or "",
            "output": [],
            "usage": None,
            "store": False,
            "background": False,
            "previous_response_id": None,
            "parallel_tool_calls": asked.get("parallel_tool_calls") is not False,
            "tool_choice": asked.get("tool_choice") or "auto",
            "tools": self._tools.given,
            "text": asked.get("text") or {"format": {"type": "text"}},
            "reasoning": asked.get("reasoning") or {"effort": None, "summary": None},
            "truncation": "disabled",
            "metadata": asked.get("metadata") or {},
            **{
                name: asked.get(name)
                for name in ("instructions", "max_output_tokens", "max_tool_calls", "temperature", "top_p", "user")
            },
        }
        self._event("response.created", response=self._response)
        self._event("response.in_progress", response=self._response)

    def take(self, delta: Json, choice: Json) -> None:
        """What a delta adds, and what stands beside it in its choice."""
        thought = delta.get("reasoning_content") or delta.get("reasoning")
        if isinstance(thought, str) and thought:
            self._grow("reasoning", self._thoughts, thought)
        details = delta.get("reasoning_details")
        for detail in details if isinstance(details, list) else []:
            if not isinstance(detail, dict):
                continue
            if detail.get("signature") and self._open == "reasoning":
                self._item["encrypted_content"] = kept(detail)
            elif detail.get("type") == "reasoning.encrypted" or (detail.get("signature") and not detail.get("text")):
                # Claude signs thoughts that it does not show, too.
                self._signed.append(kept(detail, alone=True))
                self._sign()
        self._signed += [signature.sealed() for signature in signatures(delta)]
        if not self._output or self._output[-1]["type"] == "reasoning":
            self._sign()
        if isinstance(text := delta.get("content"), str):
            rows = logprobs_of(choice)
            # A token may be half a character: it has a probability, and no text yet. (A thought's stands here, too.)
            if text or (rows and not thought):
                self._grow("message", "output_text", text, rows)
        self._cite(delta)
        if isinstance(refusal := delta.get("refusal"), str) and refusal:
            self._grow("message", "refusal", refusal)
        calls = delta.get("tool_calls")
        for call in calls if isinstance(calls, list) else []:
            if isinstance(call, dict):
                self._call(call)

    def finished(self, reason: Any, usage: Any, answer: Answer) -> Json:
        """The whole response."""
        incomplete = _INCOMPLETE.get(str(reason))
        # What was being said when it ended is not all of it: a call's arguments may be half of them.
        status, last = "incomplete" if incomplete else "completed", len(self._output) - 1
        self._done(status)
        for place in self._calls.values():
            self._call_done(place, status if place == last else "completed")
        self._sign()
        self._response |= {
            "status": status,
            "incomplete_details": {"reason": incomplete} if incomplete else None,
            "usage": usage_of_chat(usage),
            "provider": answer.provider,
            "orchestrator": self._with_left_out(answer.report),
        }
        return self._response

    def _with_left_out(self, report: Json) -> Json:
        return {**report, "left_out": self._tools.left_out} if self._tools.left_out else report

    @property
    def _output(self) -> list[Json]:
        output: list[Json] = self._response["output"]
        return output

    @property
    def _item(self) -> Json:
        return self._output[-1]

    def _at(self, place: int) -> Json:
        return {"item_id": self._output[place]["id"], "output_index": place}

    def _add(self, which: str, kind: str, **fields: Any) -> None:
        self._done()
        self._open = which
        short = {"reasoning": "rs", "message": "msg", **CALLS}[kind]
        identity = f"{short}_{self._response['id'].removeprefix('resp_')}_{len(self._output)}"
        self._output.append({"type": kind, "id": identity, "status": "in_progress", **fields})
        self._event("response.output_item.added", output_index=len(self._output) - 1, item=self._item)

    def _grow(self, name: str, kind: str, text: str, rows: Sequence[Json] = ()) -> None:
        """Text, thoughts and refusals: parts of an item."""
        if self._open != name:
            more: Json = {"summary": [], "encrypted_content": None} if name == "reasoning" else {"role": "assistant"}
            self._add(name, name, content=[], **more)
        named = PARTS[kind]
        if self._part.get("type") != kind:
            self._part_done()
            self._part = {"type": kind, named.held: "", **{other: [] for other in named.lists}}
            self._item[named.holder].append(self._part)
            self._of_part(f"{named.part}.added", part=self._part)
        self._part[named.held] += text
        rest: Json = {}
        if kind == "output_text":
            self._part["logprobs"] += rows
            rest["logprobs"] = rows
        self._of_part(f"{named.said}.delta", delta=text, **rest)

    def _cite(self, delta: Json) -> None:
        """Adds what is cited to the text that grows, once: some repeat it in every chunk."""
        self._cited += [annotation for annotation in citations_of(delta) if annotation not in self._cited]
        if self._part.get("type") != "output_text":
            return
        cited = self._part["annotations"]
        for annotation in self._cited:
            if annotation not in cited:
                cited.append(annotation)
                at = {"annotation_index": len(cited) - 1}
                self._of_part("output_text.annotation.added", annotation=annotation, **at)
        self._cited.clear()

    def _part_done(self) -> None:
        if not self._part:
            return
        named = PARTS[self._part["type"]]
        more: Json = {"logprobs": self._part["logprobs"]} if "logprobs" in self._part else {}
        self._of_part(f"{named.said}.done", **{named.held: self._part[named.held]}, **more)
        self._of_part(f"{named.part}.done", part=self._part)
        self._part = {}

    def _of_part(self, what: str, **fields: Any) -> None:
        """An event about the part that grows."""
        named, place = PARTS[self._part["type"]], len(self._output) - 1
        at = {**self._at(place), named.place: len(self._item[named.holder]) - 1}
        self._event(f"response.{what}", **at, **fields)

    def _call(self, call: Json) -> None:
        name = f"call {call.get('index', 0)}"
        function = call.get("function")
        function = function if isinstance(function, dict) else {}
        identity = self._output[self._calls[name]]["call_id"] if name in self._calls else call.get("id")
        self._signed += [signature.sealed() for signature in signatures(call, identity)]
        if name not in self._calls:
            self._sign()
            called = self._tools.called(function.get("name"))
            self._add(name, called.kind, call_id=call.get("id"), **begun(called))
            self._calls[name] = len(self._output) - 1
            self._arguments[self._calls[name]] = ""
        if isinstance(arguments := function.get("arguments"), str) and arguments:
            place = self._calls[name]
            self._arguments[place] += arguments
            if self._output[place]["type"] == "function_call":
                self._event("response.function_call_arguments.delta", **self._at(place), delta=arguments)

    def _sign(self) -> None:
        """Adds what is signed and has not been added, each as an item that says nothing else."""
        for sealed in self._signed:
            self._add("reasoning", "reasoning", content=[], summary=[], encrypted_content=sealed)
            self._done()
        self._signed.clear()

    def _call_done(self, place: int, status: str) -> None:
        """Calls may grow side by side: all are done at the end. Those that are no functions are understood only then."""
        item = self._output[place]
        item |= ended(item["type"], self._arguments[place])
        match item["type"]:
            case "function_call":
                done = {"arguments": item["arguments"], "name": item["name"]}
                self._event("response.function_call_arguments.done", **self._at(place), **done)
            case "custom_tool_call":
                self._event("response.custom_tool_call_input.delta", **self._at(place), delta=item["input"])
                self._event("response.custom_tool_call_input.done", **self._at(place), input=item["input"])
        item["status"] = status
        self._event("response.output_item.done", output_index=place, item=item)

    def _done(self, status: str = "completed") -> None:
        """The item that is open, unless it is a call, has all it gets."""
        if self._open in ("reasoning", "message"):
            self._part_done()
            self._item["status"] = status
            self._event("response.output_item.done", output_index=len(self._output) - 1, item=self._item)
        self._open = None

    def _event(self, kind: str, **fields: Any) -> None:
        if not self._told:
            return
        event = {"type": kind, "sequence_number": self._sequence, **fields}
        self._sequence += 1
        self._events.append(sse(kind.encode(), orjson.dumps(event)))

    def _taken(self) -> bytes:
        data = b"".join(self._events)
        self._events.clear()
        return data
