"""The shapes that callers speak, by path."""

from __future__ import annotations

from orchestrator.wire.chat import ChatShape
from orchestrator.wire.completions import CompletionsShape
from orchestrator.wire.embeddings import EmbeddingsShape
from orchestrator.wire.http import Scope
from orchestrator.wire.messages import MessagesShape
from orchestrator.wire.responses import ResponsesShape
from orchestrator.wire.shape import Shape

CHAT: Shape = ChatShape()
MESSAGES: Shape = MessagesShape()
SHAPES: dict[str, Shape] = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": CompletionsShape(),
    "/v1/embeddings": EmbeddingsShape(),
    "/v1/responses": ResponsesShape(),
    "/v1/messages": MESSAGES,
}


def speaking(path: str, scope: Scope) -> Shape:
    """The shape in which whoever asks for a path expects errors: OpenAI's, save below Anthropic's paths, and for its
    clients."""
    if path.startswith("/v1/models") and is_anthropics(scope):
        return MESSAGES
    return next((shape for below, shape in SHAPES.items() if path.startswith(below)), CHAT)


def is_anthropics(scope: Scope) -> bool:
    """Whether a client of Anthropic's asks for what both houses have: the models."""
    return any(name == b"anthropic-version" for name, _ in scope["headers"])
