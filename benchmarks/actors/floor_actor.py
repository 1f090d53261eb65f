"""The floor: what a batch worker in a hundred lines of Python gets out of the same machine.

It deduplicates, checks the owner and stores results, and has no lanes, delays, retries or leases. A queue with all of
those, whose Redis traffic stays off the interpreter, should not be slower.
"""

import asyncio
import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import msgpack
import redis
from probe import ran

BATCH = 200
KEEP_MS = 300_000

ADD = """
for n = 1, #ARGV, 2 do
  if redis.call('HSETNX', KEYS[2] .. ARGV[n], 'call', ARGV[n + 1]) == 1 then
    redis.call('XADD', KEYS[1], '*', 'id', ARGV[n])
  end
end
"""

TURN = """
local done, owned = {}, {}
for n = 4, #ARGV, 3 do
  local key = KEYS[2] .. ARGV[n + 1]
  if redis.call('HGET', key, 'owner') == ARGV[1] then
    done[#done + 1], owned[#owned + 1] = ARGV[n], key
    redis.call('SET', KEYS[3] .. ARGV[n + 1], ARGV[n + 2], 'PX', ARGV[3])
  end
end
if #done > 0 then
  redis.call('XACK', KEYS[1], 'workers', unpack(done))
  redis.call('XDEL', KEYS[1], unpack(done))
  redis.call('DEL', unpack(owned))
end
local found = redis.call('XREADGROUP', 'GROUP', 'workers', ARGV[1], 'COUNT', ARGV[2], 'STREAMS', KEYS[1], '>')
local jobs = {}
for _, entry in ipairs(found and found[1][2] or {}) do
  local key = KEYS[2] .. entry[2][2]
  jobs[#jobs + 1] = { entry[1], entry[2][2], redis.call('HGET', key, 'call') }
  redis.call('HSET', key, 'owner', ARGV[1])
end
return jobs
"""

KEYS = ("{floor}:stream", "{floor}:job:", "{floor}:result:")


async def noop(payload: bytes | None = None) -> None:
    ran()


class Actor:
    def __init__(self, url: str, concurrency: int) -> None:
        self.server = redis.Redis.from_url(url)
        self.add, self.turn = self.server.register_script(ADD), self.server.register_script(TURN)
        with suppress(redis.ResponseError):  # it is there already
            self.server.xgroup_create(KEYS[0], "workers", id="0", mkstream=True)

    async def __aenter__(self) -> "Actor":
        return self

    async def __aexit__(self, *exception: object) -> None: ...

    async def bulk(self, task: str, payloads: Sequence[bytes | None]) -> None:
        for first in range(0, len(payloads), 1000):
            arguments: list[bytes] = []
            for one in payloads[first : first + 1000]:
                arguments += [os.urandom(16).hex().encode(), msgpack.packb([task, [] if one is None else [one], {}])]
            self.add(keys=KEYS, args=arguments)

    async def work(self) -> None:
        loop = asyncio.get_running_loop()
        outcomes: list[bytes] = []
        jobs: list[list[bytes]] = []

        async def run(entry: bytes, job_id: bytes, call: bytes) -> None:
            _, args, kwargs = msgpack.unpackb(call)
            value: Any = await noop(*args, **kwargs)
            outcomes.extend((entry, job_id, msgpack.packb([True, value, 1])))

        while True:
            arguments = [b"worker", BATCH, KEEP_MS, *outcomes]
            outcomes.clear()
            next_turn = loop.run_in_executor(None, lambda args=arguments: self.turn(keys=KEYS, args=args))
            running = [loop.create_task(run(*job)) for job in jobs]
            jobs = await next_turn
            while len(outcomes) < 3 * len(running):  # noqa: ASYNC110 - an event for each job would cost more than the job
                await asyncio.sleep(0)
            if not jobs and not outcomes:
                await asyncio.sleep(0.1)
