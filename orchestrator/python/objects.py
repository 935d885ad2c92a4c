"""Objects as answers: the schema that a model is given, and its answer held against it.

The schema is in the strict form that OpenAI asks for (platform.openai.com/docs/guides/structured-outputs, "Supported
schemas"): an object at the root, all properties required, no others allowed. A type that has no such form is sent as it is.
"""

from __future__ import annotations

import re
from typing import Any, Generic, TypeVar

import orjson
from pydantic import PydanticSchemaGenerationError, PydanticUserError, TypeAdapter, ValidationError

from orchestrator.errors import BadChoice, InvalidObject
from orchestrator.python.reply import Step
from orchestrator.python.tools import problems
from orchestrator.types import Failure, FailureKind, Json

T = TypeVar("T")

_FENCED = re.compile(r"```[a-zA-Z]*\s*\n(.*?)```", re.DOTALL)
_NEVER_STRICT = frozenset(("prefixItems", "uniqueItems", "allOf", "not", "propertyNames", "patternProperties"))
_WRAPPED = "value"
"""Where an answer that is no object (a list, a number) stands in the object that is asked for."""


class Form(Generic[T]):
    """What is asked for: a pydantic model, or any type that pydantic can validate."""

    def __init__(self, schema: type[T]) -> None:
        self._name = re.sub(r"\W", "_", getattr(schema, "__name__", "answer"))[:64]
        try:
            self._adapter: TypeAdapter[T] = TypeAdapter(schema)
            made = self._adapter.json_schema()
        except (PydanticSchemaGenerationError, PydanticUserError) as error:
            reason = str(error).splitlines()[0]
            raise BadChoice("schema", f"{schema!r} makes no JSON schema: {reason}") from None
        root = made.get("$defs", {}).get(str(made.get("$ref", "")).removeprefix("#/$defs/"), made)
        self._is_wrapped = root.get("type") != "object"
        if self._is_wrapped:
            definitions = {"$defs": made.pop("$defs")} if "$defs" in made else {}
            properties = {"properties": {_WRAPPED: made}, "required": [_WRAPPED]}
            made = {"type": "object", **properties, **definitions}
        elif "$ref" in made:
            # A type that refers to itself. Providers want the object itself at the root.
            made = {**root, "$defs": made["$defs"]}
        self._strict = _strict(made)
        self._schema: Json = made if self._strict is None else self._strict

    @property
    def response_format(self) -> Json:
        """The parameter of a request."""
        about = {"name": self._name, "schema": self._schema, "strict": self._strict is not None}
        return {"type": "json_schema", "json_schema": about}

    @property
    def instruction(self) -> str:
        """The same in words, for models that keep to no schema."""
        schema = orjson.dumps(self._schema).decode()
        return f"Answer with one JSON object and nothing else. It has to fit this JSON schema:\n{schema}"

    def read(self, step: Step) -> T:
        """The object in an answer. Raises InvalidObject."""
        if step.refusal is not None:
            raise InvalidObject(step.refusal, ("the model refused to answer",))
        wrong: tuple[str, ...] = ()
        for text in _readings(step.text):
            try:
                return self._parse(text)
            except ValidationError as error:
                wrong = wrong or problems(error)
        if step.finish_reason == "length":
            wrong += ("it was cut off at its limit of tokens",)
        raise InvalidObject(step.text, wrong)

    def _parse(self, text: str) -> T:
        if not self._is_wrapped:
            return self._adapter.validate_json(text)
        try:
            value = orjson.loads(text)
        except orjson.JSONDecodeError:
            return self._adapter.validate_json(text)  # says what is wrong
        if isinstance(value, dict) and set(value) == {_WRAPPED}:
            text = orjson.dumps(value[_WRAPPED]).decode()
        return self._adapter.validate_json(text)


def repair(wrong: InvalidObject) -> str:
    """What a model is told whose answer did not fit."""
    return (
        "That does not fit the schema:\n"
        + "\n".join(f"- {line}" for line in wrong.errors)
        + "\nAnswer again, with the corrected JSON and nothing else."
    )


_ABOUT_SCHEMAS = re.compile(r"(?i)response[_ ]format|output[_ ](?:format|config)|json_schema")


def keeps_no_schema(failure: Failure) -> bool:
    """Whether a request was not answered since somebody has no place for a schema: asked in words, it may be."""
    for one in (failure, *(cause for _, cause in failure.causes)):
        if one.kind is FailureKind.UNSUPPORTED:
            return True
        if one.kind is FailureKind.MALFORMED and _ABOUT_SCHEMAS.search(f"{one.param} {one.message} {one.body}"):
            return True
    return False


def _readings(text: str) -> list[str]:
    """Where the JSON of an answer may be: all of it, its first block of code, from its first brace to its last."""
    readings = [text.strip()]
    if (fenced := _FENCED.search(text)) is not None:
        readings.append(fenced[1].strip())
    first, last = text.find("{"), text.rfind("}")
    if 0 <= first < last:
        readings.append(text[first : last + 1])
    return readings


def _strict(schema: Any) -> Any:
    """The strict form of a schema (or of several); None where it has none, such as an object with names of its own."""
    if isinstance(schema, list):
        parts = [_strict(part) for part in schema]
        return None if None in parts else parts
    if not isinstance(schema, dict) or not schema or not _NEVER_STRICT.isdisjoint(schema):
        return None
    if schema.get("type") == "object" and not isinstance(schema.get("properties"), dict):
        return None
    if "$ref" in schema:
        return {"$ref": schema["$ref"], **({"$defs": _named(schema["$defs"])} if "$defs" in schema else {})}
    made: Json = {}
    for name, value in schema.items():
        if name in ("properties", "$defs"):
            made[name] = _named(value)
        elif name in ("items", "anyOf"):
            made[name] = _strict(value)
        elif name == "oneOf":
            made["anyOf"] = _strict(value)
        elif name not in ("default", "title", "discriminator"):
            made[name] = value
    if any(value is None for name, value in made.items() if name != "const"):
        return None
    if made.get("type") == "object":
        made |= {"additionalProperties": False, "required": list(made["properties"])}
    return made


def _named(schemas: Json) -> Json | None:
    made = {name: _strict(one) for name, one in schemas.items()}
    return None if None in made.values() else made
