"""Workflows: jobs that depend on each other, before they are sent.

A `Graph` has the jobs that are sent together, and a `Node` is one of them. `PendingEnqueue.then`
and its siblings, `Job.then`, and `gather` and `map` in `ardiq.group` extend the graph. Awaiting any
of its jobs sends all of it, once.
"""

# pyright: reportPrivateUsage=false
# The modules of this package are one unit: `_` keeps a name from users.

from __future__ import annotations

import warnings
from _thread import allocate_lock
from collections.abc import Generator, Iterable
from datetime import datetime
from os import urandom
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ardiq import _core
from ardiq.checks import LATEST_MS, LONGEST_MS, check_int, check_job_id, check_seconds, kind_of
from ardiq.dispatch import Dispatch
from ardiq.job import Job
from ardiq.options import lane_index
from ardiq.pending import PendingEnqueue
from ardiq.results import TaskStatus

if TYPE_CHECKING:
    from asyncio import Future
    from datetime import timedelta

    from ardiq._core import Request
    from ardiq.app import Ardiq
    from ardiq_core.shapes import Edge, Submission

R = TypeVar("R")

THEN, AFTER, OTHERWISE, FINALLY, MEMBER, COLLECTED = "t", "a", "o", "f", "m", "c"
"""The kinds of edges, as the engine knows them."""

SPREAD, ONE, TUPLE, LIST, NONE = "s", "o", "t", "l", "n"
"""How a worker makes the arguments of a job of its inputs.

`SPREAD`: the outputs, or the items of a single output that is a tuple, are positional arguments.
`ONE`: the only output is the first argument. `TUPLE` and `LIST`: all outputs together are.
`NONE`: the job has its arguments, unless it replaces one that had inputs.
"""

_FAILED = "this workflow could not be sent, or another thread is sending it; build it again to send it again"

Parent = PendingEnqueue[Any] | Job[Any] | str
"""What a job can depend on: a job that has not been sent, one that has, or an id."""


class Node:
    """A job of a graph: its submission, the mode of its inputs, and its edges.

    An edge is a parent (a node or a job id), a kind, and the position of the input. `job_id` is set
    when the job has been sent. `replaces` is the id of an earlier job whose arguments this one
    needs.
    """

    __slots__ = ("edges", "job_id", "mode", "replaces", "submission")

    def __init__(self, submission: Submission, mode: str | None = None) -> None:
        self.submission = submission
        self.mode = mode
        self.edges: list[tuple[Node | str, str, int]] = []
        self.job_id: str | None = None
        self.replaces: str | None = None


class Graph:
    """The jobs that are sent together."""

    __slots__ = ("_into", "_is_begun", "_is_dropped", "_lock", "_nodes", "_sending", "app")

    def __init__(self, app: Ardiq) -> None:
        self.app = app
        self._nodes: list[Node] = []
        self._into: Graph | None = None  # it has become a part of this one
        self._sending: Future[Any] | None = None
        self._is_begun = False
        self._is_dropped = False
        self._lock = allocate_lock()

    def drop(self) -> None:
        """The caller has closed an enqueue of this graph before it was sent."""
        self._is_dropped = True

    def whole(self) -> Graph:
        """The graph that this one is a part of."""
        graph = self
        while graph._into is not None:
            graph = graph._into
        return graph

    def add(self, node: Node) -> None:
        """Add a node after its parents."""
        self._nodes.append(node)

    def absorb(self, other: Graph) -> None:
        """Make another graph a part of this one."""
        if other is not self:
            self._nodes += other._nodes
            other._nodes = []
            other._into = self

    async def send(self) -> None:
        """Send all jobs, unless that has been done or is in progress."""
        from asyncio import ensure_future, shield

        if self._sending is None:
            self._begin()
            self._sending = ensure_future(self._send())
        await shield(self._sending)

    def send_sync(self) -> None:
        """Blocking version of `send`, for a thread without an event loop."""
        if self._sending is not None:
            raise RuntimeError("an event loop is sending this workflow; await it there")
        self._begin()
        steps, answer = self._steps(), None
        while (request := steps.send(answer)) is not None:
            answer = self.app._connection.ask_sync(request, "enqueue")

    def _begin(self) -> None:
        """Note that the jobs are being sent. If the reply is lost, they may have arrived: so a
        graph is sent once.
        """
        with self._lock:
            if self._is_begun:
                raise RuntimeError(_FAILED)
            self._is_begun = True

    async def _send(self) -> None:
        steps, answer = self._steps(), None
        while (request := steps.send(answer)) is not None:
            answer = await self.app._connection.ask(request)

    def _steps(self) -> Generator[Request | None, Any, None]:
        """Yield the requests that send all jobs, and None at the end. Each answer is sent in."""
        unsent = self._unsent()
        for node in unsent:
            if node.submission[0] is None:
                # The id is known even if the reply is lost.
                node.submission = (urandom(16).hex(), *node.submission[1:])
            if node.replaces is not None:
                ((_id, state, _name, body, *_rest),) = yield _core.lookup(node.replaces)
                if state == TaskStatus.COMPLETE:
                    result = yield _core.result(node.replaces, None)
                    if result is not None and not result[0]:
                        raise ValueError(
                            f"job {node.replaces!r} has failed, so its arguments are not stored any more; add a "
                            "fallback before that"
                        )
                elif body is not None:
                    node.submission = (*node.submission[:8], body)
        if unsent:
            ids = yield _core.link(*_request(unsent))
            for node, job_id in zip(unsent, ids, strict=True):
                node.job_id = job_id
        yield None

    def _unsent(self) -> list[Node]:
        """Return the nodes to send, parents before children."""
        ordered: dict[Node, None] = {}
        looked_at: set[Node] = set()
        stack = [node for node in reversed(self._nodes) if node.job_id is None]
        while stack:
            node = stack[-1]
            waiting = [
                parent
                for parent, _, _ in node.edges
                if isinstance(parent, Node) and parent.job_id is None and parent not in ordered
            ]
            if not waiting:
                ordered[node] = None
                stack.pop()
            elif node in looked_at:
                raise ValueError(f"a job of task {node.submission[1]!r} depends on itself, through its parents")
            else:
                looked_at.add(node)
                stack += waiting
        return list(ordered)

    def check_open(self) -> None:
        """Raise RuntimeError if no job can be added any more."""
        if self._is_begun:
            is_busy = self._sending is not None and not self._sending.done()
            raise RuntimeError(
                "the workflow is being sent; await it first, then add to its jobs" if is_busy else _FAILED
            )

    def __del__(self) -> None:
        if self._into is None and not self._is_dropped and not self._is_begun and self._nodes:
            names = ", ".join(repr(node.submission[1]) for node in self._nodes[:3])
            warnings.warn(
                f"the workflow of {names}{', …' if len(self._nodes) > 3 else ''} was never awaited: no job was sent",
                RuntimeWarning,
                stacklevel=2,
                source=self,
            )


def _request(nodes: list[Node]) -> tuple[list[tuple[Submission, str | None]], list[Edge]]:
    positions = {node: position for position, node in enumerate(nodes)}
    edges: list[Edge] = []
    for child, node in enumerate(nodes):
        for parent, kind, position in node.edges:
            known = parent if isinstance(parent, str) else parent.job_id
            edges.append((positions[cast("Node", parent)] if known is None else known, child, kind, position))
    return [(node.submission, node.mode) for node in nodes], edges


async def job_of(pending: PendingEnqueue[R], graph: Graph, node: Node) -> Job[R]:
    """Send the graph, if need be, and return the job of one node."""
    if node.job_id is None:
        await graph.whole().send()
    return Job(pending._app, cast("str", node.job_id))


def node_of(pending: PendingEnqueue[Any]) -> tuple[Graph, Node]:
    """Return the node of an enqueue. A single one becomes a graph."""
    if pending._link is None:
        if pending._steps is not None:
            raise RuntimeError("this enqueue has been awaited already; use the job that it returned")
        graph, node = Graph(pending._app), Node(pending._submission)
        graph.add(node)
        pending._link = (graph, node)
    graph, node = pending._link
    return graph.whole(), node


def target_of(app: Ardiq | None, child: object, call: str) -> Dispatch[..., Any]:
    """Return the task of a child. Raises TypeError or ValueError."""
    if not isinstance(child, Dispatch):
        is_pending = type(child) is PendingEnqueue
        hint = "; call .enqueue() only on the first task" if is_pending else ""
        raise TypeError(f"{call} takes a task, not {kind_of(child)}{hint}")
    target = cast("Dispatch[..., Any]", child)
    if target._app is not app:
        raise ValueError(f"the task {target.name!r} belongs to another app: all jobs of a workflow have the same app")
    return target


def add(
    app: Ardiq, child: Dispatch[..., Any], node: Node, parents: Iterable[tuple[Parent, str, int]]
) -> PendingEnqueue[Any]:
    """Add a node with these parents, and those of its task's options, to their graph."""
    graph = Graph(app)
    position = 0
    for parent, kind, position in parents:
        node.edges.append((parent_of(app, graph, parent), kind, position))
    for extra, parent in enumerate(child._after, position + 1):
        node.edges.append((parent_of(app, graph, parent), AFTER, extra))
    graph.add(node)
    return PendingEnqueue(app, node.submission, (graph, node))


def parent_of(app: Ardiq, graph: Graph, parent: Parent) -> Node | str:
    """Return the parent of an edge. One that has not been sent becomes a part of the graph."""
    if isinstance(parent, str):
        return check_job_id(parent)
    owner = parent._app
    if owner is not app:
        raise ValueError("a parent belongs to another app: all jobs of a workflow have the same app")
    if isinstance(parent, Job):
        return parent.id
    of_parent, node = node_of(parent)
    if node.job_id is not None:
        return node.job_id
    of_parent.check_open()
    graph.absorb(of_parent)
    return node


def enqueue_after(target: Dispatch[..., R], submission: Submission) -> PendingEnqueue[R]:
    """Return the enqueue of a job that waits for those of its task's option `after`."""
    return add(target._app, target, Node(submission), ())


def then(app: Ardiq, parent: Parent, child: object, kwargs: dict[str, Any]) -> PendingEnqueue[Any]:
    """Return the enqueue of a job that runs with the output of its parent."""
    target = target_of(app, child, "then()")
    mode = SPREAD if target._unpack else ONE
    node = Node(target._submission_for_inputs(kwargs, None if target._unpack else 1), mode)
    return add(app, target, node, [(parent, THEN, 0)])


def otherwise(app: Ardiq, parent: PendingEnqueue[Any] | Job[Any], child: object) -> PendingEnqueue[Any]:
    """Return the enqueue of a job that runs with its parent's arguments if the parent fails."""
    target = target_of(app, child, "otherwise()")
    node = Node(target._submission_for_inputs(), NONE)
    if isinstance(parent, Job):
        node.replaces = parent.id
    else:
        replaced = parent._link[1] if parent._link is not None else None
        body = (parent._submission if replaced is None else replaced.submission)[8]
        node.submission = (*node.submission[:8], body)
        node.replaces = None if replaced is None else replaced.replaces
    return add(app, target, node, [(parent, OTHERWISE, 0)])


def finally_(
    app: Ardiq, parent: Parent, child: object, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> PendingEnqueue[Any]:
    """Return the enqueue of a job that runs when its parent has ended."""
    target = target_of(app, child, "finally_()")
    return add(app, target, Node(target._submission(args, kwargs)), [(parent, FINALLY, 0)])


def check_keywords_only(args: tuple[Any, ...]) -> None:
    """Raise TypeError if a child got positional arguments."""
    if args:
        raise TypeError("then() takes the child and keyword arguments: positional ones come from the output")


def check_parents(value: Parent | Iterable[Parent]) -> tuple[Parent, ...]:
    """Return the value of `after` as a tuple of jobs, ids and enqueues."""
    parents = (value,) if isinstance(value, str | Job | PendingEnqueue) else tuple(value)
    for parent in cast("tuple[object, ...]", parents):
        if isinstance(parent, str):
            check_job_id(parent)
        elif not isinstance(parent, Job | PendingEnqueue):
            raise TypeError(f"after takes jobs, ids and enqueues, not {kind_of(parent)}")
    return parents


def start(
    pending: PendingEnqueue[Any],
    parents: Parent | Iterable[Parent],
    delay: float | timedelta | None,
    schedule: datetime | None,
    priority: str | None,
) -> None:
    """Set when and where a job that has not been sent starts."""
    app, given = pending._app, check_parents(parents)
    if pending._link is None and not given:
        graph, node = None, Node(pending._submission)
        is_sent = pending._steps is not None
    else:
        graph, node = node_of(pending)
        is_sent = graph._is_begun
    if is_sent:
        raise RuntimeError("this job has been sent already")
    job_id, name, lane, delay_ms, due_ms, *rest = node.submission
    if delay is not None:
        delay_ms = check_int("delay", round(check_seconds("delay", delay, zero=True) * 1000), 0, LONGEST_MS)
    if schedule is not None:
        due_ms = check_int("schedule", _epoch_ms(schedule), 0, LATEST_MS)
    if priority is not None:
        lane = lane_index(app._lanes, priority)
    node.submission = cast("Submission", (job_id, name, lane, delay_ms, due_ms, *rest))
    if graph is None:
        pending._submission = node.submission
        return
    position = 1 + max((position for _, _, position in node.edges), default=0)
    for extra, parent in enumerate(given, position):
        node.edges.append((parent_of(app, graph, parent), AFTER, extra))


def _epoch_ms(moment: object) -> int:
    if not isinstance(moment, datetime):
        hint = "; for a cron expression, use task.options(schedule=...)" if isinstance(moment, str) else ""
        raise TypeError(f"schedule must be a datetime, not {kind_of(moment)}{hint}")
    if moment.utcoffset() is None:
        raise ValueError("schedule must have a time zone, for example datetime.now(timezone.utc) has one")
    return max(0, round(moment.timestamp() * 1000))


def send_sync(pending: PendingEnqueue[R]) -> Job[R]:
    """Send a job, and the workflow that it is a part of, from a thread without an event loop."""
    pending._take()
    app = pending._app
    if pending._link is None:
        return Job(app, app._connection.enqueue_sync(pending._submission))
    graph, node = node_of(pending)
    if node.job_id is None:
        graph.send_sync()
    return Job(pending._app, cast("str", node.job_id))
