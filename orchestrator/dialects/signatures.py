"""What models sign of what they thought, and how it travels through shapes that have no place for it.

Google signs the calls of tools: `extra_content.google.thought_signature` of the first call of a turn, and insists on having
it back (ai.google.dev/gemini-api/docs/thought-signatures; `vertex` has been seen in place of `google`:
github.com/earendil-works/pi, issue 6733). OpenRouter gives what its models sign as `reasoning_details`, and says by `format`
whose it is (openrouter.ai/docs/use-cases/reasoning-tokens). Anthropic's and OpenAI's clients keep none of these fields, and
give back verbatim what no other maker's model may see: `redacted_thinking.data`, `thinking.signature`, a reasoning item's
`encrypted_content`. There a signature stands sealed: a prefix that no maker's begins with, whose it is, and base64 of all
that has to come back with it. Anthropic's own stands there as it is, but for a signature of thoughts that it does not show,
in a reasoning item.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import orjson

from orchestrator.types import Json

_PREFIX = "orchestrator:"
_ANTHROPICS = (None, "anthropic-claude-v1")
"""What `format` says of Anthropic's own; its dialect says nothing."""
_MAKERS = ("google", "vertex")
"""The names below `extra_content` that Google's signatures stand under."""
_NAME = "thought_signature"


class Signature(NamedTuple):
    """A signature of Google's."""

    maker: str
    """The name below `extra_content`."""
    data: str
    call: str | None = None
    """The identity of the call that bears it; None: the turn itself does."""

    def sealed(self) -> str:
        """As a text that its caller gives back."""
        return _sealed(self.maker, {"maker": self.maker, "data": self.data, "call": self.call})


def signatures(holder: Mapping[str, Any], call: str | None = None) -> Iterator[Signature]:
    """Those that a message or a delta bears itself, or a call, whose identity is `call`."""
    content = holder.get("extra_content")
    if not isinstance(content, dict):
        return
    for maker in _MAKERS:
        said = content.get(maker)
        if isinstance(said, dict) and isinstance(data := said.get(_NAME), str) and data:
            yield Signature(maker, data, call)


def put(signature: Signature, message: Json) -> None:
    """Gives a signature back to the call that bore it, if that is in the message, or to the message."""
    if signature.call is None:
        holders = [message]
    else:
        holders = [call for call in message.get("tool_calls") or () if call.get("id") == signature.call]
    for holder in holders[:1]:
        holder.setdefault("extra_content", {})[signature.maker] = {_NAME: signature.data}


def is_anthropics(detail: Mapping[str, Any]) -> bool:
    """Whether an entry of `reasoning_details` is of a model of Anthropic's, which refuses all others'."""
    return detail.get("format") in _ANTHROPICS


def kept(detail: Mapping[str, Any], *, alone: bool = False) -> Any:
    """What a caller is to give back of an entry of `reasoning_details`, beside its text: sealed, but for Anthropic's own.

    `alone`: no text stands beside it, by which a signature of Anthropic's would be told from what it encrypted; so that is
    sealed, too.
    """
    encrypted = detail.get("type") == "reasoning.encrypted"
    held = detail.get("data" if encrypted else "signature")
    if not held or (is_anthropics(detail) and (encrypted or not alone)):
        return held
    flat = {
        name: value for name, value in detail.items() if isinstance(value, str | int) and (name != "text" or not value)
    }
    return _sealed(str(detail.get("format") or "anthropic"), flat)


def is_sealed(given: Any) -> bool:
    """Whether a caller gives back what was sealed here."""
    return isinstance(given, str) and given.startswith(_PREFIX)


def unsealed(given: str) -> Signature | Json | None:
    """What was sealed: a signature of Google's, or an entry of `reasoning_details` without its text; None where it has been
    changed since."""
    try:
        found = orjson.loads(base64.b64decode(given.rpartition(":")[2], altchars=b"-_", validate=True))
    except (orjson.JSONDecodeError, binascii.Error, ValueError):
        return None
    if not isinstance(found, dict) or not all(isinstance(value, str | int | None) for value in found.values()):
        return None
    if "type" in found:
        return found
    maker, data, call = found.get("maker"), found.get("data"), found.get("call")
    if maker not in _MAKERS or not isinstance(data, str) or not (call is None or isinstance(call, str)):
        return None
    return Signature(maker, data, call)


def _sealed(maker: str, fields: Json) -> str:
    return f"{_PREFIX}{maker}:{base64.urlsafe_b64encode(orjson.dumps(fields)).decode()}"


def stood_in(message: Json, stand_in: Mapping[str, object]) -> Json:
    """A message whose first call is signed: by the stand-in, as `extra_content`, where the model's own signature is missing.
    Of several calls side by side the first alone is signed."""
    calls = message.get("tool_calls")
    if not isinstance(calls, list) or not calls or not isinstance(calls[0], dict) or any(signatures(calls[0])):
        return message
    given = calls[0].get("extra_content")
    first = {**calls[0], "extra_content": {**(given if isinstance(given, dict) else {}), **stand_in}}
    return {**message, "tool_calls": [first, *calls[1:]]}


def unsigned(message: Json) -> Json:
    """A message without Google's signatures. Others that check a turn's fields refuse them: Fireworks and Mistral
    (github.com/NousResearch/hermes-agent, pull request 38543)."""
    calls = message.get("tool_calls")
    if isinstance(calls, list) and any(isinstance(call, dict) and any(signatures(call)) for call in calls):
        message = {**message, "tool_calls": [_unsigned(call) if isinstance(call, dict) else call for call in calls]}
    return _unsigned(message)


def _unsigned(holder: Json) -> Json:
    if not any(signatures(holder)):
        return holder
    content = {name: value for name, value in holder["extra_content"].items() if name not in _MAKERS}
    rest = {name: value for name, value in holder.items() if name != "extra_content"}
    return {**rest, "extra_content": content} if content else rest
