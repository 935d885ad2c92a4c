"""What is put in order in a choice, whole or streamed, so that a client of OpenAI's can read it."""

from __future__ import annotations

from typing import Any

import orjson

from orchestrator.dialects.failures import of_error
from orchestrator.types import Failure, Json

FINISH = {
    "eos": "stop",  # github.com/togethercomputer/together-py, types/chat/chat_completion.py (3.1.1, 2026-11-25)
    "model_length": "length",  # github.com/mistralai/client-python, models/chatcompletionchoice.py (3.7.0, 2026-11-25)
}
"""Reasons to finish that are not OpenAI's. The provider's own word is kept as `native_finish_reason`, as OpenRouter does."""


def finish_of(choice: Json) -> bool:
    """Gives a choice a reason to finish that OpenAI has. Says whether that changed anything."""
    reason = choice["finish_reason"]
    if not isinstance(reason, str) or reason not in FINISH:
        return False
    choice["finish_reason"] = FINISH[reason]
    choice.setdefault("native_finish_reason", reason)
    return True


def broken(choice: Json) -> Failure | None:
    """The failure that a choice is which an error ended: OpenRouter's and Mistral's `finish_reason: error`."""
    if choice.get("finish_reason") != "error":
        return None
    error = choice.get("error")
    return of_error(200, error if isinstance(error, dict) else {"message": "the model stopped because of an error"})


def flatten(message: Json) -> bool:
    """Makes a text of a `content` that is a list of parts, as Mistral's reasoning models have it
    (docs.mistral.ai/capabilities/reasoning, 2026-11-25). Says whether it was one.

    Thoughts become `reasoning_content`. Whatever else there is (references, a thought's signature) stays as it came, in
    `content_parts`.
    """
    content = message.get("content")
    if not isinstance(content, list):
        return False
    text, thoughts, rest = list[str](), list[str](), list[Any]()
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text" and isinstance(part.get("text"), str):
            text.append(part["text"])
        elif kind == "thinking" and (said := _said(part.get("thinking"))) is not None:
            thoughts.append(said)
            if part.get("signature"):
                rest.append(part)
        else:
            rest.append(part)
    message["content"] = "".join(text)
    if thoughts:
        message["reasoning_content"] = "".join(thoughts)
    if rest:
        message["content_parts"] = rest
    return True


def _said(thinking: object) -> str | None:
    """The text of a thought; None where it is more than text."""
    if isinstance(thinking, str):
        return thinking
    if not isinstance(thinking, list):
        return None
    texts = [part.get("text") if isinstance(part, dict) else None for part in thinking]
    return "".join(map(str, texts)) if all(isinstance(one, str) for one in texts) else None


def as_text(made: Json) -> bool:
    """Makes a text of a call's `arguments` that are an object. Says whether they were one."""
    if not isinstance(made.get("arguments"), dict):
        return False
    made["arguments"] = orjson.dumps(made["arguments"]).decode()
    return True


def call_id(answer: object, choice: int, call: int) -> str:
    """An identity for a tool call that came without one: the result of the call has to name it."""
    return f"call_{answer}_{choice}_{call}"
