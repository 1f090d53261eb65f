"""An exception becomes one line and an exit code, the more specific one if two apply."""

import asyncio

import pytest

from ardiq import (
    ArdiqError,
    BrokerError,
    InvalidIdError,
    SerializationError,
    SystemResourceError,
    VersionMismatchError,
    WorkerExhaustedError,
    WorkerNotInstalledError,
)
from ardiq_cli.exits import CommandError, ExitCode, boundary, explain


def test_the_codes_are_those_that_scripts_rely_on() -> None:
    names = ["OK", "FAILED", "USAGE", "UNREACHABLE", "NOT_FOUND", "TIMEOUT", "EXHAUSTED", "INTERRUPTED"]
    assert {code.name: int(code) for code in ExitCode} == dict(zip(names, [0, 1, 2, 3, 4, 5, 6, 130], strict=True))


class AwayWhileImporting(BrokerError, ImportError):
    """Fits two rules."""


EXPLAINED: list[tuple[Exception, str, ExitCode]] = [
    (CommandError("said already"), "said already", ExitCode.FAILED),
    (CommandError("no such job", ExitCode.NOT_FOUND), "no such job", ExitCode.NOT_FOUND),
    (ImportError("no such thing"), "no such thing", ExitCode.USAGE),
    # These are errors of ArdiQ too, but the missing installation decides.
    (WorkerNotInstalledError("pip install it"), "pip install it", ExitCode.USAGE),
    (VersionMismatchError("of two versions"), "of two versions", ExitCode.USAGE),
    (AwayWhileImporting("both"), "both", ExitCode.USAGE),
    # So are these, and the first is a RuntimeError as well.
    (BrokerError("no answer"), "no answer", ExitCode.UNREACHABLE),
    (InvalidIdError("an id must be printable"), "an id must be printable", ExitCode.USAGE),
    (SerializationError("bad bytes"), "bad bytes", ExitCode.FAILED),
    (WorkerExhaustedError("no threads"), "no threads", ExitCode.EXHAUSTED),
    (SystemResourceError(24, "no files"), "[Errno 24] no files", ExitCode.EXHAUSTED),
    (ArdiqError("something else"), "something else", ExitCode.FAILED),
    # Other exceptions are shown with their type, because the text alone may be a single word.
    (KeyError("lost"), "KeyError: 'lost'", ExitCode.FAILED),
    (RuntimeError("odd"), "RuntimeError: odd", ExitCode.FAILED),
    (TimeoutError("slow"), "TimeoutError: slow", ExitCode.FAILED),
]


@pytest.mark.parametrize(("error", "message", "code"), EXPLAINED, ids=lambda value: type(value).__name__)
def test_the_first_rule_that_fits_an_error_explains_it(error: Exception, message: str, code: ExitCode) -> None:
    assert explain(error) == (message, code)


def raised_inside(error: BaseException) -> object:
    with pytest.raises(SystemExit) as ended, boundary():
        raise error
    return ended.value.code


def test_a_message_of_several_lines_is_written_as_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert raised_inside(RuntimeError("first\n  second\n")) == ExitCode.FAILED
    assert capsys.readouterr() == ("", "ardiq: RuntimeError: first second\n")


def test_an_interrupt_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert raised_inside(KeyboardInterrupt()) == ExitCode.INTERRUPTED
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("error", [SystemExit(7), asyncio.CancelledError()], ids=repr)
def test_what_is_no_failure_passes_through(error: BaseException) -> None:
    with pytest.raises(type(error)) as passed, boundary():
        raise error
    assert passed.value is error
