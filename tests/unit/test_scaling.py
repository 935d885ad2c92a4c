"""How many coordinators there are, as `replicas` and `cpus` say it, and as Serve is told."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

from actors.scaling import Bounds, Fixed, cpus_of, replicas_of

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Ray's own, at import
    from actors.app import build

SIM = "providers: {sim: {simulate: {}}}\n"


def deployed(tmp_path: Path, **arguments: Any) -> Any:
    """The deployment that is made of these arguments."""
    config = tmp_path / "config.yaml"
    config.write_text(SIM)
    return build({"config": str(config), **arguments})._bound_deployment


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (3, Fixed(3)),
        ("3", Fixed(3)),  # a command's argument
        ({"max": 8}, Bounds(8, 1, 100, 30.0, 600.0)),
        ({"min": 2, "max": 4, "ongoing": 64, "up_s": 5, "down_s": 60.5}, Bounds(4, 2, 64, 5.0, 60.5)),
        ({"min": 2, "max": 2}, Bounds(2, 2)),
    ],
)
def test_what_is_taken(given: object, expected: Fixed | Bounds) -> None:
    """A number, or bounds."""
    assert expected == replicas_of(given)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (0, "replicas: has to be a whole number of at least 1, and is 0"),
        (True, "replicas: has to be a whole number of at least 1, and is True"),
        ("many", "replicas: has to be a whole number of at least 1, and is 'many'"),
        (None, "replicas: has to be a whole number of at least 1, and is None"),
        ({}, "replicas: 'max' is needed, how many there may be at most"),
        ({"max": 2, "mim": 1, "target": 3}, "replicas: unknown mim, target; there is max, min, ongoing, up_s, down_s"),
        ({"max": 0}, "replicas.max: has to be a whole number of at least 1, and is 0"),
        ({"max": 2, "min": 0}, "replicas.min: has to be a whole number of at least 1, and is 0"),
        ({"max": 2, "min": 3}, "replicas: min (3) is more than max (2)"),
        ({"max": 2, "ongoing": 10_001}, "replicas.ongoing: has to be a whole number from 1 to 10000, and is 10001"),
        ({"max": 2, "ongoing": 1.5}, "replicas.ongoing: has to be a whole number from 1 to 10000, and is 1.5"),
        ({"max": 2, "up_s": -1}, "replicas.up_s: has to be a number of at least 0, and is -1"),
        ({"max": 2, "down_s": float("inf")}, "replicas.down_s: has to be a number of at least 0, and is inf"),
    ],
)
def test_what_is_refused(given: object, expected: str) -> None:
    """What is wrong is said by name."""
    with pytest.raises(ValueError, match="replicas") as raised:
        replicas_of(given)
    assert expected == str(raised.value)


def test_cpus() -> None:
    """A share of a node's."""
    assert (0.95, 2.0, 0.5) == (cpus_of(0.95), cpus_of(2), cpus_of("0.5"))
    for given in (-1, "much", None, True):
        with pytest.raises(ValueError, match=r"^cpus: has to be a number of at least 0, and is "):
            cpus_of(given)


def test_a_number_of_coordinators(tmp_path: Path) -> None:
    """As many, and next to nothing of a node's CPUs, if nothing is said."""
    deployment = deployed(tmp_path, replicas=2)
    assert (2, None) == (deployment.num_replicas, deployment._deployment_config.autoscaling_config)
    assert 0.01 == deployment.ray_actor_options["num_cpus"]
    assert 1 == deployed(tmp_path).num_replicas


def test_coordinators_as_they_are_needed(tmp_path: Path) -> None:
    """Serve is told the bounds."""
    deployment = deployed(tmp_path, replicas={"min": 2, "max": 8, "ongoing": 64}, cpus=0.95)
    scaling = deployment._deployment_config.autoscaling_config
    assert (2, 8, 64) == (scaling.min_replicas, scaling.max_replicas, scaling.target_ongoing_requests)
    assert (30, 600) == (scaling.upscale_delay_s, scaling.downscale_delay_s)
    assert (10_000, 0.95) == (deployment.max_ongoing_requests, deployment.ray_actor_options["num_cpus"])
