"""Researchers' experiments: what a user's file may say, and that one's mistake is nobody else's."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from orchestrator.config import users
from orchestrator.config.document import MAX_BYTES
from orchestrator.config.live import Live, Snapshot
from orchestrator.config.load import load, load_all, load_mapping
from orchestrator.config.settings import Config, Strategy, Tier
from orchestrator.config.users import Folder, Loaded

MAIN = """
providers: {sim: {simulate: {}}, openai: {optional: true}}
tiers:
  fast: [sim/a, sim/b]
  gone: [openai/a]
users: users/
"""
JOHN = "user: john\nexperiments:\n  one: [sim/one]\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The users' folder, beside a configuration that names it."""
    (tmp_path / "c.yaml").write_text(MAIN)
    path = tmp_path / "users"
    path.mkdir()
    return path


def loaded(folder: Path) -> Loaded:
    return load_all(folder.parent / "c.yaml", {})


def problems(folder: Path, user: str = "john") -> list[str]:
    """What is wrong with one's file, without its name."""
    found = loaded(folder).problems
    assert [user] == list(found)
    assert all(line.startswith(f"{folder}/{user}.yaml:") for line in found[user])
    return [line.removeprefix(f"{folder}/{user}.yaml:") for line in found[user]]


def models(config: Config) -> dict[str, tuple[str, ...]]:
    return {name: tier.models for name, tier in config.experiments.items()}


def test_an_experiment_is_read_like_a_tier(folder: Path) -> None:
    """With a tier's options; its members are models and tiers; those that were left out are left out of it."""
    (folder / "john.yaml").write_text(
        JOHN
        + "  two: {strategy: race, models: [sim/a, 'tier:fast', openai/a], params: {top_p: 1}, override: {temperature: 0}}\n"
        + "  fast: {strategy: split, arms: {a: {model: 'tier:fast'}, b: {model: sim/b, weight: 3}}}\n"
        + "  lost: ['tier:gone']\n"
    )
    (folder / "empty.yaml").write_text("# nothing yet\n")
    config = loaded(folder).config
    race = Strategy("race", params={"top_p": 1}, override={"temperature": 0})
    split = Strategy("split", seed="john:fast", arms={"a": 1, "b": 3})
    assert {
        "john:one": Tier("john:one", Strategy(), ("sim/one",)),
        "john:two": Tier("john:two", race, ("sim/a", "tier:fast")),
        "john:fast": Tier("john:fast", split, ("tier:fast", "sim/b")),
    } == config.experiments
    assert "all its models were left out" == config.left_out["user:john:lost"]
    assert config == load(folder.parent / "c.yaml", {})


def test_users_within_the_configuration() -> None:
    """The same, where the file would be a bother."""
    user = {"experiments": {"one": ["sim/a"], "lost": ["openai/a"]}}
    config = load_mapping(
        {"providers": {"sim": {"simulate": {}}, "openai": {"optional": True}}, "users": {"john": user}}, {}
    )
    assert ({"john:one": ("sim/a",)}, None) == (models(config), config.users_folder)
    assert "all its models were left out" == config.left_out["user:john:lost"]


NO_VARIABLES = "may hold no '${': variables are not filled in here, where keys could be read by them"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("user: eve\n", "1: user: has to be 'john', as what holds it is called, or be left out"),
        (
            "providers: {x: {base_url: 'http://evil'}}\n",
            "1: providers: may not be defined by a user, who chooses strategies, models and parameters",
        ),
        (
            "experiments:\n  a: {models: [sim/a], params: {x: ['${KEY}']}}\n",
            f"2: experiments.a.params.x[0]: {NO_VARIABLES}",
        ),
        (
            "experiments: {a: [sim/a, ${KEY}]}\n",
            f"1: experiments.a[1]: {NO_VARIABLES}",
        ),
        ("experiments: {\n", "1: document: is not YAML: did not find expected node content, while parsing a flow node "
         "that begins in line 1"),
        ("experiments:\n  a: [so/what]\n", "2: experiments.a[0]: 'so/what' names no provider that is configured"),
        ("- a\n", "1: document: has to be a mapping with the key 'experiments'"),
        ("#" * (MAX_BYTES + 1), "1: document: is larger than 1 MB"),
        ("a: " + "[" * 50 + "]" * 50, "1: document: has over 20000 values or 40 levels, aliases followed"),
    ],
)  # fmt: skip
def test_a_mistake_is_its_users_alone(folder: Path, text: str, expected: str) -> None:
    """Said with file and line; the user is left out with it, and everybody else is there."""
    (folder / "john.yaml").write_text(text)
    (folder / "ada.yaml").write_text("experiments: {one: [sim/ada]}")
    assert [expected] == problems(folder)
    config = loaded(folder).config
    assert {"ada:one": ("sim/ada",)} == models(config)
    assert f"{folder}/john.yaml:{expected}" == config.left_out["user:john"]


def test_fifty_problems_are_enough(folder: Path) -> None:
    """As in the configuration itself: in the text, and in what it says."""
    (folder / "john.yaml").write_text("".join(f"key{i}: 1\n" for i in range(100)))
    assert 51 == len(problems(folder))
    (folder / "john.yaml").write_text("a: 1\n" * 100)
    assert 51 == len(problems(folder))


def test_what_is_no_users_file_is_passed_over(folder: Path, tmp_path: Path) -> None:
    """Editors' files, folders, pipes, and links that lead out of the folder, where a message could say what a file holds."""
    for name in (".john.yaml", "john.yaml~", "john.yml", "README.md", ".#john.yaml"):
        (folder / name).write_text("experiments: {")
    (folder / "dir.yaml").mkdir()
    os.mkfifo(folder / "pipe.yaml")
    (tmp_path / "secret").write_text("sk-secret")
    (folder / "out.yaml").symlink_to(tmp_path / "secret")
    (folder / "loop.yaml").symlink_to(folder / "loop.yaml")
    (folder / "..data").mkdir()
    (folder / "..data" / "ada.yaml").write_text("experiments: {one: [sim/ada]}")
    (folder / "ada.yaml").symlink_to(folder / "..data" / "ada.yaml")
    found = loaded(folder)
    assert ({"ada:one": ("sim/ada",)}, {}) == (models(found.config), found.problems)


def test_a_file_that_cannot_be_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is a mistake of that file."""
    (folder / "john.yaml").write_text(JOHN)

    def refuse(path: str, flags: int) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.open", refuse)
    assert ["1: document: cannot be read: Permission denied"] == problems(folder)


def test_a_name_that_no_selector_can_hold(folder: Path) -> None:
    """Is shown in characters that can be."""
    (folder / "a b.yaml").write_text(JOHN)
    expected = "1: document: a user's name has 1 to 100 characters, and among them no space, ':' or '/'"
    assert expected in problems(folder, "a b")
    os.unlink(folder / "a b.yaml")
    os.close(os.open(os.fsencode(folder) + b"/\xff.yaml", os.O_CREAT | os.O_WRONLY))
    (folder / "\udcff.yaml").write_text("x: 1")
    found = loaded(folder)
    assert ["\ufffd"] == list(found.problems)
    assert "user:\ufffd" in found.config.left_out


def test_the_folder_has_bounds(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is beyond them is said, and what is within is used."""
    for name in "abc":
        (folder / f"{name}.yaml").write_text(f"experiments: {{one: [sim/{name}]}}")
    monkeypatch.setattr(users, "MAX_USERS", 2)
    found = loaded(folder)
    expected = f"{folder}:1: document: holds over 2 users' files; those after 'b' were left out"
    assert ({"users": (expected,)}, {"a:one", "b:one"}) == (found.problems, set(found.config.experiments))
    assert "holds over 2 users' files; those after 'b' were left out" == found.config.left_out[f"users:{folder}"]
    monkeypatch.setattr(users, "MAX_ENTRIES", 1)
    assert ["holds over 1 entries; not all of them were looked at"] == [
        line.partition("document: ")[2] for line in loaded(folder).problems["users"]
    ]


def test_a_folder_that_is_not_there_may_come(tmp_path: Path) -> None:
    """It is no mistake, and is said."""
    (tmp_path / "c.yaml").write_text(MAIN)
    found = load_all(tmp_path / "c.yaml", {})
    assert ({}, "is not there") == (found.problems, found.config.left_out[f"users:{tmp_path}/users"])


def test_a_folder_that_cannot_be_read_keeps_what_was_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is away for a moment takes nobody's experiments along."""
    (folder / "john.yaml").write_text(JOHN)
    watched = Folder(str(folder))
    assert watched.look(at_once=True)

    def refuse(path: str) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr("os.scandir", refuse)
        assert [True, False] == [watched.look(), watched.look()]
        assert ("cannot be read: Input/output error", ["john"]) == (watched.problem, list(watched.files))
    assert watched.look()
    assert (None, ["john"]) == (watched.problem, list(watched.files))


# Live.


@pytest.fixture
def live(folder: Path) -> Live:
    (folder / "john.yaml").write_text(JOHN)
    (folder / "ada.yaml").write_text("experiments: {one: [sim/ada], two: ['tier:fast']}")
    live = Live(str(folder.parent / "c.yaml"))
    assert live.reload()
    return live


def now(live: Live) -> dict[str, tuple[str, ...]]:
    assert live.snapshot is not None
    return models(live.snapshot.config)


ADA = {"ada:one": ("sim/ada",), "ada:two": ("tier:fast",)}


def test_a_change_is_read_when_it_has_settled(live: Live, folder: Path) -> None:
    """A change, a new file and one that is gone: one look sees it, the next one reads it."""
    (folder / "john.yaml").write_text(JOHN.replace("sim/one", "sim/other"))
    assert [False, True, False] == [live.look(), live.look(), live.look()]
    assert {**ADA, "john:one": ("sim/other",)} == now(live)
    (folder / "john.yaml").unlink()
    (folder / "eve.yaml").write_text("experiments: {x: [sim/eve]}")
    assert [False, True, False] == [live.look(), live.look(), live.look()]
    assert {**ADA, "eve:x": ("sim/eve",)} == now(live)


def test_a_reload_reads_at_once(live: Live, folder: Path) -> None:
    """Without waiting for a file to be at rest; one that says the same is nothing new."""
    (folder / "john.yaml").write_text(JOHN.replace("sim/one", "sim/other"))
    assert [True, False] == [live.reload(), live.reload()]
    assert ("sim/other",) == now(live)["john:one"]
    (folder / "john.yaml").write_text(JOHN.replace("sim/one", "sim/other") + "# the same")
    assert not live.reload()


def test_a_folder_that_comes_and_goes(folder: Path) -> None:
    """Its appearing is a change like any other, and so is another folder's being named."""
    folder.rmdir()
    live = Live(str(folder.parent / "c.yaml"))
    live.reload()
    assert {} == now(live)
    folder.mkdir()
    (folder / "john.yaml").write_text(JOHN)
    assert any([live.look(), live.look()])
    assert {"john:one": ("sim/one",)} == now(live)
    (folder / "john.yaml").unlink()
    folder.rmdir()
    assert any([live.look(), live.look()])
    assert {} == now(live)
    other = folder.parent / "others"
    other.mkdir()
    (other / "ada.yaml").write_text("experiments: {one: [sim/ada]}")
    for name, expected in (("others", {"ada:one": ("sim/ada",)}), ("{}", {})):
        (folder.parent / "c.yaml").write_text(MAIN.replace("users/", name))
        assert [False, True] == [live.look(), live.look()]
        assert expected == now(live)


def test_a_file_that_never_rests_holds_nobody_up(live: Live, folder: Path) -> None:
    """It stays what it was, and others' changes are read."""
    (folder / "ada.yaml").write_text("experiments: {one: [sim/new]}")
    seen = []
    for number in range(4):
        (folder / "john.yaml").write_text(JOHN + f"  e{number}: [sim/a]\n")
        seen.append(live.look())
    assert [False, True, False, False] == seen
    assert {"john:one": ("sim/one",), "ada:one": ("sim/new",)} == now(live)
    assert live.look()
    assert ("sim/a",) == now(live)["john:e3"]


def test_a_file_that_is_written_while_it_is_read_is_read_again(
    live: Live, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a file may well be valid."""
    read = users._document

    def disturbed(path: str) -> object:
        document = read(path)
        (folder / "john.yaml").write_text(JOHN + "  more: [sim/more]\n")
        return document

    (folder / "john.yaml").write_text("experiments: {half: [sim/half]}")
    with monkeypatch.context() as patch:
        patch.setattr(users, "_document", disturbed)
        assert [False, False] == [live.look(), live.look()]
    assert [False, True] == [live.look(), live.look()]
    assert {"john:one", "john:more", *ADA} == set(now(live))


def test_the_experiments_of_a_broken_file_stay(live: Live, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Logged once and shown; others' changes come through; what is new in the file is left out until it is good again."""
    caplog.set_level(logging.INFO)
    (folder / "john.yaml").write_text("experiments:\n  one: [sim/new]\n  two: [so/what]\n")
    (folder / "ada.yaml").write_text("experiments: {one: [sim/new]}")
    assert [False, True, False] == [live.look(), live.look(), live.look()]
    kept = {"john:one": ("sim/one",), "ada:one": ("sim/new",)}
    line = f"{folder}/john.yaml:3: experiments.two[0]: 'so/what' names no provider that is configured"
    assert (kept, {"john": (line,)}, ()) == (now(live), live.user_problems, live.problems)
    assert (live.problems_since or 0) > 0
    assert live.snapshot is not None
    assert line == live.snapshot.config.left_out["user:john:two"]
    assert 1 == caplog.text.count("so/what")
    (folder / "john.yaml").write_text("experiments: {")
    assert [False, True] == [live.look(), live.look()]
    assert kept == now(live)
    (folder / "john.yaml").write_text("experiments: {two: [sim/two]}")
    assert [False, True] == [live.look(), live.look()]
    assert {"john:two": ("sim/two",), "ada:one": ("sim/new",)} == now(live)
    assert not live.user_problems
    assert live.problems_since is None
    assert "the experiments of 'john' are good again, or gone" in caplog.text


def test_a_broken_configuration_changes_nothing_and_holds_no_user_up(live: Live, folder: Path) -> None:
    """Users go on with the last good one."""
    (folder.parent / "c.yaml").write_text("providers: {")
    assert not any(live.look() for _ in range(3))
    assert 1 == len(live.problems)
    (folder / "john.yaml").write_text("experiments: {two: [sim/two]}")
    assert [False, True] == [live.look(), live.look()]
    assert {**ADA, "john:two": ("sim/two",)} == now(live)
    assert 1 == len(live.problems)


def test_a_tier_that_vanishes_takes_along_what_cannot_be_without_it(live: Live, folder: Path) -> None:
    """The file that names it is broken: its other experiments stay as they were. When the tier is back, so is everything."""
    (folder.parent / "c.yaml").write_text(MAIN.replace("fast", "quick"))
    assert [False, True] == [live.look(), live.look()]
    assert {"ada:one": ("sim/ada",), "john:one": ("sim/one",)} == now(live)
    line = f"{folder}/ada.yaml:1: experiments.two[0]: there is no tier 'tier:fast'"
    assert {"ada": (line,)} == live.user_problems
    assert live.snapshot is not None
    assert line == live.snapshot.config.left_out["user:ada:two"]
    (folder.parent / "c.yaml").write_text(MAIN)
    assert [False, True] == [live.look(), live.look()]
    assert {**ADA, "john:one": ("sim/one",)} == now(live)


def test_whoever_was_there_before_knows_what_a_broken_file_last_said(live: Live, folder: Path) -> None:
    """Started anew beside a broken file, it is unsure until it is told; a good configuration of its own stays."""
    before = live.snapshot
    assert before is not None
    (folder / "john.yaml").write_text("experiments: {")
    (folder / "ada.yaml").write_text("experiments: {one: [sim/new]}")
    fresh = Live(live.path)
    fresh.reload()
    assert ({"ada:one": ("sim/new",)}, True) == (now(fresh), fresh.unsure)
    assert fresh.restore(before)
    assert ({"ada:one": ("sim/new",), "john:one": ("sim/one",)}, False) == (now(fresh), fresh.unsure)
    assert not fresh.restore(before)


def test_a_snapshot_is_taken_over_where_there_is_none(live: Live, folder: Path) -> None:
    """With its users, whose files are watched from then on."""
    before = live.snapshot
    assert before is not None
    (folder.parent / "c.yaml").unlink()
    fresh = Live(live.path)
    assert not fresh.reload()
    assert fresh.restore(Snapshot(before.version, before.config))
    assert before == fresh.snapshot
    (folder / "john.yaml").write_text("experiments: {two: [sim/two]}")
    assert any([fresh.look(), fresh.look()])
    assert {**ADA, "john:two": ("sim/two",)} == now(fresh)
    later = Live(live.path)
    later.restore(before)
    assert {**ADA, "john:two": ("sim/two",)} == now(later)
