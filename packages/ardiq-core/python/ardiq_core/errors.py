"""The exceptions that the native module raises."""


class ArdiqError(Exception):
    """The base class of every exception class that ArdiQ defines for its callers.

    Example:
        ```python
        try:
            await add.enqueue(2, 3)
        except ArdiqError as error:
            print(error)
        ```
    """


class BrokerError(ArdiqError, RuntimeError):
    """The base class of the errors that concern Redis. The message says what to check.

    Each kind of fault has its own subclass. `app.run()` raises this class directly when a worker
    that had started gives up.

    Example:
        ```python
        try:
            await add.enqueue(2, 3)
        except BrokerUnreachableError:
            ...  # the server is down: try again later
        except BrokerError:
            ...  # someone has to look at the server or at the URL
        ```
    """


class BrokerUnreachableError(BrokerError):
    """Redis did not answer within `connect_timeout_s`, or accepted no write for that long: it is a
    replica, has too few replicas, or cannot save to disk.

    A request may still have been carried out, if only its reply was lost. If you enqueue with a
    `task_id` or with `unique=True`, you can safely try again.
    """


class BrokerRefusedError(BrokerError):
    """Redis refused the request, and trying again does not help: its memory is full, the user lacks
    a permission, or a value exceeds a limit and breaks every connection.
    """


class BrokerUnfitError(BrokerError):
    """This Redis must not hold jobs: it is too old, or it evicts keys when its memory is full."""


class BrokerClosedError(BrokerError):
    """The app's connection has been closed: the interpreter is about to exit, or the process was
    forked.
    """


class BrokerDataError(BrokerError):
    """Redis holds data that this version of ArdiQ cannot read."""


class ResultNotFoundError(ArdiqError, TimeoutError):
    """A call waited for a result that cannot arrive: the job is unknown, or its result is not
    stored.
    """


class StaleRunError(ArdiqError, RuntimeError):
    """A run that no longer owns its job has tried to store a checkpoint, or to read one.

    The run has ended or was abandoned, or its worker lost its lease and another worker has taken
    the job over. The outcome of such a run does not count.
    """


class SystemResourceError(ArdiqError, OSError):
    """The operating system refused a file descriptor, a thread or random numbers.

    `errno` is the error number of the operating system.
    """
