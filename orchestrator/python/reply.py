"""What a model's answer is in Python."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from orchestrator.asks import Answer
from orchestrator.money import on_grid
from orchestrator.python.asking import whole
from orchestrator.types import Failure, Json, Usage

_TURN = frozenset(
    {"refusal", "audio", "tool_calls", "function_call"}
    | {"reasoning", "reasoning_content", "reasoning_details", "content_parts", "extra_content"}
)
"""Fields of an answer that a model goes on from: what it said, called and thought, with the signatures that Anthropic,
Mistral and Gemini want to see again. What else a provider says of its answer (`annotations`, `executed_tools`) is no field of
a request, and refused by some; what one refuses of these, its row says (`Quirks.turn_drops`)."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool that the model wants called."""

    id: str
    name: str
    text: str
    """The arguments as the model wrote them: JSON, as a rule; of a custom tool, its input."""

    @property
    def arguments(self) -> Json:
        """The arguments; empty where `text` is no JSON object."""
        try:
            value = orjson.loads(self.text)
        except orjson.JSONDecodeError:
            return {}
        return value if isinstance(value, dict) else {}


@dataclass(frozen=True, slots=True)
class Step:
    """One answer of a model: where tools are called, a reply has several."""

    raw: Json
    """The chat completion, as HTTP's callers get it: the provider's own, with `provider`, `usage.cost` and `orchestrator`."""
    provider: str | None
    model: str
    """As the provider reports it."""
    usage: Usage | None

    @property
    def report(self) -> Json:
        """The `orchestrator` object: who was asked, when, and what came of it."""
        report: Json = self.raw["orchestrator"]
        return report

    @property
    def cost_usd(self) -> float | None:
        """What the step cost, losers of a race included; None where no price is known."""
        cost: float | None = self.report["cost_usd"]
        return cost

    @property
    def message(self) -> Json:
        """The assistant's turn as the next request has it: without fields that say nothing, or nothing to a model."""
        said = {name: value for name, value in self._message.items() if (value and name in _TURN) or name == "content"}
        return {"role": "assistant", **said}

    @property
    def text(self) -> str:
        """What was said; empty where only tools are called."""
        content = self._message.get("content")
        return content if isinstance(content, str) else ""

    @property
    def refusal(self) -> str | None:
        """Why the model would not answer, where it says so apart from the text."""
        refusal = self._message.get("refusal")
        return refusal if isinstance(refusal, str) and refusal else None

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The functions and custom tools that the model wants called."""
        calls = self._message.get("tool_calls") or ()
        return tuple(found for call in calls if isinstance(call, dict) and (found := _call_of(call)) is not None)

    @property
    def finish_reason(self) -> str | None:
        """Why it stopped: `stop`, `length`, `tool_calls`, `content_filter`."""
        reason: str | None = self.raw["choices"][0].get("finish_reason")
        return reason

    @property
    def _message(self) -> dict[str, Any]:
        message: dict[str, Any] = self.raw["choices"][0]["message"]
        return message


def _call_of(call: Json) -> ToolCall | None:
    if isinstance(made := call.get("function"), dict):
        return ToolCall(str(call.get("id")), str(made.get("name")), str(made.get("arguments") or "{}"))
    if isinstance(made := call.get("custom"), dict):
        return ToolCall(str(call.get("id")), str(made.get("name")), str(made.get("input") or ""))
    return None


def step_of(answer: Answer, body: Json | None = None) -> Step:
    """The step of an answer; `body`: of one that was streamed. Raises CallFailed."""
    raw = whole(answer, body)
    assert not isinstance(answer.outcome, Failure)
    return Step(raw, answer.provider, answer.outcome.model, answer.outcome.usage)


@dataclass(frozen=True, slots=True)
class ModelReply:
    """What `generate` gives: the last step's answer; usage, cost and attempts are those of all steps together."""

    steps: tuple[Step, ...]
    """One a request, the last last; one where no functions were called."""
    messages: list[Json]
    """The conversation with the answer: put a user's turn behind it and ask on with `messages=`."""

    @property
    def text(self) -> str:
        """What the model said; empty where it wants tools called."""
        return self.steps[-1].text

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """What the model wants called and nobody has: plain tools, or functions for which no step was left."""
        return self.steps[-1].tool_calls

    @property
    def usage(self) -> Usage | None:
        """Tokens; None where the provider does not count."""
        return total(step.usage for step in self.steps)

    @property
    def cost_usd(self) -> float | None:
        """What all steps cost, losers included; None where the price of one is not known."""
        return _sum([step.cost_usd for step in self.steps])

    @property
    def provider(self) -> str | None:
        """Who gave the answer, by its name in the configuration."""
        return self.steps[-1].provider

    @property
    def model(self) -> str:
        """The model's name as its provider reports it."""
        return self.steps[-1].model

    @property
    def finish_reason(self) -> str | None:
        """Why it stopped: `stop`, `length`, `tool_calls`, `content_filter`."""
        return self.steps[-1].finish_reason

    @property
    def attempts(self) -> list[Json]:
        """All tries of all steps: `provider`, `model`, `outcome`, `status`, `latency_s` and so on."""
        return [attempt for step in self.steps for attempt in step.report["attempts"]]

    @property
    def report(self) -> Json:
        """The last step's `orchestrator` object."""
        return self.steps[-1].report

    @property
    def raw(self) -> Json:
        """The last step's chat completion."""
        return self.steps[-1].raw


def total(parts: Iterable[Usage | None]) -> Usage | None:
    """The sum of what was counted; None where nothing was."""
    known = [part for part in parts if part is not None]
    if not known:
        return None
    return Usage(
        sum(part.input_tokens for part in known),
        sum(part.output_tokens for part in known),
        sum(part.cached_tokens for part in known),
        sum(part.reasoning_tokens for part in known),
        _sum([part.cost_usd for part in known]),
        sum(part.cache_write_tokens for part in known),
        sum(part.cache_write_1h_tokens for part in known),
    )


def _sum(costs: Sequence[float | None]) -> float | None:
    known = [cost for cost in costs if cost is not None]
    return on_grid(sum(known)) if len(known) == len(costs) else None
