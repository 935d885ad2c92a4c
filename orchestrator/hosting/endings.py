"""How a server ended, and why: in its own words, as far as its last lines have some."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from orchestrator.hosting.status import Ending

_ERROR = re.compile(r"(?:^|[\s\]:])((?:[A-Za-z_][\w.]*\.)?\w*(?:Error|Exception|OutOfMemory)\b: \S.*|error: \S.*)")
"""`ValueError: …` of a traceback, also behind a logger's prefix; `error: …` of a command line."""
_ELSEWHERE = re.compile(
    r"Engine core initialization failed|See root cause above|EngineDeadError|EngineCore (?:encountered|died)"
)
"""What vLLM's front says when its engine's own words stand further up."""
_MEMORY = re.compile(
    r"OutOfMemoryError|CUDA out of memory|HIP out of memory|MemoryError|std::bad_alloc|Cannot allocate memory"
    r"|No available memory for the cache blocks|less than desired GPU memory utilization"
    r"|KV cache .*larger than the available KV cache memory|failed to allocate .*buffer",
    re.IGNORECASE,
)
"""PyTorch's, Python's, C++'s, the system's, vLLM's and llama.cpp's words for it."""
MOST = 500
"""Characters of a reason."""


def reason_of(lines: Sequence[str], ending: Ending) -> str:
    """Of a server's last lines the one that says most about its end; empty where none does."""
    if ending in ("killed", "hung"):
        return ""  # it came from outside: what was said before is about something else
    told = [match[1] for line in lines if (match := _ERROR.search(line)) and not _ELSEWHERE.search(match[1])]
    memory = [line for line in lines if _MEMORY.search(line)]
    last = next((line for line in reversed(lines) if line.strip()), "")
    said = (told or memory or [last])[-1].strip()
    return said if len(said) <= MOST else said[: MOST - 1] + "…"


def ending_of(code: int, lines: Sequence[str], oom_kills: int) -> Ending:
    """By its exit status (128 and the number of a signal), its last lines, and how often the kernel killed somebody here for
    want of memory meanwhile."""
    if code == 127:
        return "not_found"
    if code == 128 + 9 and oom_kills:
        return "out_of_memory"
    if any(_MEMORY.search(line) for line in lines):
        return "out_of_memory"
    return "killed" if code > 128 else "crashed"


def oom_kills() -> int:
    """How often the kernel has killed for want of memory: in this control group, and on this machine. 0 where nobody says."""
    files = [Path("/proc/vmstat")]
    found = 0
    # Not on every system, and not in the first version of control groups: what is not there counts nothing.
    with suppress(OSError):
        group = Path("/proc/self/cgroup").read_text().rpartition("::")[2].strip()
        files.append(Path(f"/sys/fs/cgroup{group}/memory.events"))
    for file in files:
        with suppress(OSError):
            found += _count(file)
    return found


def _count(file: Path) -> int:
    return sum(int(line.split()[1]) for line in file.read_text().splitlines() if line.startswith("oom_kill "))
