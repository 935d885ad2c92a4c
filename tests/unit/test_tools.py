"""Typed functions as tools: what their schemas say, and what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from orchestrator import BadChoice
from orchestrator.python.reply import ToolCall
from orchestrator.python.tools import Function, Tools


class Place(BaseModel):
    """A town."""

    name: str


def look(  # type: ignore[no-untyped-def]
    place: Place,
    days: Annotated[int, Field(description="how many", ge=1)] = 3,
    *,
    unit: Literal["C", "F"] = "C",
    anything=None,
) -> str:
    """The weather.

    Of the days to come.
    """
    return f"{place.name} {days} {unit} {anything}"


def test_the_schema_of_a_function() -> None:
    """From annotations, defaults and docstring; what has a default need not be given."""
    schema = Function(look).schema
    parameters = schema["function"].pop("parameters")
    said = {"name": "look", "description": "The weather.\n\nOf the days to come."}
    assert {"type": "function", "function": said} == schema
    assert (["place"], False) == (parameters["required"], parameters["additionalProperties"])
    properties = parameters["properties"]
    assert {"$ref": "#/$defs/Place"} == properties["place"]
    assert {"description": "how many", "minimum": 1, "type": "integer", "default": 3} == properties["days"]
    assert {"enum": ["C", "F"], "type": "string", "default": "C"} == properties["unit"]
    assert {"default": None} == properties["anything"]


async def test_arguments_are_what_the_annotations_say() -> None:
    """Models become models; what is left out has the function's own default."""
    assert "Oslo 3 F None" == await Function(look).call('{"place": {"name": "Oslo"}, "unit": "F"}')
    assert "days: Input should be greater than or equal to 1" in await Function(look).call(
        '{"place": {"name": "a"}, "days": 0}'
    )


class Station:
    """Methods are functions, too."""

    def read(self) -> int:
        return 7


async def test_methods() -> None:
    """Without their object among the arguments."""
    read = Function(Station().read)
    assert ("read", {}) == (read.schema["function"]["name"], read.schema["function"]["parameters"]["properties"])
    assert "7" == await read.call("{}")


@pytest.mark.parametrize(
    ("result", "expected"), [(b"hi", '"hi"'), (b"\xff", '"_w=="'), ({"a": b"\xff"}, '{"a":"_w=="}'), (object, None)]
)
async def test_bytes_and_the_like_are_results(result: Any, expected: str | None) -> None:
    """Text where they are text, else base64; what JSON does not know is said as Python would."""

    def read() -> Any:
        return result

    assert (expected or "\"<class 'object'>\"") == await Function(read).call("{}")


async def test_a_function_that_stops_an_iteration_fails() -> None:
    """In a thread, too, where no future would take it: the caller would wait for ever."""

    def first() -> Any:
        return next(iter(()))

    with pytest.raises(RuntimeError, match="first raised StopIteration"):
        await asyncio.wait_for(Function(first).call("{}"), 5)


def stars(*args: int) -> None: ...
def named(**kwargs: int) -> None: ...
def positional(a: int, /) -> None: ...
def unknown(a: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821
def odd(a: Callable[[], int]) -> None: ...
def arbitrary(a: Station) -> None: ...


class Half(BaseModel):
    of: Lost  # type: ignore[name-defined]  # noqa: F821


def lost(a: Half) -> None: ...
def absent(a: asyncio.nowhere) -> None: ...  # type: ignore[name-defined]


@pytest.mark.parametrize(
    ("tools", "said"),
    [
        ([lambda: 1], "has no name that a model could call it by"),
        ([partial(look)], "has no name that a model could call it by"),
        ([stars], r"stars takes \*args: 'int', which no model can give"),
        ([named], r"named takes \*\*kwargs: 'int'"),
        ([positional], "positional takes a: 'int'"),
        ([unknown], "the annotations of unknown make no JSON schema: name 'Nowhere' is not defined"),
        ([odd], "the annotations of odd make no JSON schema"),
        ([max], "the annotations of max make no JSON schema: no signature found"),
        ([lost], "the annotations of lost make no JSON schema: .* is not fully defined"),
        ([absent], "the annotations of absent make no JSON schema: .*nowhere"),
        ([arbitrary], "the annotations of arbitrary make no JSON schema"),
        ([look, look], "two functions have the name look"),
        ([7], "7 is neither a function nor a tool in OpenAI's shape"),
    ],
)
def test_what_makes_no_tool(tools: list[Any], said: str) -> None:
    """Is refused before anybody is asked."""
    with pytest.raises(BadChoice, match=said):
        Tools(tools)


@pytest.mark.parametrize(("text", "expected"), [('{"a": 1}', {"a": 1}), ("[1]", {}), ("{", {})])
def test_the_arguments_of_a_call(text: str, expected: dict[str, Any]) -> None:
    """As an object; what is none is none."""
    assert expected == ToolCall("c1", "f", text).arguments
