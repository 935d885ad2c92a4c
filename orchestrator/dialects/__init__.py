"""Upstream wire formats. To add one: a module with a `Dialect`, and a line here."""

from __future__ import annotations

from orchestrator.dialects.anthropic import Anthropic
from orchestrator.dialects.base import Dialect, HttpCall, StreamDecoder
from orchestrator.dialects.openai import OpenAI

DIALECTS: dict[str, Dialect] = {"openai": OpenAI(), "anthropic": Anthropic()}

__all__ = ["DIALECTS", "Dialect", "HttpCall", "StreamDecoder"]
