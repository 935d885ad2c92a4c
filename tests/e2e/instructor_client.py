"""instructor's features by each of its ways to the endpoint; prints one line of JSON a cell. Argument: the server's root.

Runs in an environment of its own (see `test_instructor_client`), so it imports nothing of this project.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import anthropic
import instructor
import openai
from pydantic import BaseModel, field_validator

ROOT = sys.argv[1]
ASKED: dict[str, Any] = {
    "model": "tier:plain",
    "messages": [{"role": "user", "content": "hello there"}],
    "max_tokens": 500,
}


class Person(BaseModel):
    """Somebody."""

    name: str
    age: int


class Picky(Person):
    """Somebody whose first description is never good enough."""

    @field_validator("age")
    @classmethod
    def second(cls, age: int) -> int:
        """Refuses the first value that it sees."""
        seen.append(age)
        if len(seen) == 1:
            raise ValueError("look again")
        return age


seen: list[int] = []


def openai_way(mode: instructor.Mode) -> Any:
    """By chat completions."""
    return instructor.from_openai(openai.OpenAI(base_url=f"{ROOT}/v1", api_key="none", max_retries=0), mode=mode)


def anthropic_way() -> Any:
    """By messages."""
    return instructor.from_anthropic(anthropic.Anthropic(base_url=ROOT, api_key="none", max_retries=0))


def structured(client: Any) -> Any:
    """One object."""
    return client.create(response_model=Person, **ASKED).model_dump()


def streamed_structured(client: Any) -> Any:
    """An object that grows, and objects one after the other."""
    partial = [one.model_dump() for one in client.create_partial(response_model=Person, **ASKED)]
    return [partial[-1], [one.model_dump() for one in client.create_iterable(response_model=Person, **ASKED)]]


def retries(client: Any) -> Any:
    """An object that is wrong at first: how often it was looked at, and what came of it."""
    seen.clear()
    return [client.create(response_model=Picky, max_retries=2, **ASKED).model_dump(), len(seen)]


def errors(client: Any) -> Any:
    """A name that there is not: what is said."""
    try:
        client.create(response_model=Person, max_retries=0, **{**ASKED, "model": "tier:plaim"})
    except Exception as error:
        return ["404" in str(error), "tier:plain" in str(error)]
    return "no error"


FEATURES: dict[str, Callable[[Any], Any]] = {
    "structured": structured,
    "streamed structured": streamed_structured,
    "retries": retries,
    "errors": errors,
}
WAYS: dict[str, Any] = {
    "tools": openai_way(instructor.Mode.TOOLS),
    "schema": openai_way(instructor.Mode.JSON_SCHEMA),
    "anthropic": anthropic_way(),
}
for way, client in WAYS.items():
    for feature, run in FEATURES.items():
        try:
            result = run(client)
        except Exception as error:
            result = f"failed: {error!r}"
        print(json.dumps({"client": way, "feature": feature, "result": result}))
