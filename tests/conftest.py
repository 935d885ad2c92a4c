"""For all tests: hypothesis looks for new cases on people's machines, and for the same ones in CI; what runs beside what, and
for how long; a PostgreSQL."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.postgres import Postgres, programs
from tests.watchdog import Watchdog

# vLLM's own tests need it, in an environment of its own: `make test-vllm`.
collect_ignore = [] if os.environ.get("VLLM_PYTHON") else ["vllm"]

settings.register_profile(
    "here",
    deadline=None,  # the machine may be shared
    derandomize=os.environ.get("CI") == "true",
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("here")


watchdog = pytest.StashKey[Watchdog]()
collected, reported = pytest.StashKey[set[str]](), pytest.StashKey[set[str]]()
"""Of several workers: the tests that there are, and those that anything came of."""
TIMED = "pytestmark = pytest.mark.timed"


@functools.cache
def is_timed(file: str) -> bool:
    """Whether a file of tests is marked so, which the process that hands them out can only read: it collects none."""
    return TIMED in (Path(__file__).parent.parent / file).read_text(encoding="utf-8")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of two workers: those that are marked `timed` come first; see below."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: item.get_closest_marker("timed") is None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Of two workers (`make test WORKERS="-n 2 …"`) one has the tests that are marked `timed`, one after the other and from
    the beginning, since those would disturb each other; the other has the rest, a file at a time."""
    from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped, unused-ignore]

    class ByFile(LoadScopeScheduling):  # type: ignore[misc, unused-ignore]
        """The same scope is the same worker."""

        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return "timed" if is_timed(file) else file

    return ByFile(config, log)


def pytest_configure(config: pytest.Config) -> None:
    """A test that takes longer than pytest-timeout allows, and does not end by that, ends its process."""
    config.stash[watchdog] = Watchdog()
    config.stash[collected], config.stash[reported] = set(), set()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(node: Any, ids: list[str]) -> None:
    """Each worker has all of them."""
    node.config.stash[collected].update(ids)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """What never ran, since too many workers had ended, has failed: what runs the failed ones again (.ci/run) would hold a
    run for whole that left out most of its tests."""
    config = session.config
    there, ran = config.stash[collected], config.stash[reported]
    if left := sorted(there - ran):
        print(f"\n{len(left)} tests never ran", file=sys.stderr, flush=True)
        if config.cache is not None:
            failed = config.cache.get("cache/lastfailed", {})
            config.cache.set("cache/lastfailed", {**failed, **dict.fromkeys(left, True)})


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: Any) -> None:
    """By what holds for this test: of the command line, its own mark, or pyproject.toml."""
    item.config.stash[watchdog].begin(item.nodeid, 1.5 * settings.timeout)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    try:
        return (yield)
    finally:
        item.config.stash[watchdog].end()


def pytest_enter_pdb(config: pytest.Config) -> None:
    """Whoever looks for a mistake takes his time."""
    config.stash[watchdog].end()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Where several workers run, what failed is said at once: the end, where it is shown whole, may never be printed."""
    if "PYTEST_XDIST_WORKER" in os.environ or not hasattr(report, "node"):
        return
    report.node.config.stash[reported].add(report.nodeid)
    if report.failed:
        crash = getattr(report.longrepr, "reprcrash", None)
        reason = getattr(crash, "message", report.longreprtext).strip().partition("\n")[0]
        print(f"\nFAILED {report.nodeid} ({report.when}): {reason[:300]}", file=sys.stderr, flush=True)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server; on a machine that has none, what needs it is skipped, and fails under CI."""
    folder = programs()
    if folder is None:
        reason = "PostgreSQL's server is not installed (Debian: postgresql)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    server = Postgres(folder)
    yield server
    server.remove()


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a fresh database, once of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/ledger.db"
    server: Postgres = request.getfixturevalue("postgres")
    return server.database()
