"""First steps from Python: what can be asked, and what comes back.

    python examples/basic_usage.py                              # simulated models: no key, no network
    python examples/basic_usage.py --runtime ray                # the same with pools as actors of a Ray cluster
    LOCAL_MODEL=ollama/llama3.2 python examples/basic_usage.py  # a model that runs on this machine

It uses configs/example.yaml; give another with --config, and put your own models where this says `fast-lab/…`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from pathlib import Path

from pydantic import BaseModel

from orchestrator import CallFailed, Models, create_models

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "example.yaml"


class Person(BaseModel):
    """What `generate_object` fills in."""

    name: str
    age: int


def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


def show(title: str, said: object) -> None:
    """One line of what came of a step."""
    print(f"{title:<22} {' '.join(str(said).split())[:100]}")


async def selectors(models: Models) -> None:
    """The three things that a selector can name: a model, a tier, a user's experiment."""
    reply = await models.model("fast-lab/small").generate("Why is the sky blue?")
    show("a model", reply.text)
    reply = await models.model("tier:safe").generate("Why is the sky blue?", temperature=0.2, max_tokens=50)
    show("a tier", f"answered by {reply.provider}/{reply.model}")
    reply = await models.model("user:john:agree", user_id="john").generate("6 * 7 = ?")
    show("an experiment", reply.report["consensus"])


async def streaming(models: Models) -> None:
    """Token by token; leaving the loop stops the upstream. A reply is there once a stream has come to its end."""
    first: list[str] = []
    async with models.model("tier:quick").stream("Tell me a story.") as stream:
        async for delta in stream:
            first.append(delta.text)
            if len(first) == 8:
                break
    show("streamed", "".join(first) + "…")
    stream = models.model("tier:quick").stream("Hello!")
    show("a whole stream", "".join([delta.text async for delta in stream]))
    show("its attempts", [(one["provider"], one["outcome"]) for one in stream.reply.attempts])


async def tools(models: Models) -> None:
    """Typed functions: the model calls them, sees what they return, and answers."""
    reply = await models.model("fast-lab/small").generate("The weather in Oslo?", tools=[get_weather], max_steps=4)
    show("tools", f"{len(reply.steps)} rounds, then: {reply.text}")
    person = await models.model("fast-lab/small").generate_object("Ada Lovelace, 36", schema=Person)
    show("an object", repr(person))


async def strategies(models: Models) -> None:
    """A tier's strategy, or one that the request brings along."""
    reply = await models.model("tier:vote").generate("6 * 7 = ?")
    vote = reply.report["consensus"]
    show("consensus", f"{vote['answer']} with {vote['agreement']:.0%}, {vote['calls_saved']} calls saved")
    race = {"strategy": "race", "models": ["fast-lab/small", "slow-lab/small"]}
    reply = await models.model("fast-lab/small").generate("hi", orchestrator=race)
    show("a race of one's own", f"won by {reply.report['winner']}")
    try:
        await models.model("fast-lab/error-400").generate("hi")
    except CallFailed as failed:
        show("a failure", f"{failed} (trying again helps: {failed.retryable})")


async def local(models: Models) -> None:
    """A model on this machine is a provider like any other: Ollama, or vLLM at an address (`base_url`)."""
    selector = os.environ.get("LOCAL_MODEL", "slow-lab/large")
    reply = await models.model(selector).generate("Say hello.")
    stands_in = "" if "LOCAL_MODEL" in os.environ else " (stands in: LOCAL_MODEL is not set)"
    show("a local model", f"{selector}{stands_in}: {reply.text}")


async def cost(models: Models) -> None:
    """Tokens and US dollars; None where no price is known, never 0."""
    reply = await models.model("fast-lab/small").generate("hi")
    show("usage", reply.usage)
    show("cost", "not known" if reply.cost_usd is None else f"{reply.cost_usd:.6f} USD")


async def main(config: str, runtime: str) -> None:
    """All of it."""
    async with create_models(config, runtime="ray" if runtime == "ray" else "asyncio") as models:
        show("there is", ", ".join(await models.list()))
        for step in (selectors, streaming, tools, strategies, local, cost):
            await step(models)
        show("john is sent through", models.should_use("john"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default=str(CONFIG))
    parser.add_argument("--runtime", choices=("asyncio", "ray"), default="asyncio")
    given = parser.parse_args()
    asyncio.run(main(given.config, given.runtime))
