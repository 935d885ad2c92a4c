"""The spec of a batch: what is read, and how it is said what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.batch.spec import MAX_ARMS, OWN, load_spec, problem
from orchestrator.errors import ConfigError
from tests.unit.batch.given import write_spec


def test_paths_begin_at_the_folder_of_the_spec(tmp_path: Path) -> None:
    """Except for a folder of results that the caller names, which is the caller's."""
    (tmp_path / "c.yaml").write_text("")
    spec = load_spec(write_spec(tmp_path, config="c.yaml"))
    expected = tuple(str(tmp_path / name) for name in ("in.jsonl", "out", "c.yaml"))
    assert expected == (spec.input, spec.output, spec.config)
    assert str(Path.cwd() / "here") == load_spec(tmp_path / "spec.yaml", output="here").output


def test_all_keys(tmp_path: Path) -> None:
    """Of the contract."""
    score = {"match": "judge", "judge": "tier:smart"}
    path = write_spec(tmp_path, params={"temperature": 0}, concurrency=256, score=score, budget_usd=10)
    spec = load_spec(path)
    assert ({"temperature": 0}, 256, 10) == (spec.params, spec.concurrency, spec.budget_usd)
    assert [(("arms", "a"), "sim/a"), (("score", "judge"), "tier:smart")] == spec.named()
    assert {"a": "sim/a"} == spec.selectors()


def test_variables_are_filled_in(tmp_path: Path) -> None:
    """As in a configuration."""
    assert "x" == load_spec(write_spec(tmp_path, name="${NAME}"), {"NAME": "x"}).name


def test_without_arms_each_line_has_its_own_model(tmp_path: Path) -> None:
    """OpenAI's Batch lines name one."""
    spec = load_spec(write_spec(tmp_path, arms=None))
    assert ({OWN: None}, [], None) == (spec.selectors(), spec.named(), spec.scorer())


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "unknown key": ({"arm": {}}, "5: arm: unknown key; did you mean 'arms'?"),
    "no name": ({"name": None}, "1: name: is missing"),
    "concurrency": ({"concurrency": 0}, "5: concurrency: has to be above 0"),
    "budget": ({"budget_usd": -1}, "5: budget_usd: has to be at least 0.0"),
    "selector": ({"arms": {"a": ""}}, "4: arms.a: has to be a selector, such as 'openai/gpt-4o-mini' or 'tier:fast'"),
    "arm's name": ({"arms": {"a b": "x/y"}},
                   "4: arms.a b: is called what no arm can be: letters, digits, '_', '-' and '.', 64 at most"),
    "arms": ({"arms": {f"a{i}": "x/y" for i in range(MAX_ARMS + 1)}}, "4: arms: has over 64 entries"),
    "model": ({"params": {"model": "x"}}, "5: params.model: is no parameter here: the arms say which"),
    "stream": ({"params": {"stream": True}}, "5: params.stream: is no parameter here: a batch has whole answers"),
    "temperature": ({"params": {"temperature": 9}}, "5: params.temperature: has to be a number from 0 to 2"),
    "input": ({"input": "x.jsonl"}, "2: input: 'FOLDER/x.jsonl' is no file"),
    "config": ({"config": "x.yaml"}, "5: config: 'FOLDER/x.yaml' is no file"),
    "output": ({"output": "in.jsonl"}, "3: output: 'FOLDER/in.jsonl' is no folder"),
    "variable": ({"name": "${NOT_SET}"},
                 "1: name: the environment variable NOT_SET is not set; export it, or give a default: ${NOT_SET:-…}"),
    "score": ({"score": 5}, "5: score: has to be a mapping, such as {extract: {json: answer}, match: number}"),
    "match": ({"score": {"match": "x"}},
              "5: score.match: is none: one of exact, number, contains, regex, choice, json, judge"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_has_a_line(tmp_path: Path, case: str) -> None:
    """File, line, key, and what to do."""
    keys, expected = WRONG[case]
    path = write_spec(tmp_path, **keys)
    with pytest.raises(ConfigError) as raised:
        load_spec(path, {})
    assert f"{path}:{expected.replace('FOLDER', str(tmp_path))}" == str(raised.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("- a\n", "1: document: has to be a mapping with the keys name, input, output and arms"),
        ("a: [\n", "1: document: is not YAML: did not find expected node content"),
        ("a: 1\n" * 60, "2: a: stands twice (first in line 1); remove one"),
    ],
)
def test_what_is_no_spec(tmp_path: Path, content: str, said: str) -> None:
    """A list, half a document, too many problems."""
    path = tmp_path / "spec.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError) as raised:
        load_spec(path)
    assert str(raised.value).startswith(f"{path}:{said}")


def test_a_spec_that_cannot_be_read(tmp_path: Path) -> None:
    """It is said why."""
    with pytest.raises(ConfigError, match=r"nowhere\.yaml:1: document: cannot be read: No such file"):
        load_spec(tmp_path / "nowhere.yaml")


def test_what_turns_out_later_has_its_line_too(tmp_path: Path) -> None:
    """An arm that nobody knows, say."""
    path = write_spec(tmp_path)
    assert f"{path}:4: arms.a: is unknown" == str(problem(path, ("arms", "a"), "is unknown"))
