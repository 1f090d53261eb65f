"""The tuples that cross the seam between Python and the engine.

See `_core.pyi` for the methods that use them.

All times are epoch milliseconds by the Redis clock.
"""

from typing import Any, TypeAlias

Submission: TypeAlias = tuple[
    str | None,  # job id; None: the core generates one
    str,  # task name
    int,  # index of the lane, lowest first
    int,  # delay in ms, 0 = none
    int,  # due time, 0 = none; takes precedence over the delay
    int,  # expiry in ms from the enqueue, 0 = never
    bytes | None,  # digest that identifies a unique job
    dict[str, str] | None,  # headers
    bytes,  # encoded arguments
]

Edge: TypeAlias = tuple[
    int | str,  # the parent: its position among the jobs, or the id of a job of the queue
    int,  # position of the child, which comes after its parents
    str,  # kind: t then, a after, o otherwise, f finally, m member of a join, c member that is collected
    int,  # position of the parent's output in the inputs of the child
]

Plan: TypeAlias = tuple[
    str,  # name of the schedule
    str,  # task name
    str,  # name of the lane
    str | None,  # cron expression
    int,  # period in ms, 0 = there is an expression
    str,  # time zone of the expression
    bool,  # skip an occurrence while the job of the previous one is unfinished
    int,  # ms after which a late occurrence is dropped
    int,  # expiry of a job in ms, 0 = never
    bytes | None,  # digest that identifies a unique job
    dict[str, str] | None,  # headers
    bytes,  # encoded arguments, at most 4 KiB
]

LastJob: TypeAlias = tuple[
    str,  # job id
    int,  # its occurrence
    str,  # state, as in a `JobRecord`
    bool | None,  # success; None if there is no result
    str | None,  # text of a failure
]

Scheduled: TypeAlias = tuple[
    Plan,
    bytes,  # revision
    bool,  # whether it is static
    bool,  # whether it is paused
    int,  # time of the last change
    LastJob | None,  # None if it never fired, or was not asked for
]

Agenda: TypeAlias = tuple[
    bytes,  # revision of the last change of a dynamic schedule, b"" = none
    int,  # Redis time
    list[Scheduled],  # by name
]

Reply: TypeAlias = tuple[int, Any]
"""(request id, answer). The answer is an exception instance if the request failed."""

ResultRecord: TypeAlias = tuple[
    bool,  # success
    bytes | str,  # encoded value of a success, or the text of a failure
    int,  # tries
    int,  # time of the enqueue
    int,  # time of the start, 0 = never started
    int,  # time of the end
    str,  # job id
    str,  # task name
    str,  # worker id
    bool,  # aborted
    str | None,  # error type
    str | None,  # traceback
]

ProgressRecord: TypeAlias = tuple[
    int,  # steps done
    int | None,  # steps in total, if known
    str | None,  # message
    int,  # time of the report
]

EventRecord: TypeAlias = tuple[
    str,  # state: queued, scheduled, running, complete or not_found
    int,  # tries, including the current one
    ProgressRecord | None,  # last progress
    ResultRecord | None,  # result, if the job has ended with one
    bool,  # whether this is the last event
]

JobRecord: TypeAlias = tuple[
    str,  # job id
    str,  # state: queued, scheduled, running, complete or not_found
    str,  # task name, "" if the job is complete or was not found
    bytes | None,  # encoded arguments; None if they cannot be read
    int,  # time of the enqueue
    int,  # tries, including the current one
    int | None,  # due time, if scheduled
    dict[str, str],  # headers
    str,  # lane
    str | None,  # worker id, if running
    int | None,  # start time when running
    int,  # worker processes that died while they ran it
    int,  # deliveries to workers that did not know its task or could not read its arguments
    list[str],  # ids of up to a hundred jobs that it waits for
    list[str],  # ids of up to a hundred jobs that wait for it
]

Assignment: TypeAlias = tuple[
    int,  # slot: identifies this run; no later run has the same slot
    str,  # job id
    str,  # task name
    bytes,  # encoded arguments
    int,  # tries, including this one
    int,  # time of the enqueue
    dict[str, str] | None,  # headers
    str,  # lane
    # how the arguments are made of the outputs of other jobs, and these: encoded values and
    # results; None if it has none
    tuple[str, list[bytes | ResultRecord]] | None,
]

Outcome: TypeAlias = tuple[
    int,  # slot
    int,  # SUCCESS, FAILURE, RETRY, DEAD, ABORTED, HAND_BACK or UNKNOWN_TASK
    bytes | str | None,  # SUCCESS: encoded value; FAILURE, DEAD, ABORTED: text of the failure
    # SUCCESS, FAILURE, DEAD, ABORTED: result TTL in ms (None: the worker's default; 0: not stored;
    # < 0: never expires); RETRY: delay in ms
    int | None,
    str | None,  # error type
    str | None,  # traceback
]

LogLine: TypeAlias = tuple[
    int,  # level as in `logging`
    str,  # name of the logger below `ardiq`
    str,  # message
    tuple[str, str, int, str] | None,  # the job that it is about: job id, task name, tries, outcome
]

Event: TypeAlias = tuple[str, str]
"""(kind, detail) of an event of a worker.

- `log`: there are new log lines.
- `drained`: in burst mode, no job is waiting, running or scheduled.
- `abort`: runs are to be aborted; `Worker.take_aborts` returns which.
- `lost`: the lease was lost; detail is the old worker id.
- `settling`: the worker is signing off, and a large outcome is still being sent.
- `stopped`: the worker has stopped; detail says why it could not sign off, and is empty if it
  could.
- `failed`: the engine has failed; detail says why.
"""
