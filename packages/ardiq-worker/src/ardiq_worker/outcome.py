"""What a run's end means for its job: pure decisions, no I/O, one function per way to end.

Everything that can fail a job passes through here, so the texts are made safe here too: whatever a task raises, the
outcome is short enough to store and can be encoded, and nothing that the exception itself does can hurt the worker.
"""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Protocol

from ardiq.control import Reject, Retry
from ardiq_core import DEAD, FAILURE, HAND_BACK, RETRY, SUCCESS, UNKNOWN_TASK

if TYPE_CHECKING:
    from types import TracebackType

    from ardiq_core.shapes import Outcome

DEFAULT_BACKOFF_MS = 1000
MAX_BACKOFF_MS = 3_600_000
MAX_DELAY_MS = 2**45
"""About a thousand years: a larger number asked for by a task must not overflow a sum on the server."""

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
    if isinstance(error, Reject) or tries > policy.max_retries:
        return _failed(slot, safe_repr(error), error, policy)
    delay = asked_delay_ms(error) if isinstance(error, Retry) else None
    return _again(slot, error, retry_delay_ms(policy.backoff_ms, tries) if delay is None else delay)


def timed_out(slot: int, error: BaseException | None, tries: int, seconds: float, policy: Policy) -> Outcome:
    """The attempt was cancelled after `seconds`; `error` is how it ended, None while it has not."""
    overrun = TimeoutError(f"timed out after {seconds:g}s")
    if error is not None:
        overrun.__traceback__ = error.__traceback__  # where it was when the time was up
    if tries > policy.max_retries:
        return _failed(slot, str(overrun), overrun, policy)
    return _again(slot, overrun, retry_delay_ms(policy.backoff_ms, tries))


def unserialisable(slot: int, error: BaseException, policy: Policy) -> Outcome:
    """The task returned something that has no encoding: it has run and must not run again."""
    text = safe_text(f"the return value cannot be serialised: {_safe_str(error)}", MAX_TEXT)
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


def asked_delay_ms(error: Retry) -> int | None:
    """The delay that a `Retry` asks for, None when it leaves that to the backoff."""
    delay_ms = error.delay_ms
    return max(0, min(delay_ms, MAX_DELAY_MS)) if isinstance(delay_ms, int) else None


def safe_repr(error: BaseException) -> str:
    """`repr(error)`, whatever that does, bounded and free of characters that cannot be encoded."""
    try:
        return safe_text(repr(error), MAX_TEXT)
    except BaseException:  # noqa: BLE001 - user code, and it may raise anything
        return f"<{type_name(error)} whose repr() raises>"


def type_name(error: BaseException) -> str:
    """Qualified name of the type of `error`; built-in ones go without a module."""
    kind = type(error)
    try:
        name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    except BaseException:  # noqa: BLE001 - a metaclass may compute them
        name = "BaseException"
    return safe_text(name, MAX_TEXT)


def traceback_text(error: BaseException) -> str | None:
    """The traceback of `error` from the task's own frames on; of a very long one the end. None when it has no text."""
    try:
        lines = traceback.format_exception(type(error), error, skip_own_frames(error.__traceback__))
    except BaseException:  # noqa: BLE001 - formatting calls user code (__str__, __notes__, a loader's get_source)
        return None
    text = "".join(lines)
    if len(text) > MAX_TRACEBACK:
        text = "[…]\n" + text[-MAX_TRACEBACK:]
    return safe_text(text, MAX_TRACEBACK + 4)


def place(error: BaseException) -> str:
    """Where in the task's own function `error` came up, as ` at file:line`; empty when it did not get there."""
    trace = skip_own_frames(error.__traceback__)
    return f" at {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else ""


def skip_own_frames(trace: TracebackType | None) -> TracebackType | None:
    """`trace` without the leading frames of this package."""
    while trace is not None and trace.tb_frame.f_globals.get("__package__") == __package__:
        trace = trace.tb_next
    return trace


def safe_text(text: str, limit: int) -> str:
    """`text` in at most `limit` characters, each of which has an encoding: a lone surrogate would fail a whole batch."""
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _again(slot: int, error: BaseException, delay_ms: int) -> Outcome:
    return (slot, RETRY, None, delay_ms, type_name(error), None)


def _failed(slot: int, text: str, error: BaseException, policy: Policy) -> Outcome:
    return (slot, FAILURE, text, policy.result_ttl_ms, type_name(error), traceback_text(error))


def _safe_str(error: BaseException) -> str:
    try:
        return str(error) or type_name(error)
    except BaseException:  # noqa: BLE001 - user code, and it may raise anything
        return type_name(error)
