"""Every way that a run can end, and what becomes of its job."""

import asyncio
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ardiq.control import Reject, Retry
from ardiq.errors import SerializationError
from ardiq_core import DEAD, FAILURE, HAND_BACK, RETRY, SUCCESS, UNKNOWN_TASK
from ardiq_worker import outcome


@dataclass(frozen=True)
class Options:
    max_retries: int = 3
    backoff_ms: int = 0
    result_ttl_ms: int | None = None


def caught(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as raised:  # noqa: BLE001 - any, and it is what is looked at
        return raised


def test_a_value_is_a_success_with_the_ttl_of_the_task() -> None:
    assert outcome.returned(7, b"v", Options()) == (7, SUCCESS, b"v", None, None, None)
    assert outcome.returned(7, b"v", Options(result_ttl_ms=0)) == (7, SUCCESS, b"v", 0, None, None)
    assert outcome.returned(7, b"v", Options(result_ttl_ms=-1)) == (7, SUCCESS, b"v", -1, None, None)


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
    assert outcome.raised(1, caught(ValueError()), tries, options) == (1, RETRY, None, delay_ms, "ValueError", None)


@settings(deadline=None)
@given(st.integers(0, 10**9), st.integers(1, 10**6))
def test_the_delay_is_never_zero_nor_more_than_an_hour(backoff_ms: int, tries: int) -> None:
    assert 0 < outcome.retry_delay_ms(backoff_ms, tries) <= 3_600_000


@pytest.mark.parametrize("max_retries", [0, 1, 3])
def test_it_retries_while_tries_do_not_exceed_max_retries(max_retries: int) -> None:
    options = Options(max_retries=max_retries)
    kinds = [outcome.raised(1, caught(ValueError()), tries, options)[1] for tries in range(1, max_retries + 3)]
    assert kinds == [RETRY] * max_retries + [FAILURE, FAILURE]


def test_the_last_failure_has_repr_type_traceback_and_ttl() -> None:
    slot, kind, text, ttl_ms, error_type, trace = outcome.raised(
        4, caught(KeyError("k")), 1, Options(max_retries=0, result_ttl_ms=9)
    )
    assert (slot, kind, text, ttl_ms, error_type) == (4, FAILURE, "KeyError('k')", 9, "KeyError")
    assert trace is not None
    assert "in caught" in trace
    assert trace.endswith("KeyError: 'k'\n")


def test_a_type_that_is_not_built_in_is_named_with_its_module() -> None:
    failed = outcome.raised(1, caught(asyncio.QueueFull()), 1, Options(max_retries=0))
    assert failed[4] == "asyncio.queues.QueueFull"


@pytest.mark.parametrize("asked", [0, 1, 90_000, 7_200_000])
def test_retry_asks_for_its_own_delay(asked: int) -> None:
    again = outcome.raised(1, caught(Retry("later", delay_ms=asked)), 2, Options(backoff_ms=50))
    assert again[1:4] == (RETRY, None, asked)


def test_retry_without_a_delay_takes_the_backoff() -> None:
    assert outcome.raised(1, caught(Retry()), 2, Options(backoff_ms=50))[1:4] == (RETRY, None, 200)


def test_retry_spends_the_same_budget() -> None:
    failed = outcome.raised(1, caught(Retry("again", delay_ms=0)), 4, Options(max_retries=3))
    assert failed[1:3] == (FAILURE, "Retry('again')")


def test_reject_fails_at_once() -> None:
    failed = outcome.raised(1, caught(Reject("no such customer")), 1, Options(max_retries=9))
    assert failed[1:3] == (FAILURE, "Reject('no such customer')")


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
    failed = outcome.timed_out(1, caught(asyncio.CancelledError()), 1, seconds, Options(max_retries=0))
    assert failed[1:3] == (FAILURE, text)
    assert failed[4] == "TimeoutError"
    assert failed[5] is not None
    assert "in caught" in failed[5], "shows where the task was"


def test_a_timeout_is_retried_like_any_failure() -> None:
    assert outcome.timed_out(1, None, 2, 10, Options(max_retries=2)) == (1, RETRY, None, 4_000, "TimeoutError", None)
    assert outcome.timed_out(1, None, 3, 10, Options(max_retries=2))[1:3] == (FAILURE, "timed out after 10s")


def test_the_tasks_own_timeout_error_is_reported_as_itself() -> None:
    failed = outcome.raised(1, caught(TimeoutError("the bank")), 1, Options(max_retries=0))
    assert failed[2] == "TimeoutError('the bank')"


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), SystemExit(3), RecursionError("deep"), GeneratorExit(), asyncio.CancelledError()]
)
def test_what_usually_ends_a_program_is_a_failed_attempt(error: BaseException) -> None:
    assert outcome.raised(1, caught(error), 1, Options())[1] == RETRY
    assert outcome.raised(1, caught(error), 4, Options())[1:3] == (FAILURE, repr(error))


def test_a_value_without_an_encoding_is_a_failure_that_never_runs_again() -> None:
    failed = outcome.unserialisable(1, caught(SerializationError("cannot carry socket")), Options(max_retries=9))
    assert failed == (
        1,
        FAILURE,
        "the return value cannot be serialized: cannot carry socket",
        None,
        "ardiq.errors.SerializationError",
        None,
    )


def test_arguments_that_cannot_be_decoded_make_a_dead_letter() -> None:
    dead = outcome.undecodable(1, caught(SerializationError("garbage")), Options())
    assert dead[1:3] == (DEAD, "the arguments cannot be decoded: garbage")


def test_the_engine_decides_about_unknown_names_and_jobs_handed_back() -> None:
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
    failed = outcome.raised(1, caught(kind()), 1, Options(max_retries=0))
    assert failed[1] == FAILURE
    assert kind.__name__ in str(failed[2])
    assert "repr() raises" in str(failed[2])


def test_a_broken_str_hurts_no_other_outcome() -> None:
    assert "Hostile" in str(outcome.unserialisable(1, caught(Hostile()), Options())[2])
    assert "Hostile" in str(outcome.undecodable(1, caught(Hostile()), Options())[2])


def test_every_text_can_be_encoded() -> None:
    failed = outcome.raised(1, caught(ValueError("\ud800")), 1, Options(max_retries=0))
    for text in failed[2], failed[4], failed[5]:
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
    failed = outcome.raised(1, raised.value, 1, Options(max_retries=0))
    text, trace = failed[2], failed[5]
    assert isinstance(text, str)
    assert len(text) == outcome.MAX_TEXT
    assert trace is not None
    assert len(trace) <= outcome.MAX_TRACEBACK + 4


@settings(deadline=None)
@given(st.text(alphabet=st.characters()), st.integers(1, 20))
def test_safe_text_keeps_what_it_can(text: str, limit: int) -> None:
    safe = outcome.safe_text(text, limit)
    safe.encode("utf-8")
    if len(text) <= limit and max(text, default="a") < "\ud800":
        assert safe == text
