"""What a type checker knows of the Python API: a user's file in mypy's strictest mode."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import orchestrator

USER = """
from dataclasses import dataclass
from pydantic import BaseModel
from orchestrator import Models, create_models, sync

class Person(BaseModel):
    name: str

def get_weather(city: str) -> str:
    return city

async def main() -> None:
    async with create_models({"providers": {}}, runtime="asyncio") as models:
        reveal_type(models)
        model = models.model("tier:fast")
        reply = await model.generate("hi", tools=[get_weather], temperature=0)
        reveal_type(reply.text)
        reveal_type(reply.usage)
        reveal_type(reply.cost_usd)
        async for delta in model.stream(messages=[{"role": "user", "content": "hi"}]):
            reveal_type(delta.text)
        reveal_type(await model.generate_object("hi", schema=Person))
        reveal_type(await model.generate_object("hi", schema=list[Person]))
        reveal_type(await model.generate_object("hi", schema=Person, with_reply=True))
        reveal_type(models.openai())
        reveal_type(await models.list())

with sync.create_models() as plain:
    reveal_type(plain.model("a").generate("hi"))
    for piece in plain.model("a").stream("hi"):
        reveal_type(piece)
    reveal_type(plain.model("a").generate_object("hi", schema=Person))
    reveal_type(plain.model("a").generate_object("hi", schema=Person, with_reply=True))
    reveal_type(plain.openai())
    plain.model("a").generate(7)
"""
REVEALED = [
    "orchestrator.python.models.Models",
    "str",
    "tuple[int, int, int, int, float | None, int, int, fallback=orchestrator.types.Usage] | None",
    "float | None",
    "str",
    "user.Person",
    "list[user.Person]",
    "tuple[user.Person, orchestrator.python.reply.ModelReply]",
    "openai._client.AsyncOpenAI",
    "list[str]",
    "orchestrator.python.reply.ModelReply",
    "orchestrator.python.stream.Delta",
    "user.Person",
    "tuple[user.Person, orchestrator.python.reply.ModelReply]",
    "openai._client.OpenAI",
]


@pytest.mark.timeout(300)  # it reads OpenAI's package, the first time
def test_a_users_file(tmp_path: Path) -> None:
    """Everything has the type that it should have, and the one mistake in it is found."""
    (tmp_path / "user.py").write_text(USER)
    root = Path(orchestrator.__file__).resolve().parents[1]
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--config-file=", "user.py"]
    environment = {"MYPYPATH": str(root), "PATH": "", "MYPY_CACHE_DIR": str(root / ".mypy_cache" / "user")}
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=290, check=False, cwd=tmp_path, env=environment
    )
    found = [one.replace("builtins.", "") for one in re.findall(r'Revealed type is "(.*)"', ended.stdout)]
    assert REVEALED == found, ended.stderr
    (error,) = re.findall(r"user.py:(\d+): error: (.*)", ended.stdout)
    assert "[arg-type]" in error[1]
