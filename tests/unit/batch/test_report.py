"""`report.html`, as it is written; tests/e2e/test_report_page.py looks at it in a browser."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from orchestrator.batch.page import POLICY
from orchestrator.batch.report import write_report
from orchestrator.types import Json
from tests.unit.batch.made import failed, folder, line, right

HOSTILE = "</pre></div><script>alert(1)</script><img src=https://example.com/x onerror=alert(1)>"
SAFE = {"html", "head", "meta", "title", "style", "body", "main", "h1", "h2", "h3", "p", "b", "small", "span", "pre"}
SAFE |= {"dl", "dt", "dd", "div", "ul", "li", "section", "details", "summary", "figure", "figcaption"}
SAFE |= {"table", "thead", "tbody", "tr", "th", "td", "svg", "g", "path", "line", "rect", "text"}


class Page(HTMLParser):
    """The elements of a page, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


def reported(where: Path, rows: list[Json], **run: Any) -> Page:
    return Page(write_report(folder(where, rows, **run)).read_text(encoding="utf-8"))


def test_nothing_is_loaded_and_nothing_runs(tmp_path: Path) -> None:
    """By what is in the page, and by its policy, whatever models, items and arms are called and say."""
    rows = [right("1", "a"), right("1", HOSTILE, False), failed(HOSTILE, "a"), failed(HOSTILE, HOSTILE)]
    rows[1] |= {"text": HOSTILE, "expected": HOSTILE, "score": {"correct": False, "extracted": HOSTILE, "why": HOSTILE}}
    rows[3]["error"]["message"] = HOSTILE
    asked = tmp_path / "questions.jsonl"
    asked.write_text(json.dumps({"id": "1", "prompt": HOSTILE}) + "\n")
    page = reported(tmp_path, rows, name=HOSTILE, input=str(asked), arms={HOSTILE: HOSTILE})
    assert set() == page.names - SAFE
    assert ("meta", "content", POLICY) in page.attributes
    loading = {"src", "href", "xlink:href", "srcset", "action", "data", "poster", "background"}
    assert [] == [one for one in page.attributes if one[1] in loading or one[1].startswith("on")]
    # What names an address is no more than a text, but for the names of XML's own.
    urls = {value for _, name, value in page.attributes if "://" in value and not name.startswith("xmlns")}
    assert all("example.com" in url for url in urls)
    assert page.text.count("alert(1)") > 5


def test_what_is_left_out_has_nothing_to_show(tmp_path: Path) -> None:
    """Without scores, costs and times, plots say so, and tables that would be empty are not there."""
    page = reported(tmp_path, [line("1", "a", cost_usd=None, at=None, latency_s=None)])
    assert page.text.count("There is nothing to show.") == 3
    for title in ("Failures", "Every two arms", "Votes", "Where most arms fail", "Where arms disagree"):
        assert title not in page.text


def test_answers_that_were_not_scored(tmp_path: Path) -> None:
    """They stand side by side where they differ, neither right nor wrong."""
    text = reported(tmp_path, [line("1", "a", text="Yes"), line("1", "b", text="No")]).text
    assert (2, 0, 0) == (text.count("not scored"), text.count("✓ right"), text.count("✗ wrong"))


def test_a_run_without_a_line(tmp_path: Path) -> None:
    """A report all the same."""
    assert "0 × 0" in reported(tmp_path, []).text


def test_what_a_page_says(tmp_path: Path) -> None:
    """Figures, notes on them, tables, and answers side by side."""
    consensus = {"method": "majority", "votes": [1, 2], "agreement": 1.0, "escalated": False, "calls_saved": 1}
    rows = [right(str(i), "a", i % 2 == 0, at=1_700_000_000 + i) for i in range(8)]
    rows += [right(str(i), "vote", consensus=consensus, cost_is_estimate=True, at=1_700_002_000 + i) for i in range(7)]
    rows.append(failed("7", "vote", at=1_700_002_000))
    rows[0]["score"]["cost_usd"] = 0.5
    rows[1]["cost_usd"] = None
    (tmp_path / "failed.jsonl").write_text(json.dumps(failed("7", "vote", cost_usd=0.25)) + "\n")
    page = reported(tmp_path, rows, arms={"a": "openai/a"}, items=9)
    said = re.sub(r"\s+", " ", page.text)
    for text in (
        "openai/a",
        "50.0 %",
        "1 failed",
        "1 to come",
        "1 unknown",
        "7 estimated",
        "judge: 0.500",
        "Every two arms",
    ):
        assert text in said
    for text in (
        "less vote",
        "majority",
        "unanimous",
        "1 failed calls were tried again",
        "✗ timeout",
        "✗ wrong",
        "✓ right",
    ):
        assert text in said
    titles = {value for tag, name, value in page.attributes if tag == "figure" and name == "id"}
    assert {"accuracy", "latency", "throughput"} == titles


@pytest.mark.parametrize("costs", [(0.0, 0.0), (0.001, 0.002), (0.0001, 0.1)])
def test_costs_of_any_size(tmp_path: Path, costs: tuple[float, float]) -> None:
    """Nothing at all, alike, or far apart: each arm has its mark."""
    rows = [right(str(i), arm, cost_usd=cost) for arm, cost in zip("ab", costs, strict=True) for i in range(5)]
    page = reported(tmp_path, rows)
    marks = [value for tag, name, value in page.attributes if name == "aria-label" and "USD per 1,000 items" in value]
    assert 4 == len(marks)  # two arms, drawn for two widths
    assert ("logarithmic)" in page.text.split("Latency")[0]) is (costs == (0.0001, 0.1))


def test_ids_are_unique(tmp_path: Path) -> None:
    """Those of plots, too: a reference from one to another's would be lost with it."""
    page = reported(tmp_path, [right("1", "a")])
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
