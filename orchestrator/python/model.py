"""One model, tier or experiment, as Python code asks it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from orchestrator.errors import BadChoice, CallFailed, InvalidObject
from orchestrator.python.conversation import MAX_STEPS, Conversation
from orchestrator.python.reply import ModelReply, step_of
from orchestrator.python.stream import ModelStream
from orchestrator.wire.within import Coordinating

if TYPE_CHECKING:
    from orchestrator.python.objects import Form
    from orchestrator.python.tools import Tool

T = TypeVar("T")


class Model:
    """Whatever a selector names. Made by `Models.model`; costs nothing, and may be kept and shared between tasks.

    All methods take `prompt` or `messages` (chat messages in OpenAI's shape), `system` (a system message that comes before
    them) and any parameter of a chat completion: `temperature`, `max_tokens`, `orchestrator={"strategy": …}`. They raise
    UnknownSelector, BadChoice for arguments that make no sense, and CallFailed for a request that got no answer.
    """

    def __init__(self, selector: str, user_id: str | None, current: Callable[[], Coordinating]) -> None:
        self.selector = selector
        self.user_id = user_id
        self._current = current

    def __repr__(self) -> str:
        return f"Model({self.selector!r})"

    async def generate(
        self,
        prompt: str | None = None,
        *,
        messages: Sequence[Any] | None = None,
        system: str | None = None,
        tools: Iterable[Tool] | None = None,
        max_steps: int = MAX_STEPS,
        **params: Any,
    ) -> ModelReply:
        """A whole answer.

        `tools` are typed functions: what the model calls is run, side by side where it calls several at once, and the model
        is asked again with the results, until it answers or has been asked `max_steps` times; the last answer then stands
        with its `tool_calls`. A sync function runs in a thread. Arguments that do not fit the annotations are not passed on:
        the model is told; so it is of a `ToolError`. Whatever else a function raises comes out of here. A tool may also be a
        dict in OpenAI's shape: calls of those are not run but returned.
        """
        return await self._run(self._conversation(prompt, messages, system, tools, max_steps, params))

    def stream(
        self,
        prompt: str | None = None,
        *,
        messages: Sequence[Any] | None = None,
        system: str | None = None,
        tools: Iterable[Tool] | None = None,
        max_steps: int = MAX_STEPS,
        **params: Any,
    ) -> ModelStream:
        """The answer as it comes: `async for delta in model.stream("…"): print(delta.text)`. See `ModelStream`; tools are as
        `generate` has them."""
        return ModelStream(self._current(), self._conversation(prompt, messages, system, tools, max_steps, params))

    @overload
    async def generate_object(
        self,
        prompt: str | None = None,
        *,
        schema: type[T],
        messages: Sequence[Any] | None = None,
        system: str | None = None,
        tools: Iterable[Tool] | None = None,
        max_steps: int = MAX_STEPS,
        with_reply: Literal[False] = False,
        **params: Any,
    ) -> T: ...

    @overload
    async def generate_object(
        self,
        prompt: str | None = None,
        *,
        schema: type[T],
        messages: Sequence[Any] | None = None,
        system: str | None = None,
        tools: Iterable[Tool] | None = None,
        max_steps: int = MAX_STEPS,
        with_reply: Literal[True],
        **params: Any,
    ) -> tuple[T, ModelReply]: ...

    async def generate_object(
        self,
        prompt: str | None = None,
        *,
        schema: type[T],
        messages: Sequence[Any] | None = None,
        system: str | None = None,
        tools: Iterable[Tool] | None = None,
        max_steps: int = MAX_STEPS,
        with_reply: bool = False,
        **params: Any,
    ) -> T | tuple[T, ModelReply]:
        """An instance of `schema`: a pydantic model, a dataclass, a `list[…]`, whatever pydantic can validate.

        The model is held to the JSON schema. Where nobody who could be asked keeps to one, the schema stands in the prompt.
        An answer that does not fit is sent back once, with what is wrong; then InvalidObject is raised. `with_reply`: a pair
        with the reply, whose steps and costs are those of all that was asked.
        """
        from orchestrator.python.objects import Form, keeps_no_schema

        if "response_format" in params:
            raise BadChoice("response_format", "is what schema= is for")
        form = Form(schema)
        asked = (prompt, messages, system, None if tools is None else list(tools), max_steps)
        conversation = self._conversation(*asked, {**params, "response_format": form.response_format})
        try:
            reply = await self._run(conversation)
        except CallFailed as error:
            if conversation.steps or not keeps_no_schema(error.failure):
                raise
            conversation = self._conversation(*asked, params)
            conversation.instruct(form.instruction)
            reply = await self._run(conversation)
        value, reply = await self._read(form, conversation, reply)
        return (value, reply) if with_reply else value

    async def _read(self, form: Form[T], conversation: Conversation, reply: ModelReply) -> tuple[T, ModelReply]:
        from orchestrator.python.objects import repair

        if reply.tool_calls:
            calls = ", ".join(call.name for call in reply.tool_calls)
            raise InvalidObject(reply.text, (f"it calls {calls} instead, which are not run or have no step left",))
        try:
            return form.read(reply.steps[-1]), reply
        except InvalidObject as wrong:
            conversation.say(repair(wrong))
        reply = await self._run(conversation)
        return form.read(reply.steps[-1]), reply

    def _conversation(
        self,
        prompt: str | None,
        messages: Sequence[Any] | None,
        system: str | None,
        tools: Iterable[Tool] | None,
        max_steps: int,
        params: dict[str, Any],
    ) -> Conversation:
        return Conversation(
            self.selector,
            self.user_id,
            prompt,
            messages,
            system=system,
            tools=tools,
            max_steps=max_steps,
            params=params,
        )

    async def _run(self, conversation: Conversation) -> ModelReply:
        coordinator = self._current()
        while await conversation.take(step_of(await coordinator.answer(conversation.ask()))):
            pass
        return conversation.reply()
