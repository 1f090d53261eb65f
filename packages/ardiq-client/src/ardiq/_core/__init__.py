"""How the client calls the engine.

| module | what it does |
|---|---|
| `connection` | the link of one app to the engine: one bridge for each event loop and each thread |
| `loop_bridge` | requests and replies of one event loop |
| `event_stream` | the answers to a request that has several |
| `thread_bridge` | requests and replies of one thread without an event loop |
| `wakeup` | wakes an event loop when answers have arrived |
| `logs` | passes the engine's log lines to `logging`; loaded with the first line |

A request is a function that puts one question into a mailbox of the engine, under the request id
that it is passed. The functions below make such requests.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from ardiq.checks import check_abort_timeout_ms, check_choice, check_int, check_job_id
from ardiq.errors import BrokerUnreachableError

if TYPE_CHECKING:
    from datetime import timedelta

    from ardiq_core import Mailbox
    from ardiq_core.shapes import Edge, Plan, Submission

T = TypeVar("T")

STATES = ("queued", "scheduled", "running", "dead")
"""The states of jobs that can be listed."""

AHEAD = 3
"""How many requests may be in flight behind the one whose answer is awaited.

While Redis works on one, the next one is prepared.
"""

LOGS = -1
"""The id under which the engine's log lines arrive between the answers."""

CLOSED = (
    "the app's connection was closed while the call was waiting. If the process is not exiting, create a new app and "
    "try again"
)
"""The message of the error for calls that wait when the connection is closed."""

Request = Callable[["Mailbox", int], None]
"""Sends one request; the arguments are the mailbox for the answer and the request id."""


def add_hint(error: BaseException, hint: str) -> None:
    """Add to an error about an unreachable server what else the reader can do."""
    if hint and isinstance(error, BrokerUnreachableError):
        error.args = (f"{error}. {hint}",)


def enqueue(submissions: list[Submission]) -> Request:
    """Enqueue jobs.

    Answer: their ids, or a tuple with an exception for each that was not accepted.
    """
    return lambda mailbox, request_id: mailbox.enqueue(request_id, submissions)


def link(jobs: list[tuple[Submission, str | None]], edges: list[Edge]) -> Request:
    """Enqueue jobs that depend on each other. Answer: their ids."""
    return lambda mailbox, request_id: mailbox.link(request_id, jobs, edges)


def result(job_id: str, timeout_ms: int | None) -> Request:
    """Read the result of a job, or wait for it. Answer: a ResultRecord or None."""
    return lambda mailbox, request_id: mailbox.result(request_id, job_id, timeout_ms)


def abort(job_id: str, timeout: float | timedelta) -> Request:
    """Abort a job, and wait until it has ended. Answer: 1 if it has ended as aborted, else 0.

    Raises InvalidIdError, ValueError or TypeError.
    """
    check_job_id(job_id)
    timeout_ms = check_abort_timeout_ms(timeout)
    return lambda mailbox, request_id: mailbox.abort(request_id, job_id, timeout_ms)


def progress(job_id: str) -> Request:
    """Read the progress of a job. Answer: a ProgressRecord or None."""
    return lambda mailbox, request_id: mailbox.progress(request_id, job_id)


def follow(job_id: str) -> Request:
    """Follow a job. Several answers, each an EventRecord, up to the last one."""
    return lambda mailbox, request_id: mailbox.follow(request_id, job_id)


def lookup(job_id: str) -> Request:
    """Look a job up. Answer: a list of one JobRecord."""
    return lambda mailbox, request_id: mailbox.lookup(request_id, [job_id])


def jobs(state: str, limit: int) -> Request:
    """List jobs in one state.

    Answer: JobRecords; for dead letters, each with its reason. Raises ValueError or TypeError.
    """
    check_choice("state", state, STATES)
    check_int("limit", limit, 1, 1_000_000)
    return lambda mailbox, request_id: mailbox.jobs(request_id, state, limit)


def schedule(plan: Plan) -> Request:
    """Create or replace a dynamic schedule. Answer: 1, or 0 if the name belongs to a static one."""
    return lambda mailbox, request_id: mailbox.schedule(request_id, plan)


def unschedule(name: str) -> Request:
    """Remove a schedule. Answer: 1; 0 if there is none with this name; -1 if it is in the code."""
    return lambda mailbox, request_id: mailbox.unschedule(request_id, name)


def pause(name: str, pauses: bool) -> Request:
    """Pause or resume a schedule. Answer: 1, or 0 if there is none with this name."""
    return lambda mailbox, request_id: mailbox.pause(request_id, name, pauses)


def fire_now(name: str) -> Request:
    """Enqueue a job of a schedule. Answer: its id in a list, which is empty if there is none."""
    return lambda mailbox, request_id: mailbox.fire_now(request_id, name)


def schedules(name: str | None) -> Request:
    """Read all schedules, or one. Answer: an Agenda."""
    return lambda mailbox, request_id: mailbox.schedules(request_id, name)


def depth(mailbox: Mailbox, request_id: int) -> None:
    """Count the jobs that wait to start."""
    mailbox.depth(request_id)


def inspect(mailbox: Mailbox, request_id: int) -> None:
    """Read the state of the queue."""
    mailbox.inspect(request_id)


def queues(mailbox: Mailbox, request_id: int) -> None:
    """List the names of all queues."""
    mailbox.queues(request_id)


def in_order(
    requests: Iterable[Request], send: Callable[[Request], T], give_up: Callable[[T], object]
) -> Generator[T, Any, list[Any]]:
    """Send requests, up to `AHEAD` of them behind the oldest in flight, and return the answers in
    order.

    The generator yields what `send` returned for the oldest request in flight, and expects its
    answer to be sent in. However it ends, `give_up` is called for each request whose answer has not
    been taken.
    """
    answers: list[Any] = []
    in_flight: deque[T] = deque()
    try:
        for request in requests:
            in_flight.append(send(request))
            if len(in_flight) > AHEAD:
                answers.append((yield in_flight[0]))
                in_flight.popleft()
        while in_flight:
            answers.append((yield in_flight[0]))
            in_flight.popleft()
    finally:
        for sent in in_flight:
            give_up(sent)
    return answers
