"""ArdiQ, a distributed task queue over Redis.

This is the client. Use it to define tasks, or refer to them by name, to enqueue them, and to read
their results.

Import the public names from here. The modules:

| module | what it does |
|---|---|
| `app` | `Ardiq`: options, the registry, and the methods that use a queue |
| `options` | checks the options of an app and of a run |
| `task` | a registered task, and how a function becomes one |
| `decorator` | the type of the decorators, for type checkers |
| `dispatch` | turns calls into submissions: `options`, `enqueue`, `prepare` |
| `bulk` | divides the calls of `enqueue_many` into requests |
| `pending` | an enqueue that has not been sent |
| `workflow` | jobs that depend on each other, before they are sent |
| `group` | jobs whose outputs go together to the next one |
| `job` | the handle to an enqueued job |
| `progress` | the progress of a job; loaded when it is used |
| `events` | the events of a job; loaded when they are used |
| `results` | status, result and snapshot of a job |
| `late` | the error of a wait without a result: where the job is |
| `inspection` | the types of what `inspect()` returns |
| `context` | what a running task can learn about its run |
| `control` | `Retry`, `Reject` and `Abort` |
| `cron` | when schedules fire, and schedules as they are registered; loaded when it is used |
| `plan` | a task with a schedule; loaded when it is used |
| `schedules` | handles to schedules, and what is known about each; loaded when it is used |
| `expression` | parses cron expressions |
| `running` | whether the app's own worker runs, and how to stop it |
| `development` | finds the server of a running `ardiq dev` |
| `host` | what `ardiq_worker` and `ardiq_cli` use beyond the public names |
| `errors` | the exceptions |
| `checks` | checks values that callers pass |
| `printable` | makes text safe for terminals and logs |
| `version` | checks that the installed distributions have the same version |
| `__main__` | `python -m ardiq`, the command line if it is installed |
| `_encoding` | arguments and results as bytes |
| `_functions` | inspects functions and their signatures |
| `_core` | calls the engine |
"""

from typing import TYPE_CHECKING

from ardiq.app import Ardiq
from ardiq.context import TaskContext, current_task
from ardiq.control import Abort, Reject, Retry
from ardiq.dispatch import BoundTask, Prepared, TaskRef
from ardiq.errors import (
    ArdiqError,
    BrokerClosedError,
    BrokerDataError,
    BrokerError,
    BrokerRefusedError,
    BrokerUnfitError,
    BrokerUnreachableError,
    InvalidIdError,
    PayloadTooLargeError,
    ResultNotFoundError,
    ScheduleNotFoundError,
    SerializationError,
    StaleRunError,
    SystemResourceError,
    VersionMismatchError,
    WorkerExhaustedError,
    WorkerNotInstalledError,
)
from ardiq.job import Job
from ardiq.pending import PendingEnqueue
from ardiq.results import DeadJob, TaskInfo, TaskResult, TaskStatus
from ardiq.task import Task
from ardiq.version import check_core_version

if TYPE_CHECKING:
    from ardiq.events import JobEvent
    from ardiq.group import Group, gather, map
    from ardiq.plan import ScheduledTask
    from ardiq.progress import Progress
    from ardiq.schedules import Schedule, ScheduleInfo
else:
    _RARE = {
        "Group": "group",
        "JobEvent": "events",
        "Progress": "progress",
        "Schedule": "schedules",
        "ScheduleInfo": "schedules",
        "ScheduledTask": "plan",
        "gather": "group",
        "map": "group",
    }

    def __getattr__(name):
        """Load what few programs use."""
        if name not in _RARE:
            raise AttributeError(f"module 'ardiq' has no attribute {name!r}", name=name)
        from importlib import import_module

        return getattr(import_module(f"ardiq.{_RARE[name]}"), name)


__version__ = check_core_version()

__all__ = [
    "Abort",
    "Ardiq",
    "ArdiqError",
    "BoundTask",
    "BrokerClosedError",
    "BrokerDataError",
    "BrokerError",
    "BrokerRefusedError",
    "BrokerUnfitError",
    "BrokerUnreachableError",
    "DeadJob",
    "Group",
    "InvalidIdError",
    "Job",
    "JobEvent",
    "PayloadTooLargeError",
    "PendingEnqueue",
    "Prepared",
    "Progress",
    "Reject",
    "ResultNotFoundError",
    "Retry",
    "Schedule",
    "ScheduleInfo",
    "ScheduleNotFoundError",
    "ScheduledTask",
    "SerializationError",
    "StaleRunError",
    "SystemResourceError",
    "Task",
    "TaskContext",
    "TaskInfo",
    "TaskRef",
    "TaskResult",
    "TaskStatus",
    "VersionMismatchError",
    "WorkerExhaustedError",
    "WorkerNotInstalledError",
    "__version__",
    "current_task",
    "gather",
    "map",
]
