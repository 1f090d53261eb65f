"""Finds out which jobs ran in a worker process that has died: `python -m ardiq_cli.post_mortem`.

The supervisor starts it as a separate process, because the supervisor has neither the client in
memory nor a connection. The question arrives on standard input, since a URL may contain a password:
JSON with `url`, `queue` and `worker`. The answer is JSON on standard output.
"""

import asyncio
import json
import sys
from collections.abc import Mapping

LIMIT_S = 10.0
"""How long the answer may take."""

_MOST_JOBS = 500
"""How many running jobs of the queue to search."""

_NAMED = 10


async def describe_jobs(serves: Mapping[str, str]) -> str | None:
    """Return a sentence about the jobs that ran in the worker process described by `serves`; None
    if there were none.

    Also returns None if that cannot be found out in time.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "ardiq_cli.post_mortem"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        process_group=0,  # Ctrl-C is for the supervisor
    )
    try:
        async with asyncio.timeout(LIMIT_S):
            answer, _ = await process.communicate(json.dumps(dict(serves)).encode())
    except TimeoutError:
        return None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return json.loads(answer) if answer else None


async def _examine(url: str, queue: str, worker: str) -> str | None:
    from ardiq.printable import printable
    from ardiq_cli.target import open_queue

    app = open_queue(url, queue, connect_timeout_s=LIMIT_S / 2)
    # After a lost lease, a worker continues under its id with a number.
    ran = [
        f"{printable(job.fn_name)}[{printable(job.task_id)}]"
        for job in await app.jobs("running", _MOST_JOBS)
        if job.worker_id == worker or (job.worker_id or "").startswith(f"{worker}~")
    ]
    if not ran:
        return None
    state = await app.inspect()
    left_ms = [one["lease_left_ms"] for one in state["workers"] if one["id"].partition("~")[0] == worker]
    named = ", ".join(ran[:_NAMED]) + (f" and {len(ran) - _NAMED} more" if len(ran) > _NAMED else "")
    when = f", in {max(0, *left_ms) / 1000:.0f} s" if left_ms else ""
    return (
        f"{'1 job' if len(ran) == 1 else f'{len(ran)} jobs'} ran in it: {named}. Other workers take over when its lease "
        f"expires{when}. To look at them: ardiq inspect jobs --queue {queue} --state running"
    )


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_examine(**json.load(sys.stdin)))))
