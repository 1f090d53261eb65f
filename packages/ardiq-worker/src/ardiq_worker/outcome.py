"""Decides what the end of a run means for its job: no I/O, one function for each way to end.

Everything that can fail a job passes through here, so the texts are also made safe here. Whatever a
task raises, the outcome is short enough to store and can be encoded, and nothing that the exception
itself does can hurt the worker. An exception is user code: its class may compute `__class__`,
`__traceback__`, `__repr__`, even its own name, and may return strings and numbers whose methods are
user code again. So this module uses `type()` for types, the built-in classes for attributes, and
copies what they return into a plain `str` or `int`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

from ardiq.control import Abort, Reject, Retry
from ardiq_core import ABORTED, DEAD, FAILURE, HAND_BACK, RETRY, SUCCESS, UNKNOWN_TASK
from ardiq_worker.description import MAX_TEXT, format_traceback, message, represent

if TYPE_CHECKING:
    from types import FrameType, TracebackType

    from ardiq_core.shapes import Outcome

DEFAULT_BACKOFF_MS = 1000
MAX_BACKOFF_MS = 3_600_000
MAX_DELAY_MS = 2**45
"""About a thousand years.

A longer delay is reduced to this, so that no sum overflows on the server.
"""

_TRACEBACK: Any = vars(BaseException)["__traceback__"]
_QUALNAME: Any = vars(type)["__qualname__"]
_MODULE: Any = vars(type)["__module__"]

MAX_TRACEBACK = 16 * 1024


class Policy(Protocol):
    """The options of a task that affect its end."""

    @property
    def max_retries(self) -> int:
        """Further attempts after the first."""
        ...

    @property
    def backoff_ms(self) -> int:
        """Base of the delay between attempts; 0 for the default."""
        ...

    @property
    def result_ttl_ms(self) -> int | None:
        """How long the result is kept; None for the worker's default."""
        ...


class Attempt(Protocol):
    """What the decisions need to know about a run; see `ardiq_worker.run.Run`."""

    @property
    def slot(self) -> int:
        """The number by which the engine identifies the run."""
        ...

    @property
    def tries(self) -> int:
        """The number of this attempt, from 1."""
        ...

    @property
    def task(self) -> Policy:
        """The task that ran."""
        ...


class Verdict(NamedTuple):
    """An `ardiq_core.shapes.Outcome` with named fields: what happens to the job of a run."""

    slot: int
    kind: int
    """SUCCESS, FAILURE, RETRY, DEAD, ABORTED, HAND_BACK or UNKNOWN_TASK."""
    value: bytes | str | None = None
    """The encoded value of a success; the text of a failure."""
    ttl_or_delay_ms: int | None = None
    """How long the result is kept; before a retry, the delay."""
    error_type: str | None = None
    traceback: str | None = None

    @property
    def is_final_failure(self) -> bool:
        """Whether the job has failed for good, and does not become a dead letter."""
        return self.kind == FAILURE


_INDESCRIBABLE = "the task failed with an error that cannot be described"


def returned(run: Attempt, encoded: bytes) -> Outcome:
    """The task returned, and its value is `encoded`."""
    # Most runs end here. A plain tuple takes one allocation, and a named tuple two.
    return (run.slot, SUCCESS, encoded, run.task.result_ttl_ms, None, None)


def raised(run: Attempt, error: BaseException) -> Verdict:
    """The task raised `error`."""
    if is_a(error, Reject) or run.tries > run.task.max_retries:
        return _failed(run, safe_repr(error), error)
    delay_ms = asked_delay_ms(error) if is_a(error, Retry) else None
    return _again(run, type_name(error), delay_ms)


def misfit(run: Attempt, error: BaseException) -> Verdict:
    """The arguments do not match the task's function: no attempt can succeed."""
    return _failed(run, safe_repr(error), error)


def timed_out(run: Attempt, error: BaseException | None, seconds: float) -> Verdict:
    """The attempt was cancelled after `seconds`.

    `error` is the exception with which it ended, or None if it has not ended yet.
    """
    overrun = TimeoutError(f"timed out after {seconds:g}s")
    if error is not None:
        overrun.__traceback__ = trace_of(error)  # where it was when the time was up
    if run.tries > run.task.max_retries:
        return _failed(run, str(overrun), overrun)
    return _again(run, type_name(overrun))


def aborted(run: Attempt, error: BaseException | None = None) -> Verdict:
    """The job was aborted from outside, or its task raised the `Abort` that `error` is."""
    reason = ""
    if error is not None and is_a(error, Abort):
        try:
            reason = str.__str__(message(error))
        except BaseException:  # noqa: BLE001 - user code, and it may raise anything
            reason = type_name(error)
    text = safe_text(f"aborted: {reason}" if reason else "aborted", MAX_TEXT)
    return Verdict(run.slot, ABORTED, text, run.task.result_ttl_ms)


def undescribed(run: Attempt) -> Verdict:
    """The attempt has failed, and no details are available."""
    if run.tries > run.task.max_retries:
        return Verdict(run.slot, FAILURE, _INDESCRIBABLE, run.task.result_ttl_ms)
    return _again(run, None)


def unjudged(run: Attempt) -> Verdict:
    """The attempt has failed, and even the task's options cannot be applied."""
    return Verdict(run.slot, FAILURE, _INDESCRIBABLE)


def unserializable(run: Attempt, error: BaseException) -> Verdict:
    """The task returned a value that has no encoding: it has run and must not run again."""
    text = safe_text(f"the return value cannot be serialized: {_safe_str(error)}", MAX_TEXT)
    return Verdict(run.slot, FAILURE, text, run.task.result_ttl_ms, type_name(error))


def undecodable(run: Attempt, error: BaseException) -> Verdict:
    """The arguments could not be decoded; the dead letter keeps their bytes."""
    text = safe_text(f"the arguments cannot be decoded: {_safe_str(error)}", MAX_TEXT)
    return Verdict(run.slot, DEAD, text, run.task.result_ttl_ms, type_name(error))


def unknown_task(slot: int) -> Verdict:
    """This worker has no code for the task.

    The engine delays the job or, in the end, makes it a dead letter.
    """
    return Verdict(slot, UNKNOWN_TASK)


def handed_back(slot: int) -> Verdict:
    """The worker stops before the task has ended: another worker runs it, and this attempt is not
    counted.
    """
    return Verdict(slot, HAND_BACK)


def retry_delay_ms(backoff_ms: int, tries: int) -> int:
    """Return the delay between attempt number `tries` and the next: base × n², one hour at most."""
    return min((backoff_ms or DEFAULT_BACKOFF_MS) * tries * tries, MAX_BACKOFF_MS)


def asked_delay_ms(error: BaseException) -> int | None:
    """Return the delay that a `Retry` requests; None if it uses the backoff or is not an
    integer.
    """
    try:
        delay_ms = cast(Retry, error).delay_ms
    except BaseException:  # noqa: BLE001 - a subclass may compute it
        return None
    if not issubclass(type(delay_ms), int):
        return None
    return max(0, min(int.__index__(cast(int, delay_ms)), MAX_DELAY_MS))


def is_a(error: BaseException, kind: type[BaseException]) -> bool:
    """Whether `error` really is a `kind`; `isinstance` also checks its `__class__`, which may be a
    property.
    """
    return issubclass(type(error), kind)


def trace_of(error: BaseException) -> TracebackType | None:
    """Return the traceback that Python recorded for `error`, even if its class overrides that
    attribute.
    """
    return cast("TracebackType | None", _TRACEBACK.__get__(error))


def safe_repr(error: BaseException) -> str:
    """Return `repr(error)`, whatever that does, bounded and without characters that cannot be
    encoded.
    """
    try:
        return safe_text(represent(error), MAX_TEXT)
    except BaseException:  # noqa: BLE001 - user code, and it may raise anything
        return f"<{type_name(error)} whose repr() raises>"


def type_name(error: BaseException) -> str:
    """Return the qualified name of the type of `error`, without the module for built-in types."""
    try:
        # Bypass the class attributes, which a metaclass may compute. A class may lack or replace
        # its module.
        name, module = (str.__str__(part.__get__(type(error))) for part in (_QUALNAME, _MODULE))
    except (AttributeError, TypeError):
        return "BaseException"
    return safe_text(name if module == "builtins" else f"{module}.{name}", MAX_TEXT)


def traceback_text(error: BaseException) -> str | None:
    """Return the traceback of `error` from the task's own frames on, the end of a very long one;
    None if it has no text.
    """
    try:
        text = format_traceback(error, skip_own_frames(trace_of(error)))
    except BaseException:  # noqa: BLE001 - formatting calls user code (__str__, __notes__, a loader's get_source)
        return None
    if len(text) > MAX_TRACEBACK:
        text = "[…]\n" + text[-MAX_TRACEBACK:]
    return safe_text(text, MAX_TRACEBACK + 4)


def place(error: BaseException) -> str:
    """Return where in the task's own function `error` came up, as ` at file:line`; empty if it did
    not get that far.
    """
    trace = skip_own_frames(trace_of(error))
    return f" at {str.__str__(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}" if trace is not None else ""


def skip_own_frames(trace: TracebackType | None) -> TracebackType | None:
    """Return `trace` without the leading frames of this package."""
    while trace is not None and _is_own(trace.tb_frame):
        trace = trace.tb_next
    return trace


def safe_text(text: str, limit: int) -> str:
    """Return `text` in at most `limit` characters that can be encoded: a lone surrogate would fail
    a whole batch.
    """
    text = str.__str__(text)  # make it a plain str: the methods of a subclass may be user code
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _again(run: Attempt, error_type: str | None, delay_ms: int | None = None) -> Verdict:
    if delay_ms is None:
        delay_ms = retry_delay_ms(run.task.backoff_ms, run.tries)
    return Verdict(run.slot, RETRY, None, delay_ms, error_type)


def _failed(run: Attempt, text: str, error: BaseException) -> Verdict:
    return Verdict(run.slot, FAILURE, text, run.task.result_ttl_ms, type_name(error), traceback_text(error))


def _safe_str(error: BaseException) -> str:
    try:
        return str.__str__(message(error)) or type_name(error)
    except BaseException:  # noqa: BLE001 - user code, and it may raise anything
        return type_name(error)


def _is_own(frame: FrameType) -> bool:
    package: object = dict[str, Any].get(frame.f_globals, "__package__")  # of any type, in any kind of dictionary
    return type(package) is str and package == __package__
