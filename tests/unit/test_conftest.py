"""What becomes of tests where several workers run them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tests import conftest


def test_what_never_ran_has_failed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Where too many workers have ended the rest is left out: who runs again what failed runs that, too."""
    kept: dict[str, Any] = {"cache/lastfailed": {"a::crashed": True}}
    cache = SimpleNamespace(get=lambda name, _: kept[name], set=kept.__setitem__)
    config: Any = SimpleNamespace(stash=pytest.Stash(), cache=cache)
    session: Any = SimpleNamespace(config=config)
    node = SimpleNamespace(config=config)
    report: Any = SimpleNamespace(nodeid="a::crashed", failed=False, node=node)
    monkeypatch.setattr(conftest, "Watchdog", SimpleNamespace)
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    conftest.pytest_configure(config)
    conftest.pytest_xdist_node_collection_finished(node, ["a::crashed", "a::left", "b::left"])
    conftest.pytest_runtest_logreport(report)
    conftest.pytest_sessionfinish(session)
    assert {"a::crashed", "a::left", "b::left"} == kept["cache/lastfailed"].keys()
    assert "2 tests never ran" in capsys.readouterr().err
    for name in ("a::left", "b::left"):
        conftest.pytest_runtest_logreport(SimpleNamespace(**{**vars(report), "nodeid": name}))  # type: ignore[arg-type]
    kept["cache/lastfailed"] = {}
    conftest.pytest_sessionfinish(session)
    assert {} == kept["cache/lastfailed"]
