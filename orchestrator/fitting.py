"""Fits a request to a provider: what its row says that it wants otherwise (`Quirks`), and what is meant for it alone.

A request may carry an object named after a known provider (`"openrouter": {"provider": {…}, "models": […]}`). Its fields
reach that provider as they stand, over the others of the same name, and no other provider sees them: so a field that one
alone knows may be sent along to a whole tier, and those that are routing choices here can be meant for OpenRouter.
(`anthropic` is the same; its dialect puts those fields where they belong.)
"""

from __future__ import annotations

import re
from typing import Any

from orchestrator.config.settings import Quirks
from orchestrator.dialects.choices import taken_id
from orchestrator.dialects.signatures import stood_in, unsigned
from orchestrator.providers import PRESETS
from orchestrator.types import Json, Request

EXTENSIONS = frozenset(name for name, row in PRESETS.items() if row.dialect == "openai")
_OURS = ("model", "messages", "stream")
"""Whom is asked, what and how, is not for an extension to say."""


def fitted(request: Request, quirks: Quirks, model: str = "") -> Request:
    """The request as the provider wants it of a model: the very same one where it wants nothing. What it does not name
    stays, but for Google's signatures: they are for Google's models alone."""
    given = body = request.body
    own: Json = {}
    if not EXTENSIONS.isdisjoint(body):
        own = _own(body, quirks.extension)
        body = {name: value for name, value in body.items() if not _is_extension(name, value)}
    if quirks.drops or quirks.renames:
        # A value by the name that it wants goes before one that would have to be renamed.
        drops = quirks.drops | {old for old, new in quirks.renames.items() if new in body}
        body = {quirks.renames.get(name, name): value for name, value in body.items() if name not in drops}
    if isinstance(turns := body.get("messages"), list):
        fitting = turns
        if quirks.roles or quirks.turn_drops or quirks.call_drops or quirks.call_id_characters:
            fitting = [_turn(turn, quirks) for turn in turns]
        fitting = _signed(fitting, quirks, model)
        # Turns that need nothing are the very same ones, but for calls that were looked through: a comparison costs little.
        if fitting != turns:
            body = {**body, "messages": fitting}
    return request if body is given else request._replace(body={**body, **own})


def is_message(request: Request) -> bool:
    """Whether it was written in Anthropic's shape, which insists on `max_tokens`: there the number is a cap, not a wish."""
    extension = request.body.get("anthropic")
    return isinstance(extension, dict) and "messages" in extension


def capped(request: Request, most: int | None) -> Request:
    """The request, asking for no more than a model is known to write: clients written for Claude ask all for the same."""
    found = {name: most for name in ("max_tokens", "max_completion_tokens") if _over(request.body.get(name), most)}
    return request._replace(body={**request.body, **found}) if found else request


def _over(wanted: object, most: int | None) -> bool:
    return most is not None and isinstance(wanted, int) and wanted > most


def _is_extension(name: str, value: object) -> bool:
    return name in EXTENSIONS and isinstance(value, dict)


def _own(body: Json, name: str) -> Json:
    """The fields of a provider's own extension; none where there is none."""
    extension = body.get(name)
    found = extension if isinstance(extension, dict) and name in EXTENSIONS else {}
    return {field: value for field, value in found.items() if field not in _OURS}


def _signed(turns: list[Json], quirks: Quirks, model: str) -> list[Json]:
    """Turns with the signatures that the model wants, and without those that are not for it."""
    if not any("tool_calls" in turn or "extra_content" in turn for turn in turns):
        return turns
    if not quirks.signing_models and "gemini" not in model:
        return [unsigned(turn) for turn in turns]
    if not quirks.signing_models or not re.search(quirks.signing_models, model):
        return turns
    return [stood_in(turn, quirks.stand_in) if turn.get("role") == "assistant" else turn for turn in turns]


def _turn(turn: Json, quirks: Quirks) -> Json:
    if not quirks.turn_drops.isdisjoint(turn):
        turn = {name: value for name, value in turn.items() if name not in quirks.turn_drops}
    if (role := quirks.roles.get(turn["role"])) is not None:
        turn = {**turn, "role": role}
    length = quirks.call_id_characters
    if (quirks.call_drops or length) and isinstance(calls := turn.get("tool_calls"), list):
        turn = {**turn, "tool_calls": [_call(call, quirks) for call in calls]}
    if length and "tool_call_id" in turn:
        turn = {**turn, "tool_call_id": _identity(turn["tool_call_id"], length)}
    return turn


def _call(call: Any, quirks: Quirks) -> Any:
    if not isinstance(call, dict):
        return call
    kept = {name: value for name, value in call.items() if name not in quirks.call_drops}
    if quirks.call_id_characters:
        kept["id"] = _identity(call.get("id"), quirks.call_id_characters)
    return kept


def _identity(given: Any, characters: int) -> Any:
    """Letters and digits, so many of them."""
    return taken_id(given, f"[A-Za-z0-9]{{{characters}}}", characters)
