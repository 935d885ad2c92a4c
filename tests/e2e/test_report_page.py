"""`report.html` in a real browser: Debian's Chromium, without a screen.

Screenshots are kept in the folder that ORCHESTRATOR_SCREENSHOTS names (CI: dist/screenshots), else in the test's own.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.batch.report import write_report
from orchestrator.types import Json
from tests.unit.batch.made import DATA, folder, recorded, right, timed

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), "chromium")
FLAGS = ["--headless", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync", "--hide-scrollbars", "--enable-logging=stderr"]
THEMES = {"light": 1, "dark": 0}
HOSTILE = "</pre><script>document.title = 'run'</script><img src=x onerror=\"document.title = 'run'\">" + "w" * 30_000

pytestmark = pytest.mark.skipif(
    shutil.which(CHROMIUM) is None and os.environ.get("CI") != "true", reason="Chromium is not on this machine"
)


def rows() -> Iterator[Json]:
    """The recordings where they are; else made-up answers of as many models."""
    if DATA.is_dir():
        yield from recorded()
        return
    chance = random.Random(1)
    for at, name in enumerate(("gpt-4o-mini-2024-07-18", "gemini-1.5-flash", "claude-3-haiku-20240307")):
        for item in range(200):
            yield right(f"q{item}", name, chance.random() < 0.9 - at / 10)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of a run with failures, with a hostile answer among those that are shown."""
    lines = list(timed(rows(), seed=3))
    for line in lines:
        if line["score"] is not None and line["item"].endswith("7"):
            line["score"] = {**line["score"], "correct": False}
            line["text"] = HOSTILE
    run = {"name": "gsm8k", "input": str(DATA / "questions.jsonl")}
    return write_report(folder(tmp_path_factory.mktemp("report"), lines, **run))


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where screenshots are kept."""
    where = Path(os.environ.get("ORCHESTRATOR_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    where.mkdir(parents=True, exist_ok=True)
    return where


def browse(page: Path, profile: Path, *flags: str) -> tuple[str, list[str]]:
    """Opens a page; what the browser printed, and what it wrote to the console."""
    root = ["--no-sandbox"] if os.geteuid() == 0 else []
    command = [CHROMIUM, *FLAGS, *root, f"--user-data-dir={profile}", *flags, page.as_uri()]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    return ran.stdout, [line for line in ran.stderr.splitlines() if "CONSOLE" in line]


def test_every_plot_has_marks_and_the_console_is_empty(report: Path, tmp_path: Path) -> None:
    """As the browser has it, for a wide screen and a narrow one; nothing that a model wrote has run."""
    dom, console = browse(report, tmp_path, "--dump-dom")
    assert [] == console
    figures = dict(re.findall(r'<figure id="(\w+)".*?(<svg.*?)</figure>', dom, re.DOTALL))
    assert ["accuracy", "latency", "throughput"] == sorted(figures)
    arms = len({line["arm"] for line in rows()})
    for name, least in (("accuracy", 3 * arms), ("latency", arms), ("throughput", 10)):
        pictures = figures[name].split("<svg")[1:]
        assert 2 == len(pictures)
        for picture in pictures:
            marks = re.findall(r'<g class="mark-\w+ role-mark[^>]*>(.*?)</g>', picture, re.DOTALL)
            assert least <= sum(len(re.findall(r"<(?:path|line)\b[^>]*(?:\bd=\"M|x2=|y2=)", part)) for part in marks)
    assert "<title>gsm8k: batch evaluation</title>" in dom
    assert "&lt;script&gt;document.title" in dom  # it is shown, as a text


def test_a_script_would_be_noticed(report: Path, tmp_path: Path) -> None:
    """The policy of the page stops it, and the console, which the test above reads, says so."""
    page = tmp_path / "page.html"
    page.write_text(
        report.read_text(encoding="utf-8").replace("</main>", "<script>document.title='run'</script></main>")
    )
    dom, console = browse(page, tmp_path / "profile", "--dump-dom")
    assert "<title>run" not in dom
    assert any("Content Security Policy" in line for line in console)


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_wider_than_the_screen(report: Path, tmp_path: Path, width: int) -> None:
    """Tables scroll within their frames; the page does not. (The policy is taken out of this copy, to measure.)"""
    html = report.read_text(encoding="utf-8")
    frame = tmp_path / "report.html"
    frame.write_text(re.sub(r"<meta http-equiv=[^>]*>", "", html), encoding="utf-8")
    page = tmp_path / "page.html"
    page.write_text(
        f'<iframe id="f" src="report.html" style="border: 0; width: {width}px; height: 900px"></iframe><script>'
        "f.onload = () => { document.title = 'is ' + f.contentDocument.documentElement.scrollWidth }</script>"
    )
    dom, _ = browse(page, tmp_path / "profile", "--allow-file-access-from-files", "--dump-dom")
    assert [str(width)] == re.findall(r"<title>is (\d+)</title>", dom)


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize(("width", "height"), [(1280, 2600), (390, 3400)])
def test_screenshots(report: Path, kept: Path, tmp_path: Path, theme: str, width: int, height: int) -> None:
    """Light and dark, wide and narrow: each a picture of its own."""
    picture = kept / f"report-{width}-{theme}.png"
    picture.unlink(missing_ok=True)
    _, console = browse(
        report,
        tmp_path,
        f"--blink-settings=preferredColorScheme={THEMES[theme]}",
        f"--window-size={width},{height}",
        f"--screenshot={picture}",
    )
    assert [] == console
    content = picture.read_bytes()
    assert (width, height) == tuple(int.from_bytes(content[at : at + 4], "big") for at in (16, 20))
    assert len(content) > 50_000
