"""A conversation with a model over any number of steps: what is asked next, and what its functions answered."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from orchestrator.asks import Ask
from orchestrator.errors import BadChoice
from orchestrator.python.asking import ask_for
from orchestrator.python.reply import ModelReply, Step
from orchestrator.types import Json

if TYPE_CHECKING:
    from orchestrator.python.tools import Tool

MAX_STEPS = 5
"""Answers of the model, unless the caller says otherwise: four rounds of tools."""


class Conversation:
    """One call of `generate`, `stream` or `generate_object`. Raises BadChoice for arguments that make no sense."""

    def __init__(
        self,
        selector: str,
        user: str | None,
        prompt: str | None,
        messages: Sequence[Any] | None,
        *,
        system: str | None,
        tools: Iterable[Tool] | None,
        max_steps: int,
        params: Json,
    ) -> None:
        if (prompt is None) == (messages is None):
            raise BadChoice("prompt", "give either a prompt or messages=, and not both")
        if max_steps < 1:
            raise BadChoice("max_steps", "has to be at least 1")
        head = [] if system is None else [{"role": "system", "content": system}]
        asked = [{"role": "user", "content": prompt}] if messages is None else messages
        self.messages: list[Any] = [*head, *asked]
        self.steps: list[Step] = []
        self._selector = selector
        self._user = user
        self._max_steps = max_steps
        self._params = dict(params)
        self._tools = None
        if tools := list(tools or ()):
            from orchestrator.python.tools import Tools  # and with it pydantic: not for those who do without

            self._tools = Tools(tools)
            self._params["tools"] = self._tools.schemas

    def ask(self, *, stream: bool = False) -> Ask:
        """What is asked next."""
        return ask_for(self._selector, self.messages, self._params, stream=stream, user=self._user)

    async def take(self, step: Step) -> bool:
        """The answer has come: runs the functions that it calls, if there is a step left. Says whether to ask again."""
        self.steps.append(step)
        self.messages.append(step.message)
        calls = step.tool_calls
        if not calls or self._tools is None or not self._tools.runs(calls) or len(self.steps) >= self._max_steps:
            return False
        self.messages += await self._tools.run(calls)
        if self._params.get("tool_choice") not in ("auto", "none"):
            # It has been obeyed; asked for again, the model would call tools for ever.
            self._params.pop("tool_choice", None)
        return True

    def say(self, text: str) -> None:
        """The user's next turn."""
        self.messages.append({"role": "user", "content": text})

    def instruct(self, text: str) -> None:
        """Adds to the system message; many models take no second one."""
        first = self.messages[0] if self.messages else None
        if isinstance(first, dict) and first.get("role") == "system" and isinstance(first.get("content"), str):
            self.messages[0] = {**first, "content": f"{first['content']}\n\n{text}"}
        else:
            self.messages.insert(0, {"role": "system", "content": text})

    def reply(self) -> ModelReply:
        """What has come of it."""
        return ModelReply(tuple(self.steps), self.messages)
