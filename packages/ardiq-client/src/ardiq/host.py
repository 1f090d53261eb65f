"""What `ardiq_worker` and `ardiq_cli` use of the client beyond its public names.

The client itself does not load this module.
"""

# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from ardiq import _core
from ardiq._core.wakeup import WakeUp
from ardiq._encoding.codec import Codec
from ardiq._functions import implementations, without_cache, written_function
from ardiq.plan import static_plan
from ardiq.results import result_of

if TYPE_CHECKING:
    from ardiq._core import Request
    from ardiq.app import Ardiq
    from ardiq.cron import StaticSchedule
    from ardiq.running import Runner
    from ardiq.task import Task
    from ardiq_core import Core

__all__ = [
    "Codec",
    "Host",
    "WakeUp",
    "implementations",
    "misfit_of",
    "result_of",
    "static_plan",
    "without_cache",
    "written_function",
]


class Host:
    """An app as its worker sees it."""

    __slots__ = ("app",)

    def __init__(self, app: Ardiq) -> None:
        self.app = app

    @property
    def tasks(self) -> Mapping[str, Task[..., Any]]:
        """The registered tasks by name. Tasks that are registered later appear in it."""
        return self.app._registry

    @property
    def schedules(self) -> Collection[StaticSchedule]:
        """The registered schedules."""
        return self.app._schedules.values()

    @property
    def codec(self) -> Codec:
        """Encodes and decodes arguments and values."""
        return self.app._codec

    def core(self) -> Core:
        """Return the app's core; create it on first use.

        Raises BrokerClosedError if the app is closed.
        """
        return self.app._connection.core()

    async def ask(self, request: Request) -> Any:
        """Make one request from the running loop and wait for the answer."""
        return await self.app._connection.ask(request)

    def ask_sync(self, request: Request, call: str) -> Any:
        """Make one request from a thread and wait for the answer. `call` is the public method that
        does so, without `_sync`.
        """
        return self.app._connection.ask_sync(request, call)

    def explain(self, error: Exception) -> Exception:
        """Return the error with what else the reader can do if the server cannot be reached."""
        _core.add_hint(error, self.app._connection.hint)
        return error

    @property
    def last_stop(self) -> object:
        """A new object after each call of `app.stop()`."""
        return self.app._running.last_stop

    @property
    def runner(self) -> Runner | None:
        """The current run of the app's worker; set it when a run starts, and back to None when it
        ends.
        """
        return self.app._running.runner

    @runner.setter
    def runner(self, runner: Runner | None) -> None:
        self.app._running.runner = runner


def misfit_of(task: Task[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """Return why a call does not match the task's signature, or None if it does."""
    return task._signature.problem(args, kwargs)
