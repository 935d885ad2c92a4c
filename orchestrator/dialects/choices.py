"""What is put in order in a choice, whole or streamed, so that a client of OpenAI's can read it."""

from __future__ import annotations

import hashlib
import re
from typing import Any
from uuid import uuid4

import orjson

from orchestrator.dialects.failures import of_error
from orchestrator.dialects.messages import FINISH as ANTHROPIC
from orchestrator.types import Failure, FailureKind, Json

FINISH = {
    **ANTHROPIC,  # as they come from gateways that put their names behind OpenAI's shape; z.ai has the one of the window
    "eos": "stop",  # github.com/togethercomputer/together-py, types/chat/chat_completion.py (3.1.1, 2026-11-25)
    "eos_token": "stop",  # huggingface.github.io/text-generation-inference, FinishReason
    "model_length": "length",  # github.com/mistralai/client-python, models/chatcompletionchoice.py (3.7.0, 2026-11-25)
    "sensitive": "content_filter",  # docs.z.ai/api-reference/llm/chat-completion
}
"""Reasons to finish that are not OpenAI's. The provider's own word is kept as `native_finish_reason`, as OpenRouter does."""
_BROKEN = {
    "error": "the model stopped because of an error",  # OpenRouter's and Mistral's
    "insufficient_system_resource": "the provider ran out of resources",  # api-docs.deepseek.com/api/create-chat-completion
    "network_error": "the model was cut off",  # z.ai's
    "abort": "the engine aborted the request",  # vLLM (v1/engine/__init__.py, FinishReason) and SGLang
}
"""Reasons that say that the answer is not whole."""
_FILTERED = "content_filter"
_MALFORMED_CALL = "function_call_filter"


def finish_of(choice: Json) -> bool:
    """Gives a choice a reason to finish that OpenAI has. Says whether that changed anything.

    What is no word is no reason: SGLang and Ollama have had an empty text in every chunk (github.com/sgl-project/sglang,
    issue 3912; github.com/ollama/ollama, issue 4357). Gemini says more behind a colon: `content_filter: PROHIBITED_CONTENT`.
    """
    reason = choice["finish_reason"]
    if reason is None:
        return False
    if not isinstance(reason, str) or not reason:
        choice["finish_reason"] = None
        return True
    known = _FILTERED if reason.startswith(_FILTERED) else FINISH.get(reason, reason)
    if known == reason:
        return False
    choice["finish_reason"] = known
    choice.setdefault("native_finish_reason", reason)
    return True


def broken(choice: Json) -> Failure | None:
    """The failure that a choice is whose reason to finish says that it did not come to its end."""
    reason = choice.get("finish_reason")
    if not isinstance(reason, str):
        return None
    if reason.startswith(_MALFORMED_CALL):
        # Gemini's, of a call that cannot be read; nothing of it comes. Another model may do better.
        return Failure(FailureKind.BAD_ANSWER, f"the model made a call that is none ({reason})", status=200)
    if reason not in _BROKEN:
        return None
    error = choice.get("error")
    return of_error(200, error if isinstance(error, dict) else {"message": _BROKEN[reason]})


def complete(choice: object) -> bool:
    """Whether it is a choice of a whole answer, to which a message is given where that is missing: Gemini leaves it out where
    it filtered all of it, or thought for as long as it was allowed to."""
    if not isinstance(choice, dict):
        return False
    reason = choice.get("finish_reason")
    silent = isinstance(reason, str) and reason.startswith((_FILTERED, "length", _MALFORMED_CALL))
    if silent and choice.get("message") is None:
        choice["message"] = {"role": "assistant", "content": None}
    return isinstance(choice.get("message"), dict)


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


def answer_id(given: object) -> str:
    """The identity of an answer: a new one where it came without (Gemini has said null): those of calls, which are made of
    it, have to differ from those of other answers in the same conversation."""
    return given if isinstance(given, str) and given else f"chatcmpl-{uuid4().hex}"


def taken_id(given: Any, taken: str, characters: int, prefix: str = "") -> Any:
    """The identity of a call, as a provider takes it that refuses those which do not look so (`taken`, a regular expression):
    its digest, of so many hexadecimal characters, in place of one that another provider's model made. The same in the call
    and in its result."""
    if not isinstance(given, str) or re.fullmatch(taken, given):
        return given
    return prefix + hashlib.sha256(given.encode()).hexdigest()[:characters]


def call_id(answer: str, choice: int, call: int) -> str:
    """An identity for a tool call that came without one: the result of the call has to name it."""
    return f"call_{answer}_{choice}_{call}"
