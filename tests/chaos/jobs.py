"""The app of the run's workers, for `ardiq run tests.chaos.jobs:app`.

Every task notes its start and its end.
"""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ardiq import Ardiq, Retry, current_task
from tests.chaos.journal import Journal
from tests.chaos.settings import Settings

PULSE_S = 0.05

_settings = Settings.of_this_process()
_journal = Journal(_settings.journal)
app = Ardiq(_settings.url, _settings.queue, _settings.lanes, **_settings.options)


class Again(Exception):
    """The task asks for another attempt."""


@contextmanager
def noted() -> Iterator[int]:
    """Note the run of the calling task; return the number of its try."""
    run = current_task()
    assert run is not None
    worker = app.worker_id
    _journal.note("start", run.task_id, run.tries, worker)
    try:
        yield run.tries
    except (Again, Retry):
        _journal.note("raise", run.task_id, run.tries, worker)
        raise
    except asyncio.CancelledError:
        _journal.note("cancelled", run.task_id, run.tries, worker)
        raise
    _journal.note("end", run.task_id, run.tries, worker)


@app.task
async def echo(value: int) -> int:
    with noted():
        return value


@app.task
async def nap(value: int, seconds: float) -> int:
    with noted():
        await asyncio.sleep(seconds)
        return value


@app.task
def thread(value: int, seconds: float) -> int:
    with noted():
        time.sleep(seconds)
        return value


@app.task
async def block(value: int, seconds: float) -> int:
    """Block the event loop."""
    with noted():
        time.sleep(seconds)  # noqa: ASYNC251 - that is the fault
        return value


@app.task(max_retries=100)
async def flaky(value: int, how: str) -> int:
    with noted() as tries:
        if tries == 1:
            raise Retry(delay_ms=0) if how == "retry" else Again(how)
        return value


@app.task
async def large(value: int, data: bytes) -> dict[str, int | bytes]:
    with noted():
        return {"value": value, "data": data[::-1]}


def _pulse() -> None:
    """Note each time in which this process did not run: it was frozen, or the machine had no time
    for it.
    """
    last = time.monotonic()
    while True:
        time.sleep(PULSE_S)
        now = time.monotonic()
        if now - last > _settings.lease_s / 4:
            _journal.note("stall", began=last, ended=now)
        last = now


threading.Thread(target=_pulse, name="pulse", daemon=True).start()
