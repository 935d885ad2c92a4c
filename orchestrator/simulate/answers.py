"""What the simulated and the replaying provider answer, and when. Deterministic: seeded by settings, model and call.

A model's name may carry knobs, joined by `+`, for tests and benchmarks: `latency-0.25` (seconds to the first token),
`tokens-200`, `rate-50` (tokens a second; 0 is all at once), `error-503`, `echo` (answers the last user message itself).
For votes: `say-42` (says that), `right-0.7` (says `RIGHT` so often, else `WRONG`), `judge-first`, `judge-last`, `judge-TEXT`
(of the answers that a judge is shown, picks the first, the last, or the first that holds the text). Anything else is just a
name: `chat+latency-0.1`.

A model that is given tools calls the first of them (all of them, with the knob `parallel`), and answers once it has the
results; one that is given a JSON schema answers with the smallest instance of it, and so does one that is to answer in JSON
and is shown a schema in what it is told.
"""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from orchestrator.config.settings import Latency, Replay, Simulate

_Z99 = 2.3263478740408408
"""The 99th percentile of the standard normal distribution."""
_FILLER = "this answer was made up to have a natural length and is of no use to anybody"
_WORDS = _FILLER.split()
_PIECE = re.compile(r"\s*\S+|\s+")


RIGHT, WRONG = "The answer is 42.", "The answer is 41."
MAX_TOKENS = 1_000_000
"""More than a model's name can ask for."""


class Refusal(Exception):
    """A request that is answered with an error of OpenAI's shape."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


@dataclass(frozen=True, slots=True)
class Script:
    """One answer: its pieces (about a token each), the time to the first, and the pace of the others."""

    pieces: list[str]
    first_s: float
    tokens_per_s: float
    finish: str = "stop"
    calls: tuple[tuple[str, str], ...] = ()
    """Tools that are called instead, with their arguments as JSON."""


def draw_s(latency: Latency, rng: random.Random) -> float:
    """A log-normal latency: sigma = ln(p99 / median) / z99. A p99 at or below the median means no spread."""
    if latency.median <= 0:
        return 0.0
    sigma = max(0.0, math.log(latency.p99 / latency.median) / _Z99) if latency.p99 > 0 else 0.0
    return latency.median * math.exp(sigma * rng.gauss(0, 1))


def pieces_of(text: str) -> list[str]:
    """Splits a text at its words; the pieces joined are the text, to the byte."""
    return _PIECE.findall(text)


def last_user_text(messages: list[Any]) -> str:
    """The text of the last user message, its parts joined."""
    for message in reversed(messages):
        if isinstance(message, dict) and message.get("role") == "user":
            content = message.get("content")
            if isinstance(content, str):
                return content
            if isinstance(content, list):
                return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return ""


class Simulated:
    """Makes answers up."""

    def __init__(self, settings: Simulate, name: str) -> None:
        self._settings = settings
        self._name = name
        self._calls: dict[str, int] = {}
        self.models = ["chat"]

    def script(self, model: str, body: dict[str, Any]) -> Script:
        """The answer to a request. Raises Refusal."""
        count = self._calls[model] = self._calls.get(model, 0) + 1
        if len(self._calls) > 10_000:
            self._calls.clear()
        settings = self._settings
        rng = random.Random(f"{settings.seed}:{model}:{count}")  # noqa: S311 - a simulation, not a secret
        first_s, rate, tokens = draw_s(settings.latency_s, rng), settings.tokens_per_s, rng.randint(30, 50)
        error = 500 if rng.random() < settings.error_rate else 0
        text: str | None = None
        for knob in model.split("+"):
            kind, _, value = knob.partition("-")
            number = float(value) if re.fullmatch(r"\d+(\.\d+)?", value) else None
            if kind == "latency" and number is not None:
                first_s = number
            elif kind == "tokens" and number is not None:
                tokens, text = min(int(number), MAX_TOKENS), ""
            elif kind == "rate" and number is not None:
                rate = number
            elif kind == "error" and number is not None:
                error = int(number)
            elif knob == "echo":
                text = last_user_text(body["messages"])
            elif kind == "right" and number is not None:
                text = RIGHT if rng.random() < number else WRONG
            elif kind in ("say", "judge") and value:
                text = value if kind == "say" else _judgement(value, last_user_text(body["messages"]))
        if error:
            raise Refusal(error, "simulated_error", f"simulated by {self._name}: an error on purpose")
        if calls := _calls(body, all_of_them="parallel" in model.split("+")):
            return Script([], first_s, rate, "tool_calls", calls)
        if not text and (found := _wanted(body)) is not None:
            return Script(pieces_of(orjson.dumps(found).decode()), first_s, rate)
        if text is None:
            said = " ".join(last_user_text(body["messages"]).split())[:80]
            text = f"[simulated by {self._name}, model {model}] You said: {said}"
        pieces = pieces_of(text)
        exact = any(knob.partition("-")[0] in ("echo", "right", "say", "judge") for knob in model.split("+"))
        wanted = [] if exact else [_WORDS[i % len(_WORDS)] for i in range(max(0, tokens - len(pieces)))]
        pieces += [f" {word}" if pieces or i else word for i, word in enumerate(wanted)]
        limit = body.get("max_completion_tokens") or body.get("max_tokens")
        if isinstance(limit, int) and limit < len(pieces):
            return Script(pieces[:limit], first_s, rate, "length")
        return Script(pieces, first_s, rate)


def _wanted(body: dict[str, Any]) -> Any:
    """The JSON that a request wants for an answer; None: it wants none."""
    wanted = body.get("response_format")
    if not isinstance(wanted, dict) or wanted.get("type") not in ("json_schema", "json_object"):
        return None
    if wanted["type"] == "json_schema":
        named = wanted.get("json_schema")
        return instance_of(named.get("schema") if isinstance(named, dict) else None)
    told = "\n".join(str(one.get("content")) for one in body["messages"] if isinstance(one, dict))
    for start in [match.start() for match in re.finditer(r"\{", told)][:20]:
        try:
            schema, _ = json.JSONDecoder().raw_decode(told, start)
        except (ValueError, RecursionError):
            continue
        if isinstance(schema, dict) and isinstance(schema.get("properties"), dict):
            return instance_of(schema)
    return {"answer": "simulated"}


def _judgement(preference: str, question: str) -> str:
    """What a simulated judge says of the answers in its question."""
    shown = re.findall(r'<answer number="(\d+)">\n(.*?)\n</answer>', question, re.DOTALL)
    if not shown:
        return "there is nothing to judge"
    picked = next((number for number, answer in shown if preference in answer), shown[0][0])
    return orjson.dumps({"best": int(shown[-1][0] if preference == "last" else picked)}).decode()


def _calls(body: dict[str, Any], *, all_of_them: bool) -> tuple[tuple[str, str], ...]:
    """The tools that are called: none once the last message is a result (one that is named is), or where none may be."""
    tools, choice = body.get("tools"), body.get("tool_choice")
    last = body["messages"][-1]
    answered = isinstance(last, dict) and last.get("role") == "tool" and not isinstance(choice, dict)
    if not isinstance(tools, list) or choice == "none" or answered:
        return ()
    functions = [
        tool["function"] for tool in tools if isinstance(tool, dict) and isinstance(tool.get("function"), dict)
    ]
    if isinstance(choice, dict) and isinstance(named := choice.get("function"), dict):
        functions = [one for one in functions if one.get("name") == named.get("name")]
    chosen = functions if all_of_them else functions[:1]
    return tuple((str(one.get("name")), orjson.dumps(instance_of(one.get("parameters"))).decode()) for one in chosen)


def instance_of(schema: Any, root: Any = None, depth: int = 0) -> Any:
    """The smallest instance of a JSON schema, as far as schemas of answers and of tools go."""
    if not isinstance(schema, dict) or depth > 20:
        return {}
    root = schema if root is None else root
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference.startswith("#/"):
        found: Any = root
        for name in reference[2:].split("/"):
            found = found.get(name) if isinstance(found, dict) else None
        return instance_of(found, root, depth + 1)
    for name in ("const", "default"):
        if name in schema:
            return schema[name]
    for name in ("enum", "anyOf", "oneOf", "allOf"):
        if isinstance(options := schema.get(name), list) and options:
            return options[0] if name == "enum" else instance_of(options[0], root, depth + 1)
    kind = schema.get("type")
    kind = kind[0] if isinstance(kind, list) and kind else kind
    if kind == "array":
        count = schema.get("minItems")
        item = instance_of(schema.get("items"), root, depth + 1)
        return [item] * (count if isinstance(count, int) and 0 < count < 100 else 1)
    properties = schema.get("properties")
    if kind == "object" or isinstance(properties, dict):
        names = properties if isinstance(properties, dict) else {}
        return {name: instance_of(one, root, depth + 1) for name, one in names.items()}
    least, most = (
        bound if isinstance(bound := schema.get(name), int | float) and not isinstance(bound, bool) else otherwise
        for name, otherwise in (("minimum", -math.inf), ("maximum", math.inf))
    )
    number = 1 if least <= 1 <= most else least if least > 1 else most
    return {"integer": int(number), "number": float(number), "boolean": True, "null": None}.get(str(kind), "simulated")


class Replayed:
    """Answers with recordings, found by the last user message."""

    def __init__(self, settings: Replay) -> None:
        self._settings = settings
        self._rng = random.Random(settings.seed)  # noqa: S311 - a simulation, not a secret
        self._ids = {row["prompt"]: row["id"] for row in _rows(settings.questions, ("id", "prompt"))}
        self._outputs = {
            model: {row["id"]: row["output"] for row in _rows(path, ("id", "output"))}
            for model, path in settings.files.items()
        }
        self.models = list(settings.files)

    def script(self, model: str, body: dict[str, Any]) -> Script:
        """The recorded answer, to the byte; its latency is simulated. Raises Refusal."""
        outputs = self._outputs.get(model)
        if outputs is None:
            raise Refusal(404, "model_not_found", f"there is no recording of the model {model!r}")
        output = outputs.get(self._ids.get(last_user_text(body["messages"]), ""))
        if output is None:
            raise Refusal(404, "recording_not_found", "nobody has recorded an answer to this message")
        return Script(pieces_of(output), draw_s(self._settings.latency_s, self._rng), self._settings.tokens_per_s)


def _rows(path: str, names: tuple[str, str]) -> Iterator[dict[str, str]]:
    """The rows of a JSONL file. Raises ValueError with file and line for one that is wrong."""
    with Path(path).open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = orjson.loads(line)
                if not all(isinstance(row[name], str) for name in names):
                    raise ValueError
            except (ValueError, TypeError, KeyError):
                raise ValueError(
                    f"{path}:{number}: is not a JSON object with the strings {names[0]}, {names[1]}"
                ) from None
            yield row
