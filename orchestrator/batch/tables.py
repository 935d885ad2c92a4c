"""The tables of a report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orchestrator.batch.markup import Markup, tag
from orchestrator.batch.shown import (
    NONE,
    chance,
    figure,
    interval,
    points,
    points_interval,
    share,
    share_interval,
    usd,
)
from orchestrator.types import Json


def arms(summary: Json, keys: dict[str, Markup]) -> Markup:
    """One line an arm. `keys`: each arm's mark in the plots."""
    rows = []
    for name, arm in summary["arms"].items():
        cost, times = arm["cost"], summary["run"]["latency_s"][name]
        total = usd(cost["sum_usd"])
        notes = [f"{cost['unknown']} unknown"] if cost["unknown"] else []
        notes += [f"{cost['estimated']} estimated"] if cost["estimated"] else []
        if arm["judge"]:
            notes.append(f"judge: {usd(arm['judge']['cost_usd'])}")
        left = [f"{arm['missing']} to come"] if arm["missing"] else []
        rows.append(
            [
                [keys[name], name, tag("small", arm["selector"]) if arm["selector"] else None],
                [share(arm["accuracy"]), tag("small", share_interval(arm["accuracy_interval"]))],
                [f"{arm['correct']} of {arm['scored']}" if arm["scored"] else NONE],
                [str(arm["answered"]), tag("small", ", ".join([f"{arm['failed']} failed", *left]))],
                [total, tag("small", ", ".join(notes)) if notes else None],
                [figure(_thousand(cost["mean_usd"])), tag("small", interval(_thousands(cost["mean_interval_usd"])))],
                [figure(_thousand(cost["per_correct_usd"]))],
                [f"{arm['tokens']['input']:,}", tag("small", f"{arm['tokens']['output']:,} out")],
                *([figure(times.get(f"p{at}"))] for at in (50, 90, 95, 99)),
            ]
        )
    head = [
        "arm",
        "accuracy",
        "right",
        "answered",
        "cost, USD",
        "USD per 1,000 items",
        "USD per 1,000 right",
        "tokens in",
    ]
    return _table([*head, *(f"p{at},\u00a0s" for at in (50, 90, 95, 99))], rows)


def errors(summary: Json) -> Markup | None:
    """How often which failure came; None: never."""
    codes = sorted({code for arm in summary["arms"].values() for code in arm["errors"]})
    if not codes:
        return None
    rows = [[name, *(arm["errors"].get(code, NONE) for code in codes)] for name, arm in summary["arms"].items()]
    return _table(["arm", *codes], rows)


def pairs(summary: Json) -> Markup:
    """One line for every two arms."""
    rows = []
    for pair, times in zip(summary["pairs"], summary["run"]["pairs"], strict=True):
        one, other = pair["arms"]
        sure = "sure" if pair["p_holm"] is not None and pair["p_holm"] < 1 - summary["level"] else None
        cost, costs = _thousand(pair["cost_difference_usd"]), _thousands(pair["cost_difference_interval_usd"])
        late, lates = times["latency_difference_s"], times["latency_difference_interval"]
        rows.append(
            [
                [one, tag("small", f"less {other}")],
                [str(pair["items"])],
                [
                    tag("span", points(pair["difference"]), class_=sure),
                    _note(points_interval(pair["difference_interval"])),
                ],
                [f"{pair['first_only']} : {pair['second_only']}" if pair["scored"] else NONE],
                [tag("span", chance(pair["p_holm"]), class_=sure), tag("small", f"alone {chance(pair['p'])}")],
                [share(pair["agreement"]), tag("small", f"κ {figure(pair['kappa'], 2)}")],
                [figure(cost, 3, "+"), _note(interval(costs, "+"))],
                [figure(late, 3, "+"), _note(interval(lates, "+"))],
            ]
        )
    head = [
        "arms",
        "items",
        "accuracy, points",
        "right alone",
        "p (Holm)",
        "same answer",
        "USD per 1,000 items",
        "latency, s",
    ]
    return _table(head, rows)


def consensus(summary: Json) -> Markup | None:
    """One line an arm that votes; None: none does."""
    rows = []
    for name, arm in summary["arms"].items():
        if (votes := arm["consensus"]) is not None:
            rows.append(
                [
                    [name, tag("small", ", ".join(votes["methods"]))],
                    [str(votes["n"])],
                    [figure(votes["votes_mean"])],
                    [share(votes["agreement_mean"])],
                    [share(votes["unanimous"] / votes["n"]), _note(share(votes["unanimous_accuracy"]) + " right")],
                    [share(votes["escalated"] / votes["n"])],
                    [f"{votes['calls_saved']:,}", tag("small", f"{votes['calls_saved'] / votes['n']:.2f} an item")],
                ]
            )
    head = ["arm", "votes held", "ballots", "agreement", "unanimous", "escalated", "calls saved"]
    return _table(head, rows) if rows else None


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> Markup:
    body = [tag("tr", tag("th", first, scope="row"), [tag("td", cell) for cell in rest]) for first, *rest in rows]
    top = tag("tr", [tag("th", name, scope="col") for name in head])
    # A keyboard reaches what scrolls.
    return tag("div", tag("table", tag("thead", top), tag("tbody", body)), class_="table", tabindex="0", role="region")


def _note(text: str) -> Markup | None:
    return tag("small", text) if text else None


def _thousand(value: float | None) -> float | None:
    return None if value is None else value * 1000


def _thousands(bounds: Sequence[float] | None) -> list[float] | None:
    return None if bounds is None else [bound * 1000 for bound in bounds]
