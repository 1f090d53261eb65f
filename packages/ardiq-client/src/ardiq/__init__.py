"""ArdiQ: a distributed task queue over Redis. This is the client: define or name tasks, enqueue them, read results."""

from ardiq.app import Ardiq
from ardiq.context import TaskContext, current_task
from ardiq.control import Reject, Retry
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
    SerializationError,
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

__version__ = check_core_version()

__all__ = [
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
    "InvalidIdError",
    "Job",
    "PayloadTooLargeError",
    "PendingEnqueue",
    "Prepared",
    "Reject",
    "ResultNotFoundError",
    "Retry",
    "SerializationError",
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
]
