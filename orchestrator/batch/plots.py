"""The plots of a report: specifications in Vega-Lite, rendered to SVG by vl-convert.

Rendered ahead, a plot needs no script and no network, and can be printed and mailed. Colours are CSS variables of the page,
so that one plot is right in light and dark; each is drawn twice, for a wide and for a narrow screen, since letters that are
scaled down with a picture cannot be read. A mark's description is its tooltip.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

import numpy as np
import vl_convert

from orchestrator.batch.columns import Columns
from orchestrator.batch.markup import Markup
from orchestrator.types import Json

COLOURS = 8
SHAPES = (
    ("circle", "●"),
    ("square", "■"),
    ("triangle-up", "▲"),
    ("diamond", "◆"),
    ("cross", "✚"),
    ("triangle-down", "▼"),
)
"""By Vega's names and as letters. Colours and shapes come round at different times: 24 arms are told apart."""
_QUANTILES = np.concatenate((np.linspace(0, 0.98, 99), np.linspace(0.982, 1, 10)))
_SVG = "http://www.w3.org/2000/svg"
_CONFIG: Mapping[str, Any] = {
    "background": None,
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--quiet)",
        "titleColor": "var(--ink)",
        "gridColor": "var(--grid)",
        "domainColor": "var(--line)",
        "tickColor": "var(--line)",
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "titlePadding": 8,
        "labelOverlap": True,
    },
}


def colour(at: int) -> str:
    """The colour of the arm in this place."""
    return f"var(--c{at % COLOURS})"


def accuracy_by_cost(summary: Json, width: int) -> Json | None:
    """Where each arm stands, with both intervals; None: no arm has an accuracy and a cost."""
    rows = []
    for name, arm in summary["arms"].items():
        mean = arm["cost"]["mean_usd"]
        if arm["accuracy"] is None or mean is None:
            continue
        low, high = arm["accuracy_interval"]
        cheap, dear = arm["cost"]["mean_interval_usd"] or (mean, mean)
        what = f"{name}: {arm['accuracy']:.1%} ({low:.1%} to {high:.1%}), {mean * 1000:.4g} USD per 1,000 items"
        rows.append(
            {"arm": name, "y": arm["accuracy"], "low": low, "high": high, "what": what}
            | {"x": mean * 1000, "cheap": cheap * 1000, "dear": dear * 1000}
        )
    if not rows:
        return None
    costs = [row["cheap"] for row in rows] + [row["dear"] for row in rows]
    log = min(costs) > 0 and max(costs) > 8 * min(costs)
    x = {
        "type": "quantitative",
        "title": "mean cost of 1,000 items (USD" + (", logarithmic)" if log else ")"),
        "scale": {"type": "log" if log else "linear", "zero": False, "nice": False, "padding": 20},
        "axis": {"format": ",~r", "tickCount": 5},
    }
    y = {
        "type": "quantitative",
        "title": "accuracy",
        "scale": {"zero": False, "padding": 8},
        "axis": {"format": ".0~%", "tickCount": 6},
    }
    rule = {"type": "rule", "strokeWidth": 1.5, "opacity": 0.7, "aria": False}
    point = {"type": "point", "filled": True, "size": 110, "opacity": 1}
    shapes = {"domain": [*summary["arms"]], "range": [SHAPES[i % len(SHAPES)][0] for i in range(len(summary["arms"]))]}
    both = {"y": {"field": "y", **y}, "x": {"field": "x", **x}}
    return _spec(rows, width, 320) | {
        "encoding": {"color": _colours([*summary["arms"]])},
        "layer": [
            {"mark": rule, "encoding": {**both, "x": {"field": "cheap", **x}, "x2": {"field": "dear"}}},
            {"mark": rule, "encoding": {**both, "y": {"field": "low", **y}, "y2": {"field": "high"}}},
            {
                "mark": point,
                "encoding": {
                    **both,
                    "shape": {"field": "arm", "type": "nominal", "scale": shapes, "legend": None},
                    "description": {"field": "what"},
                },
            },
        ],
    }


def latencies(columns: Columns, summary: Json, width: int) -> Json | None:
    """How many of an arm's answers have come by when; None: there are no answers."""
    rows = []
    for name, arm in columns.arms.items():
        known = arm.latency[~np.isnan(arm.latency)]
        if len(known):
            figures = summary["run"]["latency_s"][name]
            what = f"{name}: p50 {figures['p50']:.3g} s, p95 {figures['p95']:.3g} s, p99 {figures['p99']:.3g} s"
            shares = zip(np.quantile(known, _QUANTILES), _QUANTILES, strict=True)
            rows += [{"arm": name, "x": max(float(x), 1e-4), "y": float(y), "what": what} for x, y in shares]
    if not rows:
        return None
    return _spec(rows, width, 320) | {
        "mark": {"type": "line", "strokeWidth": 2.5},
        "encoding": {
            "x": {
                "field": "x",
                "type": "quantitative",
                "title": "latency (s, logarithmic)",
                "scale": {"type": "log", "nice": False},
                "axis": {"format": ",~r", "tickCount": 5},
            },
            "y": {
                "field": "y",
                "type": "quantitative",
                "title": "share of answers",
                "axis": {"format": ".0%", "values": [0, 0.25, 0.5, 0.75, 0.9, 0.99]},
            },
            "color": _colours([*columns.arms]),
            "description": {"field": "what"},
        },
    }


def throughput(summary: Json, width: int) -> Json | None:
    """Answers and failures a second over the time at work; None: nobody knows when they came."""
    line = summary["run"]["timeline"]
    if line is None:
        return None
    bin_s, active_s = line["bin_s"], summary["run"]["active_s"]
    unit, seconds = ("s", 1) if active_s < 300 else ("min", 60) if active_s < 4 * 3600 else ("h", 3600)
    rows = []
    for at, (answered, failed) in enumerate(zip(line["answered"], line["failed"], strict=True)):
        place = {"from": at * bin_s / seconds, "to": (at + 1) * bin_s / seconds}
        what = f"{place['from']:.4g} {unit}: {answered} answered, {failed} failed"
        bars = (("answered", 0, answered), ("failed", answered, answered + failed))
        rows += [
            {**place, "kind": kind, "low": low / bin_s, "high": high / bin_s, "what": what}
            for kind, low, high in bars
            if high > low
        ]
    x = {
        "type": "quantitative",
        "title": f"time at work ({unit})",
        "axis": {"format": ",~r", "tickCount": 6, "grid": False},
        "scale": {"nice": False, "zero": True},
    }
    bar = {
        "mark": {"type": "rect", "stroke": "var(--card)", "strokeWidth": 1},
        "encoding": {
            "x": {"field": "from", **x},
            "x2": {"field": "to"},
            "y": {
                "field": "low",
                "type": "quantitative",
                "title": "ended per second",
                "axis": {"format": ",~r", "tickCount": 4},
            },
            "y2": {"field": "high"},
            "color": {
                "field": "kind",
                "type": "nominal",
                "scale": {"domain": ["answered", "failed"], "range": ["var(--ok)", "var(--bad)"]},
                "legend": None,
            },
            "description": {"field": "what"},
        },
    }
    pauses = {
        "data": {"values": [{"x": at / seconds, "what": "a pause is left out here"} for at in line["pauses_s"]]},
        "mark": {"type": "rule", "strokeDash": [4, 4], "color": "var(--ink)"},
        "encoding": {"x": {"field": "x", **x}, "description": {"field": "what"}},
    }
    return _spec(rows, width, 200) | {"layer": [bar, *([pauses] if line["pauses_s"] else [])]}


def _spec(rows: Sequence[Json], width: int, height: int) -> Json:
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "width": width,
        "height": height,
        "autosize": {"type": "fit", "contains": "padding"},
        "padding": 4,
        "data": {"values": rows},
        "config": _CONFIG,
    }


def _colours(names: Sequence[str]) -> Json:
    scale = {"domain": names, "range": [colour(at) for at in range(len(names))]}
    return {"field": "arm", "type": "nominal", "scale": scale, "legend": None}


def svg(spec: Json) -> Markup:
    """A plot as an element that fills its place, with a tooltip for each mark that has a description."""
    drawn = vl_convert.vegalite_to_svg(spec, allowed_base_urls=[])
    ElementTree.register_namespace("", _SVG)
    # Made here a moment ago, by a renderer that writes no entities.
    root = ElementTree.fromstring(drawn)  # noqa: S314
    for element in [*root.iter()]:
        said = element.get("aria-label")
        if said and element.get("role") == "graphics-symbol" and element.get("aria-roledescription") != "axis":
            ElementTree.SubElement(element, f"{{{_SVG}}}title").text = said
    for fixed in ("width", "height"):
        del root.attrib[fixed]
    return Markup(ElementTree.tostring(root, encoding="unicode"))
