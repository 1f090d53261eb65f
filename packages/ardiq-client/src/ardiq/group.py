"""Jobs whose outputs go together to the next one."""

# pyright: reportPrivateUsage=false
# The modules of this package are one unit: `_` keeps a name from users.

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from ardiq.checks import check_choice, kind_of
from ardiq.dispatch import Dispatch
from ardiq.job import Job
from ardiq.pending import PendingEnqueue
from ardiq.workflow import COLLECTED, LIST, MEMBER, ONE, SPREAD, TUPLE, Graph, Node, add, parent_of, target_of

if TYPE_CHECKING:
    from typing import Literal

    from ardiq.app import Ardiq

S = TypeVar("S")
T = TypeVar("T")


class Group(Generic[T]):
    """Jobs whose outputs go together to the next one. `ardiq.gather` and `ardiq.map` return it.

    Await it to send the jobs alone, and get their `Job`s in order.

    Example:
        ```python
        total = await ardiq.map(square, range(10)).then(add_up)
        ```
    """

    __slots__ = ("_app", "_is_list", "_kind", "_members")

    def __init__(
        self, app: Ardiq, members: Sequence[PendingEnqueue[Any] | Job[Any]], kind: str, *, is_list: bool
    ) -> None:
        self._app = app
        self._members = members
        self._kind = kind
        self._is_list = is_list

    def then(self, child: Dispatch[..., S], /, **kwargs: Any) -> PendingEnqueue[S]:
        """Add a job that gets the outputs of all members.

        It runs when all of them have succeeded; with `on_failure="collect"`, when all have ended.

        After `gather`, each output is a positional argument, in the order of the members. With
        `options(unpack=False)` on the task, they come as one tuple. After `map`, they come as one
        list.

        Args:
            child: The task, possibly with options.
            **kwargs: Its keyword arguments.

        Raises:
            TypeError: If `child` is not a task, or has no such argument.
            ValueError: If the task belongs to another app.
        """
        target = target_of(self._app, child, "then()")
        mode = LIST if self._is_list else SPREAD if target._unpack else TUPLE
        # A single member of a gather is not a tuple that unpacks.
        if mode == SPREAD and len(self._members) == 1:
            mode = ONE
        count = len(self._members) if mode == SPREAD else 1 if mode != ONE else None
        try:
            submission = target._submission_for_inputs(kwargs, count)
        except TypeError:
            if self._is_list:
                _close(self._members)
            raise
        node = Node(submission, mode)
        return add(self._app, target, node, [(one, self._kind, n) for n, one in enumerate(self._members)])

    def __or__(self, child: Dispatch[..., S]) -> PendingEnqueue[S]:
        return self.then(child)

    def enqueue_sync(self) -> list[Job[Any]]:
        """Send the jobs alone, from code without an event loop. Returns them in order."""
        graph, members = self._graph()
        if graph._nodes:
            graph.send_sync()
        return self._jobs(members)

    def __await__(self) -> Generator[Any, Any, list[Job[Any]]]:
        return self._send().__await__()

    async def _send(self) -> list[Job[Any]]:
        graph, members = self._graph()
        if graph._nodes:
            await graph.send()
        return self._jobs(members)

    def _graph(self) -> tuple[Graph, list[Node | str]]:
        graph = Graph(self._app)
        return graph, [parent_of(self._app, graph, member) for member in self._members]

    def _jobs(self, members: list[Node | str]) -> list[Job[Any]]:
        ids = [one if isinstance(one, str) else cast("str", one.job_id) for one in members]
        return [Job(self._app, job_id) for job_id in ids]


def gather(
    *members: PendingEnqueue[Any] | Job[Any], on_failure: Literal["fail", "collect"] = "fail"
) -> Group[tuple[Any, ...]]:
    """Join jobs, so that the next one gets the outputs of all of them.

    Args:
        *members: Enqueues that you have not awaited, or jobs that exist already.
        on_failure: `"fail"` (the default): the first member that fails for good fails the join at
            once, and members that no worker has fetched are aborted. `"collect"`: the join waits
            for all members, and gets their `TaskResult`s instead of their values.

    Raises:
        TypeError: If a member is not a job.
        ValueError: If there is no member, or `on_failure` is another word.

    Example:
        ```python
        both = await ardiq.gather(a.enqueue(1), b.enqueue("x")).then(combine)
        ```
    """
    for member in cast("tuple[object, ...]", members):
        if not isinstance(member, PendingEnqueue | Job):
            raise TypeError(f"gather() takes what task.enqueue(...) returns, or jobs, not {kind_of(member)}")
    if not members:
        raise ValueError("gather() needs at least one job")
    return Group(members[0]._app, members, _kind(on_failure), is_list=False)


def map(
    task: Dispatch[[T], Any], items: Iterable[T], *, on_failure: Literal["fail", "collect"] = "fail"
) -> Group[list[Any]]:
    """Enqueue one job for each item; the next job gets the list of their outputs.

    Args:
        task: The task, possibly with options. It is called with one item.
        items: The arguments, one for each job. They are encoded at once. If there is none, the next
            job gets an empty list.
        on_failure: As for `gather`.

    Raises:
        TypeError: If `task` is not a task.
        ValueError: If `on_failure` is another word.

    Example:
        ```python
        total = await ardiq.map(square, range(10_000)).then(add_up)
        ```
    """
    target_of(getattr(task, "_app", None), task, "map()")
    kind = _kind(on_failure)
    members: list[PendingEnqueue[Any]] = []
    try:
        members += (task.enqueue(item) for item in items)
    except BaseException:
        _close(members)
        raise
    return Group(task._app, members, kind, is_list=True)


def _close(members: Iterable[PendingEnqueue[Any] | Job[Any]]) -> None:
    """Close enqueues that only this group has. Then they do not warn that nobody awaited them."""
    for member in members:
        if isinstance(member, PendingEnqueue):
            member.close()


def _kind(on_failure: object) -> str:
    check_choice("on_failure", on_failure, ("fail", "collect"))
    return MEMBER if on_failure == "fail" else COLLECTED
