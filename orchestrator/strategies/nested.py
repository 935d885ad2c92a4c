"""Tiers within tiers: a pure combinator that runs a child's plan as if it were one call of its parent's.

The parent sees its members; the driver sees the leaves. In between, calls are relabelled: each leaf call gets an
identity of its own and the index of its leaf. A child that commits looks to its parent like a call that opened; a child
that returns looks like a call that ended. Nothing here waits or decides, so one driver loop still decides over all
leaves, however deep.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import inf

from orchestrator.strategies.plan import Call, Event, Happening, Plan, Step, Verdict
from orchestrator.types import Json, Opened, Request

Child = Callable[[Request], Plan]
"""Makes the plan of a member that is itself a route."""


@dataclass(slots=True, eq=False)
class _Node:
    """A running plan: the parent's (`owner` None), or that of the child which answers the parent's call `owner`."""

    plan: Plan
    leaf: Callable[[int], int]
    """The plan's candidate -> the index among the driver's leaves."""
    owner: int | None = None
    started_s: float = 0.0
    """A plan's own time begins when it is started; the parent's is the driver's."""
    extra: bool = False
    """Whether all that this plan starts is beyond what was asked for: a hedged tier."""
    wake_at_s: float = inf
    leaf_call: dict[int, int] = field(default_factory=dict)
    """The plan's call -> the driver's call."""


@dataclass(slots=True)
class _Changes:
    """What the driver is to do, gathered while one event is worked in."""

    start: list[Call] = field(default_factory=list)
    stop: list[int] = field(default_factory=list)
    commit: int | None = None
    ended: list[tuple[int, Verdict]] = field(default_factory=list)
    """Children that had nothing to start: the parent's call, and their verdicts, of which it has not been told."""


class _Nest:
    def __init__(self, parent: Plan, children: Sequence[Child | None], first_leaf: Sequence[int]) -> None:
        self._children = children
        self._first_leaf = first_leaf
        self._root = _Node(parent, first_leaf.__getitem__)
        self._nodes: dict[int, _Node] = {}
        """Running children, by the parent's call that they answer."""
        self._owner: dict[int, tuple[_Node, int]] = {}
        """The driver's live calls: the plan that started each, and its identity there."""
        self._served_by: dict[int, int] = {}
        """The parent's call -> the driver's call that last stood for it."""
        self._committed: int | None = None
        """The parent's call that serves the caller."""
        self._consensus: dict[int, Json] = {}
        """By the parent's call: how the vote went that a child took."""
        self._calls = 0

    def run(self) -> Plan:
        changes = _Changes()
        first = _begin(self._root.plan)
        verdict = first if isinstance(first, Verdict) else self._take(self._root, first, None, 0.0, changes)
        verdict = verdict or self._settle(0.0, changes)
        while verdict is None:
            wake_at_s = min(node.wake_at_s for node in (self._root, *self._nodes.values()))
            event = yield Step(tuple(changes.start), tuple(changes.stop), changes.commit, wake_at_s)
            changes = _Changes()
            if event.call is None:
                verdict = self._wake(event, changes)
            else:
                node, call = self._owner[event.call]
                if not isinstance(event.outcome, Opened):
                    del self._owner[event.call]
                self._served_by[call if node.owner is None else node.owner] = event.call
                verdict = self._send(node, event._replace(call=call), changes)
            verdict = verdict or self._settle(event.at_s, changes)
        served_by = None if verdict.call is None else self._served_by.get(verdict.call)
        # A vote of the parent's own says more than that of the member which it came to.
        within = None if verdict.call is None else self._consensus.get(verdict.call)
        return Verdict(verdict.outcome, served_by, verdict.sent, verdict.consensus or within)

    def _settle(self, at_s: float, changes: _Changes) -> Verdict | None:
        """Tells the parent of children that ended as soon as they were asked. Returns its verdict, once there is one."""
        verdict: Verdict | None = None
        while changes.ended and verdict is None:
            owner, said = changes.ended.pop(0)
            verdict = self._told(owner, said, at_s, changes)
        return verdict

    def _told(self, owner: int, verdict: Verdict, at_s: float, changes: _Changes) -> Verdict | None:
        if verdict.consensus is not None:
            self._consensus[owner] = verdict.consensus
        return self._send(self._root, Event(at_s, owner, verdict.outcome, verdict.sent), changes)

    def _wake(self, event: Event, changes: _Changes) -> Verdict | None:
        """Wakes every plan whose time has come. One that an earlier one stopped meanwhile is passed over."""
        for node in (self._root, *self._nodes.values()):
            alive = node.owner is None or self._nodes.get(node.owner) is node
            if alive and node.wake_at_s <= event.at_s:
                verdict = self._send(node, event, changes)
                if verdict is not None:
                    return verdict
        return None

    def _send(self, node: _Node, event: Event, changes: _Changes) -> Verdict | None:
        """Hands `event` to a plan and works in what it answers. Returns the parent's verdict, once there is one."""
        try:
            step = node.plan.send(event._replace(at_s=event.at_s - node.started_s))
        except StopIteration as end:
            verdict: Verdict = end.value
            if node.owner is None:
                return verdict
            if verdict.call is not None:
                # Not the last that was heard of: a vote may give the answer of an earlier one.
                self._served_by[node.owner] = node.leaf_call[verdict.call]
            self._close(node.owner, changes)
            return self._told(node.owner, verdict, event.at_s, changes)
        return self._take(node, step, event.outcome, event.at_s, changes)

    def _take(
        self, node: _Node, step: Step, outcome: Happening | None, at_s: float, changes: _Changes
    ) -> Verdict | None:
        """Works in one step of one plan, taken at `at_s` in answer to `outcome`."""
        node.wake_at_s = step.wake_at_s + node.started_s
        for call in step.stop:
            if node.owner is None and call in self._nodes:
                self._close(call, changes)
            else:
                self._stop(node.leaf_call[call], changes)
        for new in step.start:
            self._start(node, new, at_s, changes)
        if step.commit is None:
            return None
        if node.owner is None:
            self._committed = step.commit
            changes.commit = self._served_by[step.commit]
        elif node.owner == self._committed:
            changes.commit = node.leaf_call[step.commit]
        else:
            # For its parent, a child with a first token to offer is a call that opened: it may be committed to.
            return self._send(self._root, Event(at_s, node.owner, outcome), changes)
        return None

    def _start(self, node: _Node, call: Call, at_s: float, changes: _Changes) -> None:
        child = self._children[call.candidate] if node.owner is None else None
        if child is None:
            identity, self._calls = self._calls, self._calls + 1
            node.leaf_call[call.id] = identity
            self._owner[identity] = (node, call.id)
            changes.start.append(Call(identity, node.leaf(call.candidate), call.request, call.extra or node.extra))
            return
        offset = self._first_leaf[call.candidate]
        plan = child(call.request)
        first = _begin(plan)
        if isinstance(first, Verdict):
            changes.ended.append((call.id, first))
            return
        self._nodes[call.id] = _Node(plan, lambda candidate: offset + candidate, call.id, at_s, call.extra)
        self._take(self._nodes[call.id], first, None, at_s, changes)

    def _stop(self, identity: int, changes: _Changes) -> None:
        """Stops one of the driver's calls, unless it has ended; one that was to be started just now never is."""
        if self._owner.pop(identity, None) is None:
            return
        started = [call for call in changes.start if call.id != identity]
        if len(started) == len(changes.start):
            changes.stop.append(identity)
        changes.start = started

    def _close(self, owner: int, changes: _Changes) -> None:
        """Ends a child: its plan is closed and its live calls are stopped."""
        node = self._nodes.pop(owner)
        node.plan.close()
        for identity in node.leaf_call.values():
            self._stop(identity, changes)


def _begin(plan: Plan) -> Step | Verdict:
    """A plan's first step; or its verdict, where it has nothing to start."""
    try:
        return next(plan)
    except StopIteration as end:
        verdict: Verdict = end.value
        return verdict


def nested(parent: Plan, children: Sequence[Child | None], first_leaf: Sequence[int]) -> Plan:
    """The plan of a route with routes among its members.

    `children[i]` makes the plan of member i, or is None where member i is a candidate itself; `first_leaf[i]` is the
    index of its first (or only) candidate among all leaves. A child may be a nested plan in turn.
    """
    return _Nest(parent, children, first_leaf).run()
