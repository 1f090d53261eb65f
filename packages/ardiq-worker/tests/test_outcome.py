"""All ways in which a run can end, and what happens to its job."""

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ardiq.control import Reject, Retry
from ardiq.errors import SerializationError
from ardiq_core import DEAD, FAILURE, HAND_BACK, RETRY, SUCCESS, UNKNOWN_TASK
from ardiq_worker import outcome
from ardiq_worker.description import MAX_TEXT


@dataclass(frozen=True)
class Options:
    max_retries: int = 3
    backoff_ms: int = 0
    result_ttl_ms: int | None = None


@dataclass(frozen=True)
class Attempt:
    """The facts about a run that the decisions depend on."""

    task: Options
    tries: int = 1
    slot: int = 1


def attempt(tries: int = 1, *, slot: int = 1, **options: Any) -> Attempt:
    return Attempt(Options(**options), tries, slot)


def caught(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as raised:  # noqa: BLE001 - any, and it is what is looked at
        return raised


def test_a_value_is_a_success_with_the_ttl_of_the_task() -> None:
    assert outcome.returned(attempt(slot=7), b"v") == (7, SUCCESS, b"v", None, None, None)
    assert outcome.returned(attempt(slot=7, result_ttl_ms=0), b"v") == (7, SUCCESS, b"v", 0, None, None)
    assert outcome.returned(attempt(slot=7, result_ttl_ms=-1), b"v") == (7, SUCCESS, b"v", -1, None, None)


@pytest.mark.parametrize(
    ("backoff_ms", "tries", "delay_ms"),
    [
        (0, 1, 1_000),
        (0, 2, 4_000),
        (0, 3, 9_000),
        (0, 59, 3_481_000),
        (0, 60, 3_600_000),
        (0, 61, 3_600_000),
        (1, 1, 1),
        (1, 3, 9),
        (250, 2, 1_000),
        (2_000, 1, 2_000),
        (5_000_000, 1, 3_600_000),
    ],
)
def test_the_delay_is_the_base_times_the_square_of_the_attempt_up_to_an_hour(
    backoff_ms: int, tries: int, delay_ms: int
) -> None:
    options = Options(max_retries=1_000, backoff_ms=backoff_ms)
    assert outcome.raised(Attempt(options, tries), caught(ValueError())) == (
        1,
        RETRY,
        None,
        delay_ms,
        "ValueError",
        None,
    )


@settings(deadline=None)
@given(st.integers(0, 10**9), st.integers(1, 10**6))
def test_the_delay_is_never_zero_nor_more_than_an_hour(backoff_ms: int, tries: int) -> None:
    assert 0 < outcome.retry_delay_ms(backoff_ms, tries) <= 3_600_000


@pytest.mark.parametrize("max_retries", [0, 1, 3])
def test_it_retries_while_tries_do_not_exceed_max_retries(max_retries: int) -> None:
    options = Options(max_retries=max_retries)
    kinds = [outcome.raised(Attempt(options, tries), caught(ValueError())).kind for tries in range(1, max_retries + 3)]
    assert kinds == [RETRY] * max_retries + [FAILURE, FAILURE]


def test_the_last_failure_has_repr_type_traceback_and_ttl() -> None:
    slot, kind, text, ttl_ms, error_type, trace = outcome.raised(
        attempt(slot=4, max_retries=0, result_ttl_ms=9), caught(KeyError("k"))
    )
    assert (slot, kind, text, ttl_ms, error_type) == (4, FAILURE, "KeyError('k')", 9, "KeyError")
    assert trace is not None
    assert "in caught" in trace
    assert trace.endswith("KeyError: 'k'\n")


def test_a_type_that_is_not_built_in_is_named_with_its_module() -> None:
    failed = outcome.raised(attempt(max_retries=0), caught(asyncio.QueueFull()))
    assert failed.error_type == "asyncio.queues.QueueFull"


@pytest.mark.parametrize("asked", [0, 1, 90_000, 7_200_000])
def test_retry_asks_for_its_own_delay(asked: int) -> None:
    again = outcome.raised(attempt(2, backoff_ms=50), caught(Retry("later", delay_ms=asked)))
    assert (again.kind, again.value, again.ttl_or_delay_ms) == (RETRY, None, asked)


def test_retry_without_a_delay_takes_the_backoff() -> None:
    assert outcome.raised(attempt(2, backoff_ms=50), caught(Retry())) == (
        1,
        RETRY,
        None,
        200,
        "ardiq.control.Retry",
        None,
    )


def test_retry_spends_the_same_budget() -> None:
    failed = outcome.raised(attempt(4, max_retries=3), caught(Retry("again", delay_ms=0)))
    assert (failed.kind, failed.value) == (FAILURE, "Retry('again')")


def test_reject_fails_at_once() -> None:
    failed = outcome.raised(attempt(max_retries=9), caught(Reject("no such customer")))
    assert (failed.kind, failed.value) == (FAILURE, "Reject('no such customer')")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (10, "timed out after 10s"),
        (10.0, "timed out after 10s"),
        (0.25, "timed out after 0.25s"),
        (1_000_000, "timed out after 1e+06s"),
        (90.5, "timed out after 90.5s"),
    ],
)
def test_a_timeout_says_how_long(seconds: float, text: str) -> None:
    failed = outcome.timed_out(attempt(max_retries=0), caught(asyncio.CancelledError()), seconds)
    assert (failed.kind, failed.value) == (FAILURE, text)
    assert failed.error_type == "TimeoutError"
    assert failed.traceback is not None
    assert "in caught" in failed.traceback, "shows where the task was"


def test_a_timeout_is_retried_like_any_failure() -> None:
    assert outcome.timed_out(attempt(2, max_retries=2), None, 10) == (1, RETRY, None, 4_000, "TimeoutError", None)
    failed = outcome.timed_out(attempt(3, max_retries=2), None, 10)
    assert (failed.kind, failed.value) == (FAILURE, "timed out after 10s")


def test_the_tasks_own_timeout_error_is_reported_as_itself() -> None:
    failed = outcome.raised(attempt(max_retries=0), caught(TimeoutError("the bank")))
    assert failed.value == "TimeoutError('the bank')"


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), SystemExit(3), RecursionError("deep"), GeneratorExit(), asyncio.CancelledError()]
)
def test_what_usually_ends_a_program_is_a_failed_attempt(error: BaseException) -> None:
    assert outcome.raised(attempt(), caught(error)).kind == RETRY
    failed = outcome.raised(attempt(4), caught(error))
    assert (failed.kind, failed.value) == (FAILURE, repr(error))


def test_a_value_without_an_encoding_is_a_failure_that_never_runs_again() -> None:
    failed = outcome.unserializable(attempt(max_retries=9), caught(SerializationError("cannot carry socket")))
    assert failed == (
        1,
        FAILURE,
        "the return value cannot be serialized: cannot carry socket",
        None,
        "ardiq.errors.SerializationError",
        None,
    )


def test_arguments_that_cannot_be_decoded_make_a_dead_letter() -> None:
    dead = outcome.undecodable(attempt(), caught(SerializationError("garbage")))
    assert (dead.kind, dead.value) == (DEAD, "the arguments cannot be decoded: garbage")


def test_the_engine_decides_about_unknown_names_and_returned_jobs() -> None:
    assert outcome.unknown_task(5) == (5, UNKNOWN_TASK, None, None, None, None)
    assert outcome.handed_back(5) == (5, HAND_BACK, None, None, None, None)


class Hostile(Exception):
    def __repr__(self) -> str:
        raise KeyboardInterrupt

    def __str__(self) -> str:
        raise SystemExit


class Numeric(Exception):
    def __repr__(self) -> str:
        return 3  # type: ignore[return-value]


@pytest.mark.parametrize("kind", [Hostile, Numeric])
def test_an_exception_with_a_broken_repr_is_named_by_its_type(kind: type[Exception]) -> None:
    failed = outcome.raised(attempt(max_retries=0), caught(kind()))
    assert failed.kind == FAILURE
    assert kind.__name__ in str(failed.value)
    assert "repr() raises" in str(failed.value)


def test_a_broken_str_hurts_no_other_outcome() -> None:
    assert "Hostile" in str(outcome.unserializable(attempt(), caught(Hostile())).value)
    assert "Hostile" in str(outcome.undecodable(attempt(), caught(Hostile())).value)


def test_every_text_can_be_encoded() -> None:
    failed = outcome.raised(attempt(max_retries=0), caught(ValueError("\ud800")))
    for text in failed.value, failed.error_type, failed.traceback:
        assert isinstance(text, str)
        text.encode("utf-8")


def test_texts_are_bounded() -> None:
    def deep(n: int) -> None:
        if n:
            deeper(n - 1)
        raise ValueError("x" * 1_000_000)

    def deeper(n: int) -> None:  # two functions in turn: repeated lines are not folded
        deep(n)

    with pytest.raises(ValueError) as raised:
        deep(300)
    failed = outcome.raised(attempt(max_retries=0), raised.value)
    text, trace = failed.value, failed.traceback
    assert isinstance(text, str)
    assert len(text) == MAX_TEXT
    assert trace is not None
    assert len(trace) <= outcome.MAX_TRACEBACK + 4


@settings(deadline=None)
@given(st.text(alphabet=st.characters()), st.integers(1, 20))
def test_safe_text_keeps_what_it_can(text: str, limit: int) -> None:
    safe = outcome.safe_text(text, limit)
    safe.encode("utf-8")
    if len(text) <= limit and max(text, default="a") < "\ud800":
        assert safe == text
