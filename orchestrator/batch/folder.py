"""The folder of a batch: results that are durable line by line, and what a run that was killed finds when it goes on.

`results.jsonl` has one line for each item and arm that has been answered, or has failed for good. A line is *done* when it
is on the disk (`fsync`), which is made sure of in groups: `SYNC_LINES` of them, or what has come within `SYNC_S`. What a
killed run had been answered and not yet made durable is asked again, and so is what was in flight: the lines of one group
and one window at the most. A last line that was torn is cut off. `run.json` says what the results are of; `.lock` keeps a
second run out.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import orjson

from orchestrator.batch.lines import counted_usd, paid_usd
from orchestrator.batch.spec import Spec
from orchestrator.errors import OrchestratorError
from orchestrator.files import replace, sync_folder
from orchestrator.types import Json

RESULTS, FAILED, RUN, LOCK = "results.jsonl", "failed.jsonl", "run.json", ".lock"
SYNC_LINES = 64
SYNC_S = 0.5
OK = "ok"


class BadFolder(OrchestratorError):
    """A folder that cannot be gone on in; the message says why, and what to do."""


class Unwritable(OrchestratorError):
    """Results that cannot be written any more: a full disk, say."""


class Line(NamedTuple):
    """What is to be known of a line of results."""

    number: int
    item: str
    arm: str
    outcome: str
    cost_usd: float | None
    """Its judge's included; None: it is not known."""
    spent_usd: float
    """What a budget counts: the worst case, where the cost is not known."""
    latency_s: float

    @property
    def ok(self) -> bool:
        """Whether it is an answer."""
        return self.outcome == OK


def identity(spec: Spec, input_sha256: str) -> Json:
    """What results are of: runs that differ in it do not share a folder."""
    return {"arms": spec.arms, "params": spec.params, "input_sha256": input_sha256}


class Claim(ABC):
    """A folder of results that this process holds from `open` to `close`: `.lock` keeps others out, and `run.json` says what
    the results are of."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._lock: int | None = None

    def open(self, spec: Spec, input_sha256: str, *, force: bool, now_s: float) -> Json:
        """Makes or takes over the folder; what `run.json` then says.

        Raises BadFolder where another run is in it, where it holds results of something else (unless `force`), or where
        it cannot be written.
        """
        try:
            os.makedirs(self.path, exist_ok=True)
            self._lock = os.open(self._at(LOCK), os.O_RDWR | os.O_CREAT, 0o644)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            run = self._take_over(spec, input_sha256, force, now_s)
            sync_folder(self.path)
        except BlockingIOError:
            self.close()
            raise BadFolder(f"{self.path}: another run is going on in it") from None
        except OSError as error:
            self.close()
            raise BadFolder(f"{self.path}: cannot be used: {error.strerror or error}") from None
        except BadFolder:
            self.close()
            raise
        return run

    def _take_over(self, spec: Spec, input_sha256: str, force: bool, now_s: float) -> Json:
        said = identity(spec, input_sha256)
        before: Json = {}
        if os.path.exists(self._at(RUN)):
            before = self._run()
            differs = [name for name, value in said.items() if before.get(name) != value]
            if differs and not (force and self._forced(differs)):
                what = ", ".join("input" if name == "input_sha256" else name for name in differs)
                rest = ", or --force to go on all the same; what is there stays" if self._forced(differs) else ""
                raise BadFolder(
                    f"{self.path}: holds the results of another run ({what} differ): give another `output`{rest}"
                )
        elif os.path.exists(self._at(RESULTS)) and not force:
            raise BadFolder(f"{self.path}: holds a {RESULTS} of something else; give another `output`")
        self._begin()
        run = {
            "name": spec.name,
            **said,
            "digest": hashlib.sha256(orjson.dumps(said, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16],
            "input": spec.input,
            "score": spec.score,
            "concurrency": spec.concurrency,
            "budget_usd": spec.budget_usd,
            "began_at": before.get("began_at", now_s),
        }
        self.note(run)
        return run

    @abstractmethod
    def _begin(self) -> None:
        """Makes ready for results. Raises BadFolder, and OSError."""

    def _forced(self, differs: Sequence[str]) -> bool:  # noqa: ARG002 - for those who are more particular
        """Whether results may be gone on with although these differ, if somebody insists."""
        return True

    def _run(self) -> Json:
        try:
            with open(self._at(RUN), "rb") as file:
                run = orjson.loads(file.read())
        except orjson.JSONDecodeError as error:
            raise BadFolder(f"{self._at(RUN)}:1: is not JSON: {error}") from None
        if not isinstance(run, dict):
            raise BadFolder(f"{self._at(RUN)}:1: has to be an object")
        return run

    def note(self, run: Json) -> None:
        """Replaces `run.json`. Raises OSError."""
        replace(self._at(RUN), json.dumps(run, indent=2).encode() + b"\n")

    def close(self) -> None:
        """Lets go of the folder."""
        if self._lock is not None:
            os.close(self._lock)
        self._lock = None

    def _at(self, name: str) -> str:
        return os.path.join(self.path, name)


class Folder(Claim):
    """The folder of a spec whose results are lines."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._results: int | None = None
        self._pending: list[bytes] = []

    def _begin(self) -> None:
        self._repair()
        self._results = os.open(self._at(RESULTS), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def _repair(self) -> None:
        """Cuts off a last line that was torn when its writer was killed."""
        with contextlib.suppress(FileNotFoundError), open(self._at(RESULTS), "r+b") as file:
            whole = end = 0
            for content in file:
                end += len(content)
                if content.endswith(b"\n") and _is_object(content):
                    whole = end
            file.seek(whole)
            if whole < end and file.read().count(b"\n") <= 1:
                file.truncate(whole)
                os.fsync(file.fileno())

    def lines(self) -> Iterator[Line]:
        """The results so far. Raises BadFolder for one that cannot be read, or that stands twice."""
        yield from self._read(RESULTS)

    def spent_before_usd(self) -> float:
        """What was spent on failures that have been asked again since."""
        return sum(line.spent_usd for line in self._read(FAILED))

    def _read(self, name: str) -> Iterator[Line]:
        for number, content in enumerate(self._contents(name), 1):
            line = _line(number, content)
            if line is None:
                raise BadFolder(f"{self._at(name)}:{number}: is no line of results")
            yield line

    def _contents(self, name: str) -> Iterator[bytes]:
        with contextlib.suppress(FileNotFoundError), open(self._at(name), "rb") as file:
            # A line without an end is still being written: whoever only looks may see one.
            yield from (content for content in file if content.endswith(b"\n"))

    def take_failed(self) -> int:
        """Moves lines that are no answers from the results to `failed.jsonl`; how many. To be called before any `append`.

        Killed in between, it leaves them in both, and the next one does not move them twice.
        """
        assert self._results is not None
        failed = dict.fromkeys(self._contents(FAILED))
        before = len(failed)
        moved = 0
        with open(self._at(RESULTS + ".new"), "wb") as rest:
            for content, line in zip(self._contents(RESULTS), self._read(RESULTS), strict=True):
                if line.ok:
                    rest.write(content)
                else:
                    failed[content] = None
                    moved += 1
            rest.flush()
            os.fsync(rest.fileno())
        if len(failed) > before:
            replace(self._at(FAILED), b"".join(failed))
        os.replace(self._at(RESULTS + ".new"), self._at(RESULTS))
        sync_folder(self.path)
        os.close(self._results)
        self._results = os.open(self._at(RESULTS), os.O_WRONLY | os.O_APPEND)
        return moved

    def append(self, line: Json) -> None:
        """A line of results; durable after the next `sync`."""
        self._pending.append(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))

    @property
    def pending(self) -> int:
        """Lines that are not durable yet."""
        return len(self._pending)

    def take_pending(self) -> Callable[[], int]:
        """What makes durable the lines that have come so far, to be called in any thread; it says how many. Raises
        OSError."""
        lines, self._pending = self._pending, []
        results = self._results
        assert results is not None

        def sync() -> int:
            content = b"".join(lines)
            written = 0
            try:
                while written < len(content):
                    written += os.write(results, memoryview(content)[written:])
                os.fsync(results)
            except OSError as error:
                # Half a line, that is, which whatever is written next would go on with.
                torn = written - (content.rfind(b"\n", 0, written) + 1)
                with contextlib.suppress(OSError):
                    os.ftruncate(results, os.fstat(results).st_size - torn)
                raise Unwritable(f"{self._at(RESULTS)} cannot be written: {error.strerror or error}") from None
            return len(lines)

        return sync

    def close(self) -> None:
        """Lets go of the folder; what is pending is lost."""
        if self._results is not None:
            os.close(self._results)
        self._results = None
        super().close()


def _is_object(content: bytes) -> bool:
    try:
        return isinstance(orjson.loads(content), dict)
    except orjson.JSONDecodeError:
        return False


def _line(number: int, content: bytes) -> Line | None:
    """None: it is none."""
    try:
        data: Any = orjson.loads(content)
        paid, counted = paid_usd(data), counted_usd(data)
        return Line(number, data["item"], data["arm"], data["outcome"], paid, counted, float(data["latency_s"]))
    except (orjson.JSONDecodeError, AttributeError, LookupError, TypeError, ValueError):
        return None
