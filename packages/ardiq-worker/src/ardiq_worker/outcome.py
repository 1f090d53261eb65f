"""What a run's end means for its job: pure decisions, no I/O, one function per way to end.

Everything that can fail a job passes through here, so the texts are made safe here too: whatever a task raises, the
outcome is short enough to store and can be encoded, and nothing that the exception itself does can hurt the worker.
For an exception is user code: its class may compute `__class__`, `__traceback__`, `__repr__`, even its own name, and
may return strings and numbers whose methods are the user's again. So types are asked of `type()`, attributes of the
built-in classes, and what comes back is copied into a plain `str` or `int`.
"""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any, Protocol, cast

from ardiq.control import Reject, Retry
from ardiq_core import DEAD, FAILURE, HAND_BACK, RETRY, SUCCESS, UNKNOWN_TASK

if TYPE_CHECKING:
    from types import FrameType, TracebackType

    from ardiq_core.shapes import Outcome

DEFAULT_BACKOFF_MS = 1000
MAX_BACKOFF_MS = 3_600_000
MAX_DELAY_MS = 2**45
"""About a thousand years: a larger number asked for by a task must not overflow a sum on the server."""

_TRACEBACK: Any = vars(BaseException)["__traceback__"]
_QUALNAME: Any = vars(type)["__qualname__"]
_MODULE: Any = vars(type)["__module__"]

MAX_TEXT = 64 * 1024
MAX_TRACEBACK = 16 * 1024


class Policy(Protocol):
    """The options of a task that decide about its end."""

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


def returned(slot: int, encoded: bytes, policy: Policy) -> Outcome:
    """The task returned, and its value is `encoded`."""
    return (slot, SUCCESS, encoded, policy.result_ttl_ms, None, None)


def raised(slot: int, error: BaseException, tries: int, policy: Policy) -> Outcome:
    """The task raised `error` in attempt number `tries`."""
    if is_a(error, Reject) or tries > policy.max_retries:
        return _failed(slot, safe_repr(error), error, policy)
    delay = asked_delay_ms(error) if is_a(error, Retry) else None
    return _again(slot, error, retry_delay_ms(policy.backoff_ms, tries) if delay is None else delay)


def misfit(slot: int, error: BaseException, policy: Policy) -> Outcome:
    """The arguments do not match the task's function: no attempt can succeed."""
    return _failed(slot, safe_repr(error), error, policy)


def timed_out(slot: int, error: BaseException | None, tries: int, seconds: float, policy: Policy) -> Outcome:
    """The attempt was cancelled after `seconds`; `error` is how it ended, None while it has not."""
    overrun = TimeoutError(f"timed out after {seconds:g}s")
    if error is not None:
        overrun.__traceback__ = trace_of(error)  # where it was when the time was up
    if tries > policy.max_retries:
        return _failed(slot, str(overrun), overrun, policy)
    return _again(slot, overrun, retry_delay_ms(policy.backoff_ms, tries))


def undescribed(slot: int, tries: int, policy: Policy) -> Outcome:
    """The attempt has failed, and no details are available."""
    if tries > policy.max_retries:
        return (
            slot,
            FAILURE,
            "the task failed with an error that cannot be described",
            policy.result_ttl_ms,
            None,
            None,
        )
    return (slot, RETRY, None, retry_delay_ms(policy.backoff_ms, tries), None, None)


def unjudged(slot: int) -> Outcome:
    """The attempt has failed, and even the task's options cannot be applied."""
    return (slot, FAILURE, "the task failed with an error that cannot be described", None, None, None)


def unserialisable(slot: int, error: BaseException, policy: Policy) -> Outcome:
    """The task returned something that has no encoding: it has run and must not run again."""
    text = safe_text(f"the return value cannot be serialized: {_safe_str(error)}", MAX_TEXT)
    return (slot, FAILURE, text, policy.result_ttl_ms, type_name(error), None)


def undecodable(slot: int, error: BaseException, policy: Policy) -> Outcome:
    """The arguments could not be decoded; the dead letter keeps their bytes."""
    text = safe_text(f"the arguments cannot be decoded: {_safe_str(error)}", MAX_TEXT)
    return (slot, DEAD, text, policy.result_ttl_ms, type_name(error), None)


def unknown_task(slot: int) -> Outcome:
    """This worker has no code for the task; the engine delays or, in the end, dead-letters it."""
    return (slot, UNKNOWN_TASK, None, None, None, None)


def handed_back(slot: int) -> Outcome:
    """The worker stops before the task has ended: somebody else runs it, and no try is spent."""
    return (slot, HAND_BACK, None, None, None, None)


def retry_delay_ms(backoff_ms: int, tries: int) -> int:
    """Wait between attempt number `tries` and the next: base × n², one hour at most."""
    return min((backoff_ms or DEFAULT_BACKOFF_MS) * tries * tries, MAX_BACKOFF_MS)


def asked_delay_ms(error: BaseException) -> int | None:
    """Return the delay that a `Retry` requests; None if it uses the backoff or is not an integer."""
    try:
        delay_ms = cast(Retry, error).delay_ms
    except BaseException:  # noqa: BLE001 - a subclass may compute it
        return None
    if not issubclass(type(delay_ms), int):
        return None
    return max(0, min(int.__index__(cast(int, delay_ms)), MAX_DELAY_MS))


def is_a(error: BaseException, kind: type[BaseException]) -> bool:
    """Whether `error` really is a `kind`; `isinstance` also checks its `__class__`, which may be a property."""
    return issubclass(type(error), kind)


def trace_of(error: BaseException) -> TracebackType | None:
    """Return the traceback that Python recorded for `error`, even if its class overrides that attribute."""
    return cast("TracebackType | None", _TRACEBACK.__get__(error))


def safe_repr(error: BaseException) -> str:
    """`repr(error)`, whatever that does, bounded and free of characters that cannot be encoded."""
    try:
        return safe_text(repr(error), MAX_TEXT)
    except BaseException:  # noqa: BLE001 - user code, and it may raise anything
        return f"<{type_name(error)} whose repr() raises>"


def type_name(error: BaseException) -> str:
    """Qualified name of the type of `error`; built-in ones go without a module."""
    try:
        # Bypass the class attributes, which a metaclass may compute. A class may lack or replace its module.
        name, module = (str.__str__(part.__get__(type(error))) for part in (_QUALNAME, _MODULE))
    except (AttributeError, TypeError):
        return "BaseException"
    return safe_text(name if module == "builtins" else f"{module}.{name}", MAX_TEXT)


def traceback_text(error: BaseException) -> str | None:
    """The traceback of `error` from the task's own frames on; of a very long one the end. None when it has no text."""
    try:
        lines = traceback.format_exception(type(error), error, skip_own_frames(trace_of(error)))
        text = "".join(lines)
    except BaseException:  # noqa: BLE001 - formatting calls user code (__str__, __notes__, a loader's get_source)
        return None
    if len(text) > MAX_TRACEBACK:
        text = "[…]\n" + text[-MAX_TRACEBACK:]
    return safe_text(text, MAX_TRACEBACK + 4)


def place(error: BaseException) -> str:
    """Where in the task's own function `error` came up, as ` at file:line`; empty when it did not get there."""
    trace = skip_own_frames(trace_of(error))
    return f" at {str.__str__(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}" if trace is not None else ""


def skip_own_frames(trace: TracebackType | None) -> TracebackType | None:
    """`trace` without the leading frames of this package."""
    while trace is not None and _is_own(trace.tb_frame):
        trace = trace.tb_next
    return trace


def safe_text(text: str, limit: int) -> str:
    """`text` in at most `limit` characters, each of which has an encoding: a lone surrogate would fail a whole batch."""
    text = str.__str__(text)  # make it a plain str: the methods of a subclass may be user code
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _again(slot: int, error: BaseException, delay_ms: int) -> Outcome:
    return (slot, RETRY, None, delay_ms, type_name(error), None)


def _failed(slot: int, text: str, error: BaseException, policy: Policy) -> Outcome:
    return (slot, FAILURE, text, policy.result_ttl_ms, type_name(error), traceback_text(error))


def _safe_str(error: BaseException) -> str:
    try:
        return str.__str__(str(error)) or type_name(error)
    except BaseException:  # noqa: BLE001 - user code, and it may raise anything
        return type_name(error)


def _is_own(frame: FrameType) -> bool:
    package: object = dict[str, Any].get(frame.f_globals, "__package__")  # of any type, in any kind of dictionary
    return type(package) is str and package == __package__
