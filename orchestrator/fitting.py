"""Fits a request to a provider: what its row says that it wants otherwise (`Quirks`), and what is meant for it alone.

A request may carry an object named after a known provider (`"openrouter": {"provider": {…}, "models": […]}`). Its fields
reach that provider as they stand, over the others of the same name, and no other provider sees them: so a field that one
alone knows may be sent along to a whole tier, and those that are routing choices here can be meant for OpenRouter.
(`anthropic` is the same; its dialect puts those fields where they belong.)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.config.settings import Quirks
from orchestrator.providers import PRESETS
from orchestrator.types import Json, Request

EXTENSIONS = frozenset(name for name, row in PRESETS.items() if row.dialect == "openai")
_OURS = ("model", "stream")
"""Whom is asked, and how, is not for an extension to say."""


def fitted(request: Request, quirks: Quirks) -> Request:
    """The request as the provider wants it: the very same one where it wants nothing. What it does not name stays."""
    given = body = request.body
    if not EXTENSIONS.isdisjoint(body):
        body = _extended(body, quirks.extension)
    if quirks.drops or quirks.renames:
        # A value by the name that it wants goes before one that would have to be renamed.
        drops = quirks.drops | {old for old, new in quirks.renames.items() if new in body}
        body = {quirks.renames.get(name, name): value for name, value in body.items() if name not in drops}
    if (quirks.roles or quirks.turn_drops) and "messages" in body:
        body = {**body, "messages": [_turn(message, quirks) for message in body["messages"]]}
    return request if body is given else request._replace(body=body)


def _extended(body: Json, own: str) -> Json:
    """The body with the fields of its own extension, and without anybody else's."""
    found = {name for name in EXTENSIONS if isinstance(body.get(name), dict)}
    rest = {name: value for name, value in body.items() if name not in found}
    if own in found:
        rest |= {name: value for name, value in body[own].items() if name not in _OURS}
    return rest


def _turn(message: Mapping[str, Any], quirks: Quirks) -> Json:
    turn = {name: value for name, value in message.items() if name not in quirks.turn_drops}
    return turn | {"role": quirks.roles.get(turn["role"], turn["role"])}
