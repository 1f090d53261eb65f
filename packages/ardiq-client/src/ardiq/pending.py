"""An enqueue that has not been sent: what `task.enqueue(...)` returns, to be awaited."""

# pyright: reportPrivateUsage=false
# The modules of this package are one unit: `_` keeps a name from users.

from __future__ import annotations

import warnings
from collections.abc import Coroutine, Generator
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from ardiq.app import Ardiq
    from ardiq.job import Job
    from ardiq_core.shapes import Submission

R = TypeVar("R")


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

    Example:
        ```python
        pending = add.enqueue(2, 3)
        job = await pending
        ```
    """

    # This is a coroutine without a frame. It only waits for the future that the bridge resolves,
    # and the iterator of that future does the rest. `_steps` is None until the first step.
    __slots__ = ("_app", "_steps", "_submission")

    def __init__(self, app: Ardiq, submission: Submission) -> None:
        self._app = app
        self._submission = submission
        self._steps: Generator[Any, Any, Job[R]] | None = None

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
            self._steps = _SPENT
            raise error if traceback is None else error.with_traceback(traceback)
        return self._steps.throw(error)

    def close(self) -> None:
        """Cancel the enqueue. If it has not started, nothing is sent."""
        if self._steps is None:
            self._steps = _SPENT
        else:
            self._steps.close()

    def _start(self) -> Generator[Any, Any, Job[R]]:
        if self._steps is not None:
            raise RuntimeError(_REUSED)
        self._steps = _SPENT  # in case the next line raises
        steps = self._steps = self._app._connection.enqueue(self._app, self._submission)
        return steps

    def __del__(self) -> None:
        if self._steps is None:
            warnings.warn(
                f"the enqueue of {self._submission[1]!r} was never awaited: no job was sent",
                RuntimeWarning,
                stacklevel=2,
                source=self,
            )

    def __repr__(self) -> str:
        return f"<PendingEnqueue {self._submission[1]}>"
