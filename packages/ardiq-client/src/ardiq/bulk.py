"""Divides the calls of `enqueue_many` into requests."""

# pyright: reportPrivateUsage=false
# The modules of this package are one unit: `_` keeps a name from users.

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, cast

from ardiq.checks import kind_of
from ardiq.dispatch import Prepared

if TYPE_CHECKING:
    from ardiq.app import Ardiq
    from ardiq_core.shapes import Submission

CHUNK = 1000
"""How many jobs one request of `enqueue_many` carries."""

CHUNK_BYTES = 1024 * 1024
"""A request with this many bytes of arguments is full.

Large arguments are thus sent while the next ones are encoded.
"""


def chunks_of(app: Ardiq, calls: Iterable[object]) -> Iterator[list[Submission]]:
    """Return the submissions of `calls`, a thousand at a time.

    A list or tuple is checked completely before the first chunk is returned.
    """
    if isinstance(calls, list | tuple):
        return _chunks([_submission_of(app, call) for call in cast("Sequence[object]", calls)])
    return _chunks(_submission_of(app, call) for call in calls)


def _submission_of(app: Ardiq, call: object) -> Submission:
    if not isinstance(call, Prepared):
        raise TypeError(f"enqueue_many accepts what task.prepare(...) returns, not {kind_of(call)}")
    if call._app is not app:
        raise ValueError(
            f"the call of {call._submission[1]!r} was prepared with another app; pass it to that app's enqueue_many"
        )
    return call._submission


def _chunks(submissions: Iterable[Submission]) -> Iterator[list[Submission]]:
    chunk: list[Submission] = []
    room = CHUNK_BYTES
    for submission in submissions:
        chunk.append(submission)
        room -= len(submission[-1])
        if room <= 0 or len(chunk) == CHUNK:
            yield chunk
            chunk, room = [], CHUNK_BYTES
    if chunk:
        yield chunk
