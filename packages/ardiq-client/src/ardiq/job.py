"""The handle to a job that has been enqueued."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, TypeVarTuple, overload

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from datetime import timedelta

    from ardiq.app import Ardiq
    from ardiq.dispatch import Dispatch
    from ardiq.events import JobEvent
    from ardiq.pending import Accepting, PendingEnqueue
    from ardiq.progress import Progress
    from ardiq.results import TaskInfo, TaskResult, TaskStatus

Q = ParamSpec("Q")
R = TypeVar("R")
S = TypeVar("S")
Ts = TypeVarTuple("Ts")


class Job(Generic[R]):
    """An immutable handle to an enqueued job: an app and an id.

    Two handles to the same job are equal.

    Example:
        ```python
        job = await add.enqueue(2, 3)
        result = await job.result(timeout=10)
        ```
    """

    __slots__ = ("_app", "_id")

    def __init__(self, app: Ardiq, id: str) -> None:
        self._app = app
        self._id = id

    @property
    def app(self) -> Ardiq:
        """The app that enqueued the job."""
        return self._app

    @property
    def id(self) -> str:
        """The id of the job."""
        return self._id

    @overload
    async def result(self, timeout: None = None) -> TaskResult[R] | None: ...
    @overload
    async def result(self, timeout: float | timedelta) -> TaskResult[R]: ...
    async def result(self, timeout: float | timedelta | None = None) -> TaskResult[R] | None:
        """Return the result of the job, or wait for it.

        Args:
            timeout: How long to wait: seconds or a timedelta. None (the default) returns at once.

        Returns:
            The result, or None if `timeout` is None and there is no result yet.

        Raises:
            TimeoutError: If no result arrives within `timeout`; it says where the job is.
                ResultNotFoundError, a subclass, is raised as soon as it is clear that none can
                arrive.
            BrokerError: If Redis cannot be reached or refuses the request.
            SerializationError: If the value cannot be decoded.

        Example:
            ```python
            result = await job.result(timeout=10)
            print(result.value if result.success else result.error_type)
            ```
        """
        return await self._app.result(self._id, timeout)

    @overload
    def result_sync(self, timeout: None = None) -> TaskResult[R] | None: ...
    @overload
    def result_sync(self, timeout: float | timedelta) -> TaskResult[R]: ...
    def result_sync(self, timeout: float | timedelta | None = None) -> TaskResult[R] | None:
        """Blocking version of `result`, for code without an event loop.

        Raises:
            RuntimeError: If `timeout` is given and an event loop runs in this thread.

        Example:
            ```python
            result = job.result_sync(timeout=10)
            ```
        """
        return self._app.result_sync(self._id, timeout)

    async def abort(self, timeout: float | timedelta = 5.0) -> bool:
        """Abort the job, and wait until it has ended.

        A job that is scheduled or queued ends at once. If it runs, its worker cancels it: in an
        `async def` task, the current `await` raises `asyncio.CancelledError`. The thread of a `def`
        task cannot be stopped. Its worker goes on without it, and ignores what it returns.

        The result of an aborted job has `aborted=True`, and is kept for five minutes at least.

        Args:
            timeout: How long to wait for the end of a running job: seconds or a timedelta. 0 does
                not wait. The job is aborted even if this time is too short.

        Returns:
            True if the job has ended as aborted, even by an earlier call. False if it has ended
            otherwise, is unknown, or is still running after `timeout`.

        Raises:
            ValueError: If `timeout` is negative.
            BrokerError: If Redis cannot be reached or refuses the request.

        Example:
            ```python
            if not await job.abort():
                print("too late")
            ```
        """
        return await self._app.abort(self._id, timeout)

    def abort_sync(self, timeout: float | timedelta = 5.0) -> bool:
        """Blocking version of `abort`, for code without an event loop.

        Raises:
            RuntimeError: If `timeout` is not 0 and an event loop runs in this thread.
        """
        return self._app.abort_sync(self._id, timeout)

    @overload
    def then(self: Job[tuple[*Ts]], child: Accepting[*Ts, S], /) -> PendingEnqueue[S]: ...
    @overload
    def then(self, child: Dispatch[Concatenate[R, Q], S], /, *_: Q.args, **kwargs: Q.kwargs) -> PendingEnqueue[S]: ...
    def then(self, child: Any, /, *args: Any, **kwargs: Any) -> PendingEnqueue[Any]:
        """Add a job that runs when this one has succeeded, with its output: see
        `PendingEnqueue.then`.

        If this job has ended, its stored result decides. When awaited, it raises ValueError if the
        queue does not have the job or its result any more.
        """
        from ardiq.workflow import check_keywords_only, then

        check_keywords_only(args)
        return then(self._app, self, child, kwargs)

    def otherwise(self, child: Dispatch[..., S], /) -> PendingEnqueue[R | S]:
        """Add a fallback: see `PendingEnqueue.otherwise`.

        Its arguments are read when it is awaited. So a job that has failed before has no fallback.
        """
        from ardiq.workflow import otherwise

        return otherwise(self._app, self, child)

    def finally_(self, child: Dispatch[Q, S], /, *args: Q.args, **kwargs: Q.kwargs) -> PendingEnqueue[S]:
        """Add a job that runs when this one has ended: see `PendingEnqueue.finally_`."""
        from ardiq.workflow import finally_

        return finally_(self._app, self, child, args, kwargs)

    async def progress(self) -> Progress | None:
        """Return the progress that the task last reported with `current_task().progress()`.

        Returns:
            The progress, also while the job waits for its next attempt; None if nothing has been
            reported, or the job has ended or is unknown.

        Raises:
            BrokerError: If Redis cannot be reached or refuses the request.

        Example:
            ```python
            progress = await job.progress()
            if progress is not None:
                print(f"{progress.done} of {progress.total}")
            ```
        """
        from ardiq.progress import read

        return await read(self._app, self._id)

    def progress_sync(self) -> Progress | None:
        """Blocking version of `progress`, for code without an event loop."""
        from ardiq.progress import read_sync

        return read_sync(self._app, self._id)

    def events(self) -> AsyncGenerator[JobEvent[R], None]:
        """Follow the job: iterate over its state and its progress as they change, until it has
        ended.

        The first event is the present state. The last one has the result, if it is known. If the
        job has ended already or is unknown, the first event is the last one.

        Workers send the events, so they arrive within milliseconds. Lost messages, and changes that
        are not announced, are noticed within 30 seconds. If you read more slowly than events
        arrive, you get every state, with its latest progress. You can stop iterating at any time.

        Returns:
            An asynchronous iterator. While Redis cannot be reached, it waits.

        Raises:
            BrokerError: By the first step, if Redis cannot be reached or refuses the request.
            SerializationError: If the value of the result cannot be decoded.

        Example:
            ```python
            async for event in job.events():
                print(event.status, event.progress)
            ```
        """
        from ardiq.events import follow

        return follow(self._app, self._id)

    async def status(self) -> TaskStatus:
        """Return the state of the job now.

        Raises:
            BrokerError: If Redis cannot be reached or refuses the request.
        """
        return await self._app.status(self._id)

    def status_sync(self) -> TaskStatus:
        """Blocking version of `status`, for code without an event loop."""
        return self._app.status_sync(self._id)

    async def info(self) -> TaskInfo | None:
        """Return a snapshot of the job, or None if the job is finished or unknown.

        Raises:
            BrokerError: If Redis cannot be reached or refuses the request.
            SerializationError: If the arguments cannot be decoded.
        """
        return await self._app.info(self._id)

    def info_sync(self) -> TaskInfo | None:
        """Blocking version of `info`, for code without an event loop."""
        return self._app.info_sync(self._id)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Job) and self._app is other._app and self._id == other._id

    def __hash__(self) -> int:
        return hash(self._id)

    def __repr__(self) -> str:
        from ardiq.printable import printable  # loaded only when someone looks at the job

        return f"<Job {printable(self._id)}>"
