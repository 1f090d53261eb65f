"""Names that anyone can invent are not kept forever."""

import sys
import time

from ardiq_core import HAND_BACK, Core, Worker
from tests.servers import Server

LIMIT_S = 30


def test_made_up_names_of_tasks_are_not_kept(server: Server, queue_name: str) -> None:
    core = Core(url=server.url, queue=queue_name, lanes=["default"])
    mailbox = core.mailbox()
    names = [f"name-{number}" for number in range(1500)]
    mailbox.enqueue(1, [(None, name, 0, 0, 0, 0, None, None, b"call") for name in [*names, names[0]]])
    assert mailbox.block(LIMIT_S * 1000)
    worker = Worker(
        core, worker_id="here:1:a", concurrency=2000, prefetch=2000, lease_ms=60_000, result_ttl_ms=0, burst=False
    )
    worker.start()
    slots: list[int] = []
    taken: list[str] = []
    end = time.monotonic() + LIMIT_S
    while len(taken) <= len(names):
        assert time.monotonic() < end
        if (one := worker.next()) is not None:
            slot, _, name, *_ = one
            slots.append(slot)
            taken.append(name)
    assert taken == [*names, names[0]]
    for name in taken[:10]:
        copy = "".join(name)
        copy = f"{copy[:3]}{copy[3:]}"
        assert copy is not name
        # An interned string would come instead of the copy.
        assert sys.intern(copy) is copy
    # Names of tasks in use are shared, and the number of shared names is limited.
    assert taken[-1] is not taken[0]
    worker.complete([(slot, HAND_BACK, None, None, None, None) for slot in slots])
    worker.begin_stop()
    worker.finish_stop()
    core.close()
