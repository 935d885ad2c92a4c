"""Objects as answers: the schema that is sent, what is read, what is asked again, and what is raised in the end."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, WithJsonSchema

from orchestrator import BadChoice, CallFailed, InvalidObject, create_models
from orchestrator.types import Json, Usage
from tests.upstream import completion
from tests.wire.python import Scripted, calling

SIM: Json = {"providers": {"sim": {"simulate": {"latency_s": {"median": 0, "p99": 0}, "tokens_per_s": 10000}}}}
ADA = '{"name": "Ada", "age": 36}'


class Person(BaseModel):
    name: str
    age: int = Field(default=1, ge=0)


class Pet(BaseModel):
    kind: Literal["cat", "dog"]
    owner: Person | None = None
    others: list[Pet] = []


@dataclass
class Point:
    x: int
    y: int


async def ask(upstream: Scripted, schema: Any = Person, provider: Json | None = None, **arguments: Any) -> Any:
    """One object of a model of this upstream."""
    async with upstream.serve() as configured:
        configured["providers"]["up"] |= provider or {}
        async with create_models(configured, runtime="asyncio") as models:
            return await models.model("up/m").generate_object("who?", schema=schema, **arguments)


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        (Person, Person(name="simulated", age=1)),
        (list[Person], [Person(name="simulated", age=1)]),
        (Point, Point(1, 1)),
        (int, 1),
        (dict[str, int], {}),
    ],
    ids=str,
)
async def test_schemas_of_any_type(schema: Any, expected: Any) -> None:
    """Models, dataclasses, lists, plain values: whatever pydantic can validate."""
    async with create_models(SIM, runtime="asyncio") as models:
        assert expected == await models.model("sim/chat").generate_object("who?", schema=schema)


async def test_the_schema_is_strict() -> None:
    """All properties required, no others allowed, no defaults; a type within itself stands at the root, too."""
    upstream = Scripted(ADA, '{"kind": "cat", "owner": null, "others": []}')
    async with upstream.serve() as configured, create_models(configured, runtime="asyncio") as models:
        model = models.model("up/m")
        assert Person(name="Ada", age=36) == await model.generate_object("who?", schema=Person)
        assert Pet(kind="cat") == await model.generate_object("which?", schema=Pet)
    person, pet = (asked["response_format"]["json_schema"] for asked in upstream.asked)
    properties = {"name": {"type": "string"}, "age": {"minimum": 0, "type": "integer"}}
    shape = {"type": "object", "properties": properties, "required": ["name", "age"], "additionalProperties": False}
    assert {"name": "Person", "schema": shape, "strict": True} == person
    assert (True, "object", ["kind", "owner", "others"]) == (
        pet["strict"], pet["schema"]["type"], pet["schema"]["required"],
    )  # fmt: skip
    assert shape == pet["schema"]["$defs"]["Person"]


class Cat(BaseModel):
    kind: Literal["cat"]


class Dog(BaseModel):
    kind: Literal["dog"]
    age: int


class Home(BaseModel):
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]


async def test_one_of_several() -> None:
    """As `anyOf`, which the strict form has, too."""
    upstream = Scripted('{"pet": {"kind": "dog", "age": 3}}')
    assert Home(pet=Dog(kind="dog", age=3)) == await ask(upstream, Home)
    asked = upstream.asked[0]["response_format"]["json_schema"]
    assert (True, ["anyOf"]) == (asked["strict"], list(asked["schema"]["properties"]["pet"]))


class Counts(BaseModel):
    counts: dict[str, int]


class Flagged(BaseModel):
    any: Annotated[int, WithJsonSchema({"anyOf": [True, {"type": "null"}]})]


class Pair(BaseModel):
    pair: tuple[int, str] | None


class Several(BaseModel):
    one: Counts


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        (Counts, '{"counts": {"a": 1}}'),
        (Pair, '{"pair": [1, "a"]}'),
        (Several, '{"one": {"counts": {}}}'),
        (list[Any], '{"value": [1]}'),
        (Flagged, '{"any": 1}'),
    ],
)
async def test_a_schema_that_cannot_be_strict(schema: Any, text: str) -> None:
    """Names of its own, tuples, anything at all: it is sent as it is."""
    upstream = Scripted(text)
    await ask(upstream, schema)
    assert not upstream.asked[0]["response_format"]["json_schema"]["strict"]


@pytest.mark.parametrize(
    "text", [ADA, f"  {ADA}\n", f"```json\n{ADA}\n```", f"Sure!\n```\n{ADA}\n```\nAnything else?", f"Here: {ADA}."]
)
async def test_where_the_json_stands(text: str) -> None:
    """Alone, in a block of code, within prose."""
    assert Person(name="Ada", age=36) == await ask(Scripted(text))


@pytest.mark.parametrize("text", ["[1, 2]", '{"value": [1, 2]}'])
async def test_what_is_no_object_is_wrapped_in_one(text: str) -> None:
    """Since the root has to be; an answer that is not wrapped is read all the same."""
    assert [1, 2] == await ask(Scripted(text), list[int])


async def test_one_answer_is_repaired() -> None:
    """The model is told what is wrong; both answers are in the reply."""
    upstream = Scripted('{"name": "Ada", "age": -1}', ADA)
    person, reply = await ask(upstream, with_reply=True, system="be brief")
    assert (Person(name="Ada", age=36), 2, Usage(2, 6)) == (person, len(reply.steps), reply.usage)
    assert ["system", "user", "assistant", "user"] == [turn["role"] for turn in upstream.asked[1]["messages"]]
    assert "- age: Input should be greater than or equal to 0" in upstream.asked[1]["messages"][3]["content"]


async def test_a_second_one_is_not() -> None:
    """It is raised, with the text and what is wrong; and it pickles."""
    with pytest.raises(InvalidObject, match=r"does not fit the schema: Invalid JSON") as raised:
        await ask(Scripted("no", "I cannot"))
    again = pickle.loads(pickle.dumps(raised.value))
    assert ("I cannot", True) == (again.text, again.retryable)
    assert raised.value.errors == again.errors


async def test_an_answer_that_was_cut_short_says_so() -> None:
    """Its limit of tokens is the reason."""
    cut = completion("m", '{"name": "Ad')
    cut["choices"][0]["finish_reason"] = "length"
    with pytest.raises(InvalidObject, match="cut off at its limit of tokens"):
        await ask(Scripted(cut, cut))


async def test_a_refusal() -> None:
    """Is told as what it is."""
    refusal = completion("m", "")
    refusal["choices"][0]["message"] = {"role": "assistant", "content": None, "refusal": "not that"}
    with pytest.raises(InvalidObject, match="the model refused to answer") as raised:
        await ask(Scripted(refusal, refusal))
    assert "not that" == raised.value.text


@pytest.mark.parametrize("system", [None, "be brief"])
async def test_a_model_that_keeps_no_schema_is_given_it_in_words(system: str | None) -> None:
    """In the system message; nobody is asked in vain where it is known."""
    upstream = Scripted(ADA)
    provider = {"model_options": {"m": {"json_schema": False}}}
    assert Person(name="Ada", age=36) == await ask(upstream, provider=provider, system=system)
    (asked,) = upstream.asked
    assert "response_format" not in asked
    assert ["system", "user"] == [turn["role"] for turn in asked["messages"]]
    assert '"required":["name","age"]' in asked["messages"][0]["content"]
    assert asked["messages"][0]["content"].startswith(system or "Answer with one JSON object")


@pytest.mark.parametrize(
    "message",
    [
        "response_format json_schema is unsupported",
        "Response format is not supported by this model",
        "output_config.format.schema: For 'object' type, 'additionalProperties' must be explicitly set to false",
        "output_format: Extra inputs are not permitted",
    ],
)
async def test_a_provider_that_refuses_the_parameter_is_given_it_in_words(message: str) -> None:
    """Where it is not known beforehand, in whatever words it says so."""
    error = {"error": {"message": message, "code": "invalid_request"}}
    upstream = Scripted((400, error), ADA)
    assert Person(name="Ada", age=36) == await ask(upstream)
    assert [True, False] == ["response_format" in asked for asked in upstream.asked]


async def test_other_failures_are_failures() -> None:
    """Nobody is asked again."""
    upstream = Scripted((400, {"error": {"message": "no such parameter", "code": "unknown_parameter"}}))
    with pytest.raises(CallFailed, match="no such parameter"):
        await ask(upstream)


async def test_functions_and_an_object() -> None:
    """What functions say may be asked for as an object."""

    def look_up(name: str) -> int:
        return 36

    upstream = Scripted(calling(("look_up", '{"name": "Ada"}')), ADA)
    person, reply = await ask(upstream, tools=[look_up], with_reply=True)
    assert (Person(name="Ada", age=36), 2) == (person, len(reply.steps))
    upstream = Scripted(calling(("look_up", '{"name": "Ada"}')))
    with pytest.raises(InvalidObject, match="it calls look_up instead"):
        await ask(upstream, tools=[look_up], max_steps=1)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"schema": type(lambda: 0)}, "schema: <class 'function'> makes no JSON schema"),
        ({"response_format": {}}, "response_format: is what schema= is for"),
    ],
)
async def test_arguments_that_make_no_sense(arguments: Json, said: str) -> None:
    """Are refused, and nobody is asked."""
    with pytest.raises(BadChoice, match=said):
        await ask(Scripted(), **{"schema": Person, **arguments})
