"""Exit codes, and the one place where an exception becomes a readable line."""

import sys
import traceback
from collections.abc import Generator
from contextlib import contextmanager, suppress
from enum import IntEnum

from ardiq_cli import streams
from ardiq_cli.version import check_version


class ExitCode(IntEnum):
    """The exit codes of `ardiq`."""

    OK = 0
    FAILED = 1
    """A job or the run failed."""
    USAGE = 2
    """Wrong arguments, or the application could not be imported."""
    UNREACHABLE = 3
    """Redis cannot be reached, or refuses a command."""
    NOT_FOUND = 4
    TIMEOUT = 5
    EXHAUSTED = 6
    """The worker's process has run out of threads, memory or file descriptors; a new one may
    succeed.
    """
    INTERRUPTED = 130
    """Ctrl-C in a command that has nothing to finish (the shell's own convention)."""


class Interruption(BaseException):
    """Ends an import.

    Application code must not be able to catch it as an Exception or SystemExit.
    """


class CommandError(Exception):
    """A failure whose message is the sentence that the user should read."""

    def __init__(self, message: str, code: ExitCode = ExitCode.FAILED) -> None:
        super().__init__(message)
        self.code = code


def complain(message: str) -> None:
    """Write one line to standard error, without characters that control a terminal.

    Never raises, not even if the line cannot be written: the exit status must stay the same.
    """
    _write(f"ardiq: {_printable(' '.join(message.split()))}")


def _write(line: str) -> None:
    if sys.stderr is not None:  # pyright: ignore[reportUnnecessaryComparison] - else it would go to standard output
        with suppress(OSError, ValueError):  # full, without a reader, or closed
            print(line, file=sys.stderr, flush=True)


@contextmanager
def boundary(*, verbose: bool = False, only_shows: bool = False) -> Generator[None, None, None]:
    """Run a command. If it raises, end the process with an exit code and one line.

    With `verbose` the traceback goes before that line. A command that `only_shows` something has
    succeeded when its reader (`head`, a pager) has seen enough.
    """
    try:
        check_version()
        yield
        if only_shows:
            sys.stdout.flush()
    except KeyboardInterrupt:
        raise SystemExit(ExitCode.INTERRUPTED) from None
    except Exception as error:  # noqa: BLE001 - this is where all of them end
        if only_shows and isinstance(error, BrokenPipeError):
            # What is still buffered must not raise again at exit.
            streams.discard(1)
            raise SystemExit(ExitCode.OK) from None
        if verbose:
            for line in "".join(traceback.format_exception(error)).rstrip().split("\n"):
                _write(_printable(line))
        message, code = explain(error)
        complain(message)
        raise SystemExit(code) from None


def explain(error: Exception) -> tuple[str, ExitCode]:
    """Return the sentence and the exit code for an exception."""
    if isinstance(error, CommandError):
        return str(error), error.code
    if isinstance(error, ImportError):
        return str(error), ExitCode.USAGE
    # Imported here because `--help` must not load ardiq. If ardiq itself cannot be imported, this
    # is not reached.
    from ardiq.errors import ArdiqError, BrokerError, InvalidIdError, SystemResourceError, WorkerExhaustedError

    if isinstance(error, BrokerError):
        return str(error), ExitCode.UNREACHABLE
    if isinstance(error, InvalidIdError):
        # The only ids that a command takes are those on its command line.
        return str(error), ExitCode.USAGE
    if isinstance(error, WorkerExhaustedError | SystemResourceError):
        return str(error), ExitCode.EXHAUSTED
    if isinstance(error, ArdiqError):
        return str(error), ExitCode.FAILED
    return describe(error), ExitCode.FAILED


def describe(error: BaseException) -> str:
    """Return the type and the text of `error`, or the type alone if its text cannot be computed."""
    name = type(error).__name__
    try:
        return f"{name}: {error}"
    except BaseException:  # noqa: BLE001 - the class is the application's, and may raise anything
        return f"{name}, whose text cannot be shown"


def _printable(line: str) -> str:
    try:
        # Imported here because `--help` must not load ardiq.
        from ardiq.printable import printable
    except ImportError:  # this may be the very error to show
        return ascii(line)[1:-1]
    return printable(line)
