"""How many coordinators there are: `replicas` of the application's arguments (configs/serve.yaml).

A number, or bounds: `{min: 1, max: 8, ongoing: 100}` has Ray Serve add one while each has more than `ongoing` requests in
flight, and take one away while fewer would do. A coordinator is one event loop, so it can make use of one core: where one
asks for about a core (`cpus`), a cluster that scales its nodes adds one when coordinators find no room.

100 by default: as many streams of 50 chunks a second took 0.6 of a core, with HAProxy and the pool. Requests that wait for
whole answers cost less: for those alone a coordinator can have several times as many.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

MOST_ONGOING = 10_000
"""Requests that Serve gives a coordinator at once; HAProxy has others wait."""


class Fixed(NamedTuple):
    """So many."""

    replicas: int

    def options(self) -> dict[str, Any]:
        """As `serve.deployment` takes them."""
        return {"num_replicas": self.replicas}


class Bounds(NamedTuple):
    """As many as the load needs."""

    max: int
    min: int = 1
    ongoing: int = 100
    """Requests in flight that a coordinator is to have, streams included."""
    up_s: float = 30.0
    """How long there has to be more, by the mean over half a minute, before one is added."""
    down_s: float = 600.0
    """How long there have to be fewer before one is taken away; it has `drain_s` for what it has in flight."""

    def options(self) -> dict[str, Any]:
        """As `serve.deployment` takes them."""
        return {
            "autoscaling_config": {
                "min_replicas": self.min,
                "max_replicas": self.max,
                "target_ongoing_requests": self.ongoing,
                "upscale_delay_s": self.up_s,
                "downscale_delay_s": self.down_s,
            }
        }


def replicas_of(given: object) -> Fixed | Bounds:
    """What `replicas` says. Raises ValueError."""
    if not isinstance(given, Mapping):
        return Fixed(_whole("replicas", given, 1))
    if unknown := {str(name) for name in given} - set(Bounds._fields):
        raise ValueError(f"replicas: unknown {', '.join(sorted(unknown))}; there is {', '.join(Bounds._fields)}")
    if "max" not in given:
        raise ValueError("replicas: 'max' is needed, how many there may be at most")
    default = Bounds(1)
    bounds = Bounds(
        _whole("replicas.max", given["max"], 1),
        # Not 0: HAProxy would have nobody to send the first request to.
        _whole("replicas.min", given.get("min", default.min), 1),
        _whole("replicas.ongoing", given.get("ongoing", default.ongoing), 1, MOST_ONGOING),
        _number("replicas.up_s", given.get("up_s", default.up_s)),
        _number("replicas.down_s", given.get("down_s", default.down_s)),
    )
    if bounds.min > bounds.max:
        raise ValueError(f"replicas: min ({bounds.min}) is more than max ({bounds.max})")
    return bounds


def cpus_of(given: object) -> float:
    """What `cpus` says: how much of a node's CPUs a coordinator takes. Raises ValueError."""
    return _number("cpus", given)


def _whole(name: str, given: object, least: int, most: int | None = None) -> int:
    # A command's argument is a text: `serve run actors.app:build replicas=2`.
    number = int(given) if isinstance(given, str) and given.isdecimal() else given
    if not isinstance(number, int) or isinstance(number, bool) or number < least or (most and number > most):
        bounds = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name}: has to be a whole number {bounds}, and is {given!r}")
    return number


def _number(name: str, given: object) -> float:
    number = float(given) if isinstance(given, str) and given.replace(".", "", 1).isdecimal() else given
    if not isinstance(number, int | float) or isinstance(number, bool) or not 0 <= number < float("inf"):
        raise ValueError(f"{name}: has to be a number of at least 0, and is {given!r}")
    return float(number)
