"""What a replica of a local model says of itself."""

from __future__ import annotations

from typing import Literal, NamedTuple

from orchestrator.hosting.affinity import Load

State = Literal["placing", "starting", "up", "restarting", "failed", "stopped"]
"""`placing`: no node has room for it yet; `starting`: for the first time, or since it was last up and then ended,
`restarting`; `failed`: its last start came to nothing, and it is tried again after a while."""
Ending = Literal["crashed", "killed", "hung", "out_of_memory", "slow", "not_found"]
"""How a server ended: by itself, by a signal, by us as its health was silent, for want of memory, by us as it did not come
up in time; or it could not be run at all."""


class Status(NamedTuple):
    """A replica as it is now. Holds its key: it is shown by `orchestrator.hosting.fleet`, which leaves that out."""

    state: State = "placing"
    base_url: str = ""
    """Where it answers; while it is up."""
    key: str = ""
    reason: str = ""
    """Why it is not up, or last was not, in its own words."""
    ending: Ending | None = None
    """How it last ended."""
    restarts: int = 0
    again_s: float = 0.0
    """How long until it is started again."""
    node: str = ""
    load: Load = Load()
    changes: int = 0
    """Grows whenever anything but the load is another."""


class Demand(NamedTuple):
    """What is asked of a model now."""

    calls: int = 0
    """In flight and in the queue."""
    begun: int = 0
    """Calls that have ever come: a short one between two looks is one, too."""
