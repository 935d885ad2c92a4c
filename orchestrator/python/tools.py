"""Typed functions as tools of a model: their schema, from annotations and defaults, and their calls.

What the model gets wrong (a name, an argument, whatever a function answers with `ToolError`) is told to the model; what else
a function raises is the caller's.
"""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NotRequired, Required, TypeAlias, get_type_hints

import typing_extensions
from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, to_json, to_jsonable_python

from orchestrator.errors import BadChoice, ToolError
from orchestrator.python.reply import ToolCall
from orchestrator.types import Json

Tool: TypeAlias = Callable[..., Any] | Json
"""A typed function, sync or async; or a tool in OpenAI's shape, which is never run: its calls are returned."""
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
# Made from its fields at run time; pydantic insists on this one before Python 3.12.
_typed_dict: Any = typing_extensions.TypedDict


class Function:
    """A function that a model may call."""

    def __init__(self, function: Callable[..., Any]) -> None:
        name = getattr(function, "__name__", "")
        if not _NAME.fullmatch(name):
            raise BadChoice("tools", f"{function!r} has no name that a model could call it by; wrap it in a `def`")
        self.name = name
        self._function = function
        defaults: Json = {}
        try:
            self._arguments: TypeAdapter[Any] = TypeAdapter(_arguments(function, name, defaults))
            schema = self._arguments.json_schema()
        except (PydanticUserError, NameError, AttributeError, TypeError, ValueError) as error:
            # The last three: a name that a module lacks, what is no type, and what has no signature, as `max`.
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise BadChoice("tools", f"the annotations of {name} make no JSON schema: {reason}") from None
        schema.pop("title", None)
        for argument, property_ in schema["properties"].items():
            property_.pop("title", None)
            if argument in defaults:
                property_.setdefault("default", defaults[argument])
        self.schema: Json = {"type": "function", "function": {"name": name, "parameters": schema}}
        if description := inspect.getdoc(function):
            self.schema["function"]["description"] = description

    async def call(self, text: str) -> str:
        """What the model is told: the result (as JSON, if it is no text), or what was wrong."""
        try:
            arguments = self._arguments.validate_json(text)
        except ValidationError as error:
            return "error: the arguments do not fit: " + "; ".join(problems(error))
        try:
            if inspect.iscoroutinefunction(self._function):
                result = await self._function(**arguments)
            else:
                result = await asyncio.to_thread(self._run, arguments)
                if inspect.isawaitable(result):
                    result = await result
        except ToolError as error:
            return f"error: {error}"
        return result if isinstance(result, str) else _json(result)

    def _run(self, arguments: Json) -> Any:
        try:
            return self._function(**arguments)
        except StopIteration as error:
            # No future takes it: whoever waited for it would wait for ever. Coroutines make the same of it (PEP 479).
            raise RuntimeError(f"{self.name} raised StopIteration") from error


def _json(result: Any) -> str:
    """Bytes as the text that they are, or else in base64."""
    try:
        return to_json(result, fallback=str).decode()
    except PydanticSerializationError:
        return to_json(result, fallback=str, bytes_mode="base64").decode()


def _arguments(function: Callable[..., Any], name: str, defaults: Json) -> Any:
    """The type of a function's arguments. Defaults that JSON can say are put into `defaults`."""
    hints = get_type_hints(function, include_extras=True)
    fields: dict[str, Any] = {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise BadChoice("tools", f"{name} takes {parameter}, which no model can give: name its parameters")
        annotation = hints.get(parameter.name, Any)
        if parameter.default is parameter.empty:
            fields[parameter.name] = Required[annotation]
        else:
            # Left out by the model, it is left out of the call: the function has its default itself.
            fields[parameter.name] = NotRequired[annotation]
            defaults[parameter.name] = to_jsonable_python(parameter.default, fallback=str)
    made = _typed_dict(f"{name}_arguments", fields)
    made.__pydantic_config__ = ConfigDict(extra="forbid")
    return made


class Tools:
    """The tools of one call."""

    def __init__(self, tools: Iterable[Tool]) -> None:
        self.schemas: list[Json] = []
        """As they are sent."""
        self._functions: dict[str, Function] = {}
        self._plain: set[str] = set()
        for tool in tools:
            if isinstance(tool, dict):
                self.schemas.append(tool)
                self._plain.add(str((tool.get("function") or tool.get("custom") or {}).get("name")))
            elif callable(tool):
                function = Function(tool)
                if function.name in self._functions:
                    raise BadChoice("tools", f"two functions have the name {function.name}")
                self._functions[function.name] = function
                self.schemas.append(function.schema)
            else:
                raise BadChoice("tools", f"{tool!r} is neither a function nor a tool in OpenAI's shape")

    def runs(self, calls: Sequence[ToolCall]) -> bool:
        """Whether these are for functions alone. A name that there is not at all is: the model is told so."""
        return bool(self._functions) and all(call.name not in self._plain for call in calls)

    async def run(self, calls: Sequence[ToolCall]) -> list[Json]:
        """Runs functions side by side; the messages with their results, in the order of the calls.

        Raises what a function raises, save ToolError; the others are cancelled then.
        """
        tasks = [asyncio.ensure_future(self._call(call)) for call in calls]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            for task in tasks:
                if task in done:
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        results = zip(calls, tasks, strict=True)
        return [{"role": "tool", "tool_call_id": call.id, "content": task.result()} for call, task in results]

    async def _call(self, call: ToolCall) -> str:
        function = self._functions.get(call.name)
        if function is None:
            return f"error: there is no tool {call.name!r}; there is {', '.join(self._functions)}"
        return await function.call(call.text)


def problems(error: ValidationError) -> tuple[str, ...]:
    """What is wrong, a line each: where, and why; without the values, which may be long."""
    found = []
    for one in error.errors(include_url=False, include_input=False, include_context=False):
        where = ".".join(map(str, one["loc"]))
        found.append(f"{where}: {one['msg']}" if where else one["msg"])
    return tuple(found)
