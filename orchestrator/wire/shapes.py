"""The shapes that callers speak, by path."""

from __future__ import annotations

from orchestrator.wire.chat import ChatShape
from orchestrator.wire.completions import CompletionsShape
from orchestrator.wire.embeddings import EmbeddingsShape
from orchestrator.wire.messages import MessagesShape
from orchestrator.wire.responses import ResponsesShape
from orchestrator.wire.shape import Shape

CHAT: Shape = ChatShape()
SHAPES: dict[str, Shape] = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": CompletionsShape(),
    "/v1/embeddings": EmbeddingsShape(),
    "/v1/responses": ResponsesShape(),
    "/v1/messages": MessagesShape(),
}


def speaking(path: str) -> Shape:
    """The shape in which whoever asks for a path expects errors: OpenAI's, save below Anthropic's paths."""
    return next((shape for below, shape in SHAPES.items() if path.startswith(below)), CHAT)
