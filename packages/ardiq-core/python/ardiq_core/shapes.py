"""The shapes that cross the seam between Python and the engine, as tuples: see `_core.pyi` for who gives and takes them."""

from typing import Any, TypeAlias

Submission: TypeAlias = tuple[
    str | None,  # job id; None: the core makes one
    str,  # task name
    int,  # index of the lane, lowest first
    int,  # delay in ms, 0 = none
    int,  # absolute due time in epoch ms, 0 = none; wins over the delay
    int,  # expire in ms from enqueue, 0 = never
    bytes | None,  # identity digest of a unique job
    dict[str, str] | None,  # headers
    bytes,  # encoded arguments
]

Event: TypeAlias = tuple[int, Any]
"""(ticket, answer); the answer is an exception instance when the request failed."""

ResultRecord: TypeAlias = tuple[
    bool,  # success
    bytes | str,  # encoded value of a success, or the text of a failure
    int,  # tries
    int,  # enqueue time
    int,  # start time, 0 = never started
    int,  # finish time
    str,  # job id
    str,  # task name
    str,  # worker id
    bool,  # aborted
    str | None,  # error type
    str | None,  # traceback
]

JobRecord: TypeAlias = tuple[
    str,  # job id
    str,  # status: queued, scheduled, running, complete, not_found
    str,  # task name ("" when complete or not found)
    bytes,  # encoded arguments
    int,  # enqueue time
    int,  # tries, the running one included
    int | None,  # due time when scheduled
    dict[str, str],  # headers
    str,  # lane
    str | None,  # worker id when running
]

Assignment: TypeAlias = tuple[
    int,  # slot: names this run in `Worker.complete`
    str,  # job id
    str,  # task name
    bytes,  # encoded arguments
    int,  # tries, this one included
    int,  # enqueue time
    dict[str, str] | None,  # headers
    str,  # lane
]

Outcome: TypeAlias = tuple[
    int,  # slot
    int,  # SUCCESS, FAILURE, RETRY, DEAD, HAND_BACK or UNKNOWN_TASK
    bytes | str | None,  # SUCCESS: encoded value; FAILURE, DEAD: text of the failure
    # SUCCESS, FAILURE, DEAD: result TTL in ms (None: the worker's default, 0: not stored, <0: for ever); RETRY: delay in ms
    int | None,
    str | None,  # error type
    str | None,  # traceback
]

Notice: TypeAlias = tuple[str, str]
"""(kind, detail): `log`, `drained` (burst: nothing waits, runs or is due), `lost` (lease lost, detail = old worker id),
`stopped` (the worker has ended; detail says why it could not sign off, and is empty when it has),
`failed` (the engine gave up; detail says why)."""
