"""The items of a batch: both kinds of lines, what is refused of them, and which are chosen."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from orchestrator.batch import items
from orchestrator.batch.folder import Folder
from orchestrator.batch.items import PRIORITY, asked_of, choose, judging, read_items, survey
from orchestrator.batch.planning import Wanted, plan_of
from orchestrator.batch.spec import Spec
from orchestrator.errors import ConfigError

OWN = {"id": 7, "prompt": "hi", "answer": "a", "params": {"max_tokens": 5}, "column": 1}
BATCH = {
    "custom_id": "x",
    "method": "POST",
    "url": "/v1/chat/completions",
    "body": {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}], "temperature": 1, "stream": False},
}


def write(folder: Path, *lines: Any) -> str:
    path = folder / "in.jsonl"
    path.write_text("".join(one if isinstance(one, str) else json.dumps(one) + "\n" for one in lines))
    return str(path)


def test_lines_of_ours(tmp_path: Path) -> None:
    """A prompt or messages, an answer, parameters of its own; other columns are left alone, and so are empty lines."""
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    path = write(tmp_path, "\ufeff", OWN, "\n", {"id": "b", "messages": messages})
    first, second = read_items(path)
    assert (1, "7", "a", None, False) == (first.line, first.id, first.expected, first.model, first.openai)
    assert {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 5} == first.body
    assert (3, "b", {"messages": messages}) == (second.line, second.id, second.body)


def test_lines_of_openais(tmp_path: Path) -> None:
    """The body without its model, which the arms may overrule."""
    (item,) = read_items(write(tmp_path, BATCH))
    assert ("x", "gpt-4o", True) == (item.id, item.model, item.openai)
    assert {"messages": [{"role": "user", "content": "hi"}], "temperature": 1} == item.body
    own, arm = asked_of(item, None, {"top_p": 0.5}).ask, asked_of(item, "tier:x", {}).ask
    assert ("gpt-4o", "tier:x") == (own.selector, arm.selector)
    assert 0.5 == own.request.body["top_p"]


def test_requests_stand_back_and_items_win(tmp_path: Path) -> None:
    """They have a lower priority than people's, and the parameters of an item win over the spec's."""
    (item,) = read_items(write(tmp_path, OWN))
    ask = asked_of(item, "sim/a", {"max_tokens": 9, "temperature": 0}).ask
    assert (PRIORITY, False) == (ask.request.priority, ask.request.stream)
    assert (5, 0) == (ask.request.body["max_tokens"], ask.request.body["temperature"])


def test_a_judge_is_asked_steadily_and_stands_back_too() -> None:
    """At temperature 0."""
    ask = judging("tier:smart", [{"role": "user", "content": "right?"}])
    assert ("tier:smart", PRIORITY, 0) == (ask.selector, ask.request.priority, ask.request.body["temperature"])


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/completions", "/v1/embeddings", "/v1/messages"])
def test_other_shapes(tmp_path: Path, path: str) -> None:
    """Whatever the endpoint speaks, a line may speak."""
    said = {"input": "x"} if path in ("/v1/responses", "/v1/embeddings") else {"prompt": "x"}
    body = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 5} if path == "/v1/messages" else said
    (item,) = read_items(write(tmp_path, {**BATCH, "url": path, "body": body}))
    assert "m" == asked_of(item, "m", {}).ask.selector


def without(line: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in line.items() if key != name}


WRONG: dict[str, tuple[Any, str]] = {
    "no JSON": ("{\n", "document: is not JSON: "),
    "no object": ("5\n", "document: has to be a JSON object"),
    "no id": (without(OWN, "id"), "id: has to be text of at most 512 characters, or a whole number"),
    "a flag for an id": ({**OWN, "id": True}, "id: has to be text"),
    "an empty id": ({**OWN, "id": ""}, "id: has to be text"),
    "no prompt": (without(OWN, "prompt"), "prompt: give either a prompt or messages, and not both"),
    "both": ({**OWN, "messages": []}, "prompt: give either a prompt or messages, and not both"),
    "an empty prompt": ({**OWN, "prompt": ""}, "prompt: has to be text"),
    "no messages": ({"id": 1, "messages": []}, "messages: has to be "),
    "params": ({**OWN, "params": []}, "params: has to be an object"),
    "a model of its own": ({**OWN, "params": {"model": "x"}}, "params.model: is no parameter"),
    "streamed": ({**OWN, "params": {"stream": True}}, "stream: has to be false or absent: a batch has whole answers"),
    "out of bounds": ({**OWN, "params": {"temperature": 9}}, "temperature: has to be a number from 0 to 2"),
    "no POST": ({**BATCH, "method": "GET"}, "method: has to be POST"),
    "no url": (without(BATCH, "url"), "url: has to be one of /v1/chat/completions, "),
    "no body": (without(BATCH, "body"), "body: has to be an object"),
    "no model": ({**BATCH, "body": {"model": 5}}, "body.model: has to be text"),
    "streamed body": ({**BATCH, "body": {"stream": True}}, "stream: has to be false or absent"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_asked_is_said_before_anything_is(tmp_path: Path, case: str) -> None:
    """With file, line and key."""
    line, expected = WRONG[case]
    path = write(tmp_path, {"id": "first", "prompt": "x"}, line)
    with pytest.raises(ConfigError) as raised:
        survey(path, {}, "sim/a")
    assert str(raised.value).startswith(f"{path}:2: {expected}")


def test_twice_the_same_id(tmp_path: Path) -> None:
    """Both lines are named."""
    path = write(tmp_path, OWN, BATCH, {**OWN, "id": "7"})
    with pytest.raises(ConfigError) as raised:
        survey(path, {}, "sim/a")
    assert f"{path}:3: id: '7' stands twice (first in line 1)" == str(raised.value)


def test_no_arm_and_no_model(tmp_path: Path) -> None:
    """Nobody to ask."""
    with pytest.raises(ConfigError, match="1: model: is missing: there are no arms, and the line names no model"):
        survey(write(tmp_path, OWN), {}, None)


def test_parameters_that_are_no_json(tmp_path: Path) -> None:
    """YAML has numbers that JSON here has not."""
    with pytest.raises(ConfigError, match="1: document: cannot be written as JSON"):
        survey(write(tmp_path, OWN), {"seed": 2**70}, "sim/a")


def test_nothing_in_it_not_there_and_endless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is one line."""
    with pytest.raises(ConfigError, match=r":1: document: holds no item$"):
        survey(write(tmp_path, "\n\n"), {}, "sim/a")
    with pytest.raises(ConfigError, match=r":1: document: cannot be read: No such file"):
        survey(str(tmp_path / "x"), {}, "sim/a")
    with pytest.raises(ConfigError) as raised:
        survey(write(tmp_path, *["{\n"] * 90), {}, "sim/a")
    assert (51, "has more problems") == (len(raised.value.problems), raised.value.problems[-1].split(": ")[2][:17])
    monkeypatch.setattr(items, "MAX_LINE_BYTES", 40)
    with pytest.raises(ConfigError, match="1: document: is longer than 0 MB"):
        survey(write(tmp_path, OWN), {}, "sim/a")
    with pytest.raises(items.Wrong, match="document: is longer than 0 MB"):
        items.item_of(1, b"x" * 41)


def test_which_are_chosen(tmp_path: Path) -> None:
    """The first ones, or a sample that depends on ids and seed alone, and grows by what is added."""
    path = write(tmp_path, *({"id": str(i), "prompt": "x"} for i in range(100)))
    lines = survey(path, {}, "sim/a").lines
    assert choose(lines, None, None, 0) is None
    assert frozenset({1, 2, 3}) == choose(lines, 3, None, 0)
    ten, twenty = choose(lines, None, 10, 5), choose(lines, None, 20, 5)
    assert ten is not None
    assert twenty is not None
    assert (10, True) == (len(ten), ten < twenty)
    assert ten != choose(lines, None, 10, 6)
    turned = {name: lines[name] for name in reversed(list(lines))}
    assert ten == choose(turned, None, 10, 5)
    assert {str(line - 1) for line in ten} == {item.id for item in read_items(path, ten)}
    assert frozenset({1, 2}) == choose(lines, 2, 50, 5)


def test_what_stays_in_memory_is_ids_alone(tmp_path: Path) -> None:
    """Of 20,000 items with prompts of 1 kB: less than 250 bytes each, most of the id and its line."""
    path = tmp_path / "in.jsonl"
    with path.open("w") as file:
        for i in range(20_000):
            file.write(json.dumps({"id": f"item-{i}", "prompt": "x" * 1000}) + "\n")
    spec = Spec("n", str(path), str(tmp_path / "out"), arms={"a": "sim/a", "b": "sim/b"})
    tracemalloc.start()
    plan = plan_of(spec, survey(spec.input, {}, "sim/a"), Folder(spec.output), Wanted())
    schedule = plan.schedule(lambda _: None)
    asked = 0
    while schedule.next(0.0) is not None:
        asked += 1
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 40_000 == asked
    assert peak < 250 * 20_000
