"""The page of a report: from a summary and some results to HTML."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from typing import NamedTuple

from orchestrator.batch import plots, tables
from orchestrator.batch.columns import Columns
from orchestrator.batch.markup import Markup, joined, tag
from orchestrator.batch.shown import NONE, moment, share, span, usd
from orchestrator.batch.worst import Worst, clipped
from orchestrator.types import Json

_CSS = Markup(resources.files(__package__).joinpath("report.css").read_text(encoding="utf-8"))
POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""Nothing is loaded, and nothing runs: the page has no script, and what models wrote cannot bring one."""
WIDE, NARROW, ALL = 560, 340, 1160
"""Widths of plots in pixels: one of two, on a narrow screen, alone on a wide one."""


class Shown(NamedTuple):
    """What is shown of single items."""

    worst: Worst
    rows: Mapping[str, Mapping[str, Json]]
    questions: Mapping[str, str]


def page(summary: Json, columns: Columns, shown: Shown) -> str:
    """The whole document."""
    keys = {
        name: tag("span", plots.SHAPES[at % len(plots.SHAPES)][1], class_="key", style=f"color: {plots.colour(at)}")
        for at, name in enumerate(summary["arms"])
    }
    body = joined(
        [
            _head(summary),
            tag("h2", "Arms"),
            tables.arms(summary, keys),
            _notes(summary),
            _plots(summary, columns, keys),
            _section("Failures", "Failed calls, by their code.", tables.errors(summary)),
            _section("Every two arms", _PAIRS, tables.pairs(summary) if summary["pairs"] else None),
            _section("Votes", _VOTES, tables.consensus(summary)),
            _items("Where most arms fail", shown.worst.failing, shown, keys),
            _items("Where arms disagree", shown.worst.disputed, shown, keys),
        ]
    )
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"{summary['name']}: batch evaluation"),
        tag("style", _CSS),
    )
    return f"<!doctype html>\n{tag('html', head, tag('body', tag('main', body)), lang='en')}\n"


_PAIRS = (
    "Differences are of the first arm less the second, over the items that both answered, with 95 % intervals. “Right alone” "
    "counts the items on which only one of the two is right; p is McNemar's test on them, corrected for the number of pairs "
    "(Holm). Bold: different at the 5 % level after that. κ is Cohen's kappa of the answers."
)
_VOTES = (
    "How the votes went: ballots are the answers that a vote waited for, agreement the winning answer's share of them."
)


def _head(summary: Json) -> Markup:
    run, arms = summary["run"], summary["arms"].values()
    failed = sum(arm["failed"] for arm in arms)
    lines = sum(arm["n"] for arm in arms)
    best = max((arm["accuracy"] for arm in arms if arm["accuracy"] is not None), default=None)
    rate = NONE if run["per_s"] is None else f"{run['per_s']:.3g} a second"
    facts = [
        ("items × arms", f"{summary['items']:,} × {len(arms)}"),
        ("best accuracy", share(best)),
        ("cost, USD", usd(summary["cost_usd"] + summary["retried"]["cost_usd"])),
        ("failed", f"{failed:,} of {lines:,}"),
        ("at work", span(run["active_s"])),
        ("throughput", rate),
    ]
    return joined(
        [
            tag("h1", summary["name"]),
            tag("p", f"{moment(run['started_at'])} to {moment(run['ended_at'])}", class_="quiet"),
            tag("dl", [tag("div", tag("dt", name), tag("dd", value)) for name, value in facts], class_="facts"),
        ]
    )


def _notes(summary: Json) -> Markup:
    notes = ["Accuracy is of the answers that were scored: failed calls count in “failed”, not as wrong."]
    notes.append("Small print below a figure is its 95 % interval.")
    if summary["retried"]["lines"]:
        retried = summary["retried"]
        notes.append(
            f"{retried['lines']} failed calls were tried again; they cost {usd(retried['cost_usd'])} USD beside that."
        )
    return tag("p", " ".join(notes), class_="quiet small", style="margin-top: 10px")


def _plots(summary: Json, columns: Columns, keys: Mapping[str, Markup]) -> Markup:
    drawn = [
        _figure("accuracy", "Accuracy against cost, with 95 % intervals", lambda w: plots.accuracy_by_cost(summary, w)),
        _figure(
            "latency", "Latency: share of answers that came within", lambda w: plots.latencies(columns, summary, w)
        ),
        _figure("throughput", "Throughput and failures over time", lambda w: plots.throughput(summary, w), ALL),
    ]
    legend = tag("ul", [tag("li", key, name) for name, key in keys.items()], class_="legend")
    return joined([tag("h2", "Plots"), legend, tag("div", drawn, class_="plots")])


def _figure(name: str, title: str, spec: Callable[[int], Json | None], wide: int = WIDE) -> Markup:
    caption = tag("figcaption", title)
    at_wide, at_narrow = spec(wide), spec(NARROW)
    everything = "all" if wide == ALL else None
    if at_wide is None or at_narrow is None:
        return tag("figure", caption, tag("p", "There is nothing to show.", class_="quiet"), id=name, class_=everything)
    key = None
    if name == "throughput":
        key = tag(
            "ul",
            [
                tag("li", tag("span", "■", class_="key", style=f"color: var(--{colour})"), what)
                for what, colour in (("answered", "ok"), ("failed", "bad"))
            ],
            class_="legend small",
        )
    pictures = [
        tag("div", plots.svg(at_wide), class_="wide"),
        tag("div", plots.svg(at_narrow), class_="narrow"),
    ]
    return tag("figure", caption, key, pictures, id=name, class_=everything)


def _section(title: str, text: str, table: Markup | None) -> Markup | None:
    return None if table is None else joined([tag("h2", title), tag("p", text, class_="quiet small"), table])


def _items(title: str, items: Sequence[str], shown: Shown, keys: Mapping[str, Markup]) -> Markup | None:
    if not items:
        return None
    return joined([tag("h2", title), [_item(item, shown, keys) for item in items]])


def _item(item: str, shown: Shown, keys: Mapping[str, Markup]) -> Markup:
    rows = shown.rows[item]
    expected = next((row["expected"] for row in rows.values() if row.get("expected") is not None), None)
    question = shown.questions.get(item)
    return tag(
        "section",
        tag("h3", item),
        tag("p", "expected: ", tag("b", clipped(str(expected))), class_="small") if expected is not None else None,
        tag("details", tag("summary", "question"), tag("pre", clipped(question))) if question else None,
        tag("div", [_answer(name, rows[name], keys[name]) for name in keys if name in rows], class_="arms"),
        class_="item",
    )


def _answer(name: str, row: Json, key: Markup) -> Markup:
    score, error = row.get("score") or {}, row.get("error") or {}
    correct = score.get("correct")
    state, mark = "wrong", "✗ wrong"
    if row["outcome"] != "ok":
        mark = f"✗ {row['outcome']}"
    elif correct is None:
        state, mark = "", "not scored"
    elif correct:
        state, mark = "right", "✓ right"
    said = score.get("extracted")
    text = row.get("text") if row["outcome"] == "ok" else error.get("message")
    return tag(
        "div",
        tag("div", key, tag("b", name)),
        tag(
            "div", tag("span", mark, class_="mark"), f": {clipped(said)}" if said is not None else None, class_="small"
        ),
        tag("div", score["why"], class_="quiet small") if score.get("why") else None,
        tag("pre", clipped(text), tabindex="0") if text else None,
        class_=f"arm {state}".strip(),
    )
