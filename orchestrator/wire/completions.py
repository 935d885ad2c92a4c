"""`POST /v1/completions`: OpenAI's older shape, a prompt and its continuation, on models that chat.

The prompt is asked as a user's message; what has no counterpart there (tokens as numbers, `suffix`, `best_of`) is refused by
name. So are several prompts: each would be a request of its own, with its own winner, attempts and failures, and an answer
has a place for one; a caller that sends them one by one gets all of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from orchestrator.asks import Answer
from orchestrator.types import Json
from orchestrator.wire.chat import (
    ChatShape,
    ChatSpeaker,
    data_events,
    for_client,
    logprob_rows,
    take_flag,
    take_head,
    take_stream_options,
    with_cost,
)
from orchestrator.wire.checks import CHAT, check_fields, whole, wrong
from orchestrator.wire.shape import Parsed

_CHECKS = {**CHAT, "logprobs": whole(0, 20)}


class CompletionsShape(ChatShape):
    """The shape; its errors are those of chat completions."""

    def parse(self, body: bytes, headers: Mapping[bytes, bytes]) -> Parsed:
        """See `Shape.parse`."""
        data, head = take_head(body)
        prompt, echo = _prompt(data.pop("prompt", None)), take_flag(data, "echo")
        for name in ("suffix", "best_of"):
            if data.pop(name, None) not in (None, 1, ""):
                raise wrong(name, "has no counterpart in models that chat")
        include_usage = bool(take_stream_options(data).get("include_usage"))
        check_fields(data, _CHECKS)
        if (logprobs := data.pop("logprobs", None)) is not None:
            data |= {"logprobs": True, "top_logprobs": logprobs}
        chat = {**data, "messages": [{"role": "user", "content": prompt}]}
        return for_client(
            head.asks(chat, CompletionsSpeaker(prompt if echo else "", include_usage=include_usage)), headers
        )


def _prompt(given: Any) -> str:
    if isinstance(given, list) and len(given) == 1:
        given = given[0]
    if isinstance(given, list) and given and isinstance(given[0], str):
        raise wrong("prompt", "holds several prompts: send them one by one")
    if isinstance(given, list):
        raise wrong("prompt", "has to be text: tokens as numbers mean something to one model alone")
    if not isinstance(given, str):
        raise wrong("prompt", "has to be text")
    return given


class CompletionsSpeaker(ChatSpeaker):
    """Says a chat completion as a text completion (`Speaker`)."""

    def __init__(self, echo: str, *, include_usage: bool) -> None:
        super().__init__(include_usage=include_usage)
        self._echo = echo
        self._echoed: set[int] = set()

    def whole(self, body: Json, answer: Answer) -> Json:
        """See `Speaker.whole`."""
        choices = []
        for choice in body["choices"]:
            text = self._echo + _text(choice["message"])
            choices.append(_choice(choice, text, choice.get("finish_reason")))
        said = {**body, "object": "text_completion", "choices": choices}
        return {**said, "usage": with_cost(body.get("usage"), answer, nulls=self.nulls), **_beside(answer)}

    def chunks(self, chunks: Sequence[bytes]) -> bytes:
        """See `Speaker.chunks`."""
        parts = []
        for data in chunks:
            chunk = orjson.loads(data)
            choices = []
            for choice in chunk["choices"]:
                text, index = _text(choice["delta"]), choice.get("index", 0)
                if self._echo and index not in self._echoed:
                    self._echoed.add(index)
                    text = self._echo + text
                # Of several choices, all but the last end here.
                if text or choice.get("finish_reason") is not None:
                    choices.append(_choice(choice, text, choice.get("finish_reason")))
            if choices:
                parts.append(orjson.dumps({**chunk, "object": "text_completion", "choices": choices}))
        return data_events(parts)

    def end(self, last: Json, usage: Any, answer: Answer) -> bytes:
        """See `Speaker.end`."""
        said = {**last, "object": "text_completion"}
        choices = [_choice(choice, "", choice.get("finish_reason")) for choice in last["choices"]]
        parts = [orjson.dumps({**said, "choices": choices, **_beside(answer)})]
        if self._include_usage:
            parts.append(orjson.dumps({**said, "choices": [], "usage": with_cost(usage, answer, nulls=self.nulls)}))
        return data_events([*parts, b"[DONE]"])


def _text(said: Json) -> str:
    text = said.get("content")
    return text if isinstance(text, str) else ""


def _choice(choice: Json, text: str, reason: Any) -> Json:
    return {"index": choice.get("index", 0), "text": text, "logprobs": _logprobs(choice), "finish_reason": reason}


def _logprobs(choice: Json) -> Json | None:
    """Those of a chat completion as those of a text completion."""
    rows = logprob_rows(choice)
    if rows is None:
        return None
    return {
        "tokens": [row.get("token") for row in rows],
        "token_logprobs": [row.get("logprob") for row in rows],
        "top_logprobs": [_top(row.get("top_logprobs")) for row in rows],
        "text_offset": [],
    }


def _top(given: Any) -> Json:
    rows = [row for row in given if isinstance(row, dict)] if isinstance(given, list) else []
    return {row["token"]: row.get("logprob") for row in rows if isinstance(row.get("token"), str)}


def _beside(answer: Answer) -> Json:
    return {"provider": answer.provider, "orchestrator": answer.report}
