"""The handle to a job that has been enqueued."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from datetime import timedelta

    from ardiq.app import Ardiq
    from ardiq.results import TaskInfo, TaskResult, TaskStatus

R = TypeVar("R")


class Job(Generic[R]):
    """An immutable handle to an enqueued job: the app and an id. Two handles to one job are equal."""

    __slots__ = ("_app", "_id")

    def __init__(self, app: Ardiq, id: str) -> None:
        self._app = app
        self._id = id

    @property
    def app(self) -> Ardiq:
        """The app that the job belongs to."""
        return self._app

    @property
    def id(self) -> str:
        """The id of the job."""
        return self._id

    async def result(self, timeout: float | timedelta | None = None) -> TaskResult[R] | None:
        """The result of the job.

        With `timeout` (seconds) waits for it and raises TimeoutError when it does not come in time; without, returns
        what there is now: the result or None.
        """
        return await self._app.result(self._id, timeout)

    def result_sync(self, timeout: float | timedelta | None = None) -> TaskResult[R] | None:
        """Like `result`, for code without an event loop; blocks the thread.

        With `timeout`, raises RuntimeError if an event loop runs in this thread.
        """
        return self._app.result_sync(self._id, timeout)

    async def status(self) -> TaskStatus:
        """Where the job stands now."""
        return await self._app.status(self._id)

    def status_sync(self) -> TaskStatus:
        """As `status`, for code without an event loop."""
        return self._app.status_sync(self._id)

    async def info(self) -> TaskInfo | None:
        """A snapshot of the job while it is unfinished, else None."""
        return await self._app.info(self._id)

    def info_sync(self) -> TaskInfo | None:
        """As `info`, for code without an event loop."""
        return self._app.info_sync(self._id)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Job) and self._app is other._app and self._id == other._id

    def __hash__(self) -> int:
        return hash(self._id)

    def __repr__(self) -> str:
        from ardiq.printable import printable  # for people only, and so not on the way of an import

        return f"<Job {printable(self._id)}>"
