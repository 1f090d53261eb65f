"""An enqueue that has not been sent: what `task.enqueue(...)` returns, to be awaited."""

# pyright: reportPrivateUsage=false
# The modules of this package are one unit: `_` keeps a name from users.

from __future__ import annotations

import warnings
from collections.abc import Coroutine, Generator, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar, overload

if TYPE_CHECKING:
    from datetime import datetime, timedelta
    from typing import Protocol, TypeVarTuple

    from ardiq.app import Ardiq
    from ardiq.dispatch import Dispatch
    from ardiq.job import Job
    from ardiq.workflow import Graph, Node, Parent
    from ardiq_core.shapes import Submission

    V = TypeVar("V")
    Ts = TypeVarTuple("Ts")

    class Accepting(Protocol[*Ts, V]):
        """A task that accepts these positional arguments."""

        def enqueue(self, /, *args: *Ts) -> PendingEnqueue[V]:
            """Enqueue one call."""
            ...


Q = ParamSpec("Q")
R = TypeVar("R")
S = TypeVar("S")


_REUSED = "this enqueue has been awaited already; call enqueue() again for another job"


class _Spent(Generator[Any, Any, Any]):
    """Takes the place of the steps of an enqueue that has ended: there are no more steps."""

    __slots__ = ()

    def send(self, value: Any, /) -> Any:
        raise RuntimeError(_REUSED)

    def throw(self, kind: Any, value: Any = None, traceback: TracebackType | None = None, /) -> Any:
        raise RuntimeError(_REUSED)

    def close(self) -> None:
        pass


_SPENT = _Spent()


class PendingEnqueue(Coroutine[Any, Any, "Job[R]"]):
    """An enqueue that you await to get the `Job`.

    You can also pass it to `asyncio.create_task`, `TaskGroup.create_task` or `asyncio.gather`. The
    arguments are already encoded, but nothing is sent before the first step. Enqueues that start in
    the same turn of the event loop are sent together.

    `then`, `otherwise` and `finally_` return the enqueue of a further job, which depends on this
    one. Together they are a workflow. Awaiting any of its jobs sends all of them. If Redis refuses
    the workflow, none of them runs; if Redis does not answer, they may have been enqueued.

    Example:
        ```python
        pending = add.enqueue(2, 3)
        job = await pending
        total = await add.enqueue(2, 3).then(double)
        ```
    """

    # This is a coroutine without a frame. It only waits for the future that the bridge resolves,
    # and the iterator of that future does the rest. `_steps` is None until the first step.
    # `_link` is its place in a workflow.
    __slots__ = ("_app", "_link", "_steps", "_submission")

    def __init__(self, app: Ardiq, submission: Submission, link: tuple[Graph, Node] | None = None) -> None:
        self._app = app
        self._submission = submission
        self._link = link
        self._steps: Generator[Any, Any, Job[R]] | None = None

    @property
    def id(self) -> str:
        """The id of the job, before it is sent.

        If an unfinished job holds the identity of this one, because its task is unique, the job
        that you get has the id of that one.
        """
        node = None if self._link is None else self._link[1]
        if node is not None and node.job_id is not None:
            return node.job_id
        submission = self._submission if node is None else node.submission
        if submission[0] is None:
            if node is None and self._steps is not None:
                raise RuntimeError("this enqueue has been awaited already; use the id of the job that it returned")
            from os import urandom

            submission = (urandom(16).hex(), *submission[1:])
            self._submission = submission
            if node is not None:
                node.submission = submission
        return str(submission[0])

    # The overloads of `then` cannot say that a tuple unpacks and that there are keyword arguments.
    @overload
    def then(self: PendingEnqueue[tuple[*Ts]], child: Accepting[*Ts, S], /) -> PendingEnqueue[S]: ...
    @overload
    def then(self, child: Dispatch[Concatenate[R, Q], S], /, *_: Q.args, **kwargs: Q.kwargs) -> PendingEnqueue[S]: ...
    def then(self, child: Any, /, *args: Any, **kwargs: Any) -> PendingEnqueue[Any]:
        """Add a job that runs when this one has succeeded, with its output as the first argument.

        If the output is a tuple, its items are the positional arguments. `options(unpack=False)` on
        the child prevents that. A job may have any number of children.

        If this job fails for good, or is aborted, the child fails with `dependency failed: <id>`.

        Args:
            child: The task, possibly with options.
            *args: None: positional arguments come from the output.
            **kwargs: Keyword arguments of the child.

        Returns:
            The enqueue of the child.

        Raises:
            TypeError: If `child` is not a task, or has no such argument.
            ValueError: If the task belongs to another app.

        Example:
            ```python
            job = await fetch.enqueue(url).then(parse).then(store, bucket="a")
            ```
        """
        from ardiq.workflow import check_keywords_only, then

        check_keywords_only(args)
        return then(self._app, self, child, kwargs)

    def otherwise(self, child: Dispatch[..., S], /) -> PendingEnqueue[R | S]:
        """Add a fallback: a job that runs with this one's arguments if this one fails.

        If this job succeeds, the fallback does not run, and ends with the same value. It also runs
        if this job could not run because a parent of it had failed. Then it gets only the keyword
        arguments.

        Args:
            child: The task, possibly with options.

        Raises:
            TypeError: If `child` is not a task.
            ValueError: If the task belongs to another app.

        Example:
            ```python
            job = await charge.enqueue(42).otherwise(refund)
            ```
        """
        from ardiq.workflow import otherwise

        return otherwise(self._app, self, child)

    def finally_(self, child: Dispatch[Q, S], /, *args: Q.args, **kwargs: Q.kwargs) -> PendingEnqueue[S]:
        """Add a job that runs when this one has ended, whether it has succeeded or not.

        Args:
            child: The task, possibly with options.
            *args: Its positional arguments. It does not get this job's output.
            **kwargs: Its keyword arguments.

        Raises:
            TypeError: If `child` is not a task, or the arguments do not match its signature.
            ValueError: If the task belongs to another app.

        Example:
            ```python
            job = await build.enqueue().finally_(cleanup)
            ```
        """
        from ardiq.workflow import finally_

        return finally_(self._app, self, child, args, kwargs)

    def start(
        self,
        *,
        after: Parent | Iterable[Parent] = (),
        delay: float | timedelta | None = None,
        schedule: datetime | None = None,
        priority: str | None = None,
    ) -> Self:
        """Set when and where the job starts; returns this enqueue.

        Args:
            after: Jobs, ids of jobs, or enqueues that must have succeeded before. It does not get
                their outputs.
            delay: How long to wait after that: seconds or a timedelta.
            schedule: Not before this time, which must have a time zone. It takes precedence over
                `delay`.
            priority: The lane.

        Raises:
            ValueError: If a number is out of range, the app has no such lane, or `schedule` has no
                time zone.
            TypeError: If an argument has the wrong type.

        Example:
            ```python
            late = await report.enqueue(2026).start(after=job, delay=30, priority="low")
            ```
        """
        from ardiq.workflow import start

        start(self, after, delay, schedule, priority)
        return self

    @overload
    def __or__(self: PendingEnqueue[tuple[*Ts]], child: Accepting[*Ts, S], /) -> PendingEnqueue[S]: ...
    @overload
    def __or__(self, child: Dispatch[Concatenate[R, ...], S], /) -> PendingEnqueue[S]: ...
    def __or__(self, child: Any, /) -> PendingEnqueue[Any]:
        return self.then(child)

    def __xor__(self, child: Dispatch[..., S]) -> PendingEnqueue[R | S]:
        return self.otherwise(child)

    def enqueue_sync(self) -> Job[R]:
        """Send the job, and the workflow that it is a part of, from code without an event loop."""
        from ardiq.workflow import send_sync

        return send_sync(self)

    def __await__(self) -> Generator[Any, Any, Job[R]]:
        steps = self._start()
        self._steps = _SPENT  # the code that awaits drives the steps
        return steps

    def send(self, value: Any, /) -> Any:
        """Advance the coroutine. The first step submits the job."""
        steps = self._steps
        if steps is None:
            steps = self._start()
        try:
            return steps.send(value)
        except StopIteration:
            self._steps = _SPENT
            raise

    def throw(
        self,
        kind: type[BaseException] | BaseException,
        value: BaseException | object = None,
        traceback: TracebackType | None = None,
        /,
    ) -> Any:
        """Raise an exception at the point where the enqueue waits.

        If it has not started, nothing is sent.
        """
        error = kind if isinstance(kind, BaseException) else value if isinstance(value, BaseException) else kind()
        if self._steps is None:
            self.close()
            raise error if traceback is None else error.with_traceback(traceback)
        return self._steps.throw(error)

    def close(self) -> None:
        """Cancel the enqueue. If it has not started, nothing is sent."""
        if self._steps is None:
            self._steps = _SPENT
            if self._link is not None:
                self._link[0].whole().drop()
        else:
            self._steps.close()

    def _take(self) -> None:
        """From now on, it has been awaited."""
        if self._steps is not None:
            raise RuntimeError(_REUSED)
        self._steps = _SPENT

    def _start(self) -> Generator[Any, Any, Job[R]]:
        if self._steps is not None:
            raise RuntimeError(_REUSED)
        self._steps = _SPENT  # in case the next line raises
        if self._link is None:
            steps = self._app._connection.enqueue(self._app, self._submission)
        else:
            from ardiq.workflow import job_of

            steps = job_of(self, *self._link).__await__()
        self._steps = steps
        return steps

    def __del__(self) -> None:
        # A workflow that is not sent warns itself.
        if self._steps is None and self._link is None:
            warnings.warn(
                f"the enqueue of {self._submission[1]!r} was never awaited: no job was sent",
                RuntimeWarning,
                stacklevel=2,
                source=self,
            )

    def __repr__(self) -> str:
        return f"<PendingEnqueue {self._submission[1]}>"
