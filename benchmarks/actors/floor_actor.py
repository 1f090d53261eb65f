"""The floor: what a batch worker in a hundred lines of Python achieves on the same machine.

It deduplicates, checks the owner and stores results, and has no lanes, delays, retries or leases. A
queue with all of those, whose Redis traffic stays off the interpreter, should not be slower. It
does nothing twice and keeps nothing longer than needed. It uses flat replies of the older protocol,
which the client reads fastest, and sends outcomes without copying them.
"""

import asyncio
import os
from collections.abc import Sequence
from contextlib import suppress

import msgpack
import redis
from probe import ran

BATCH = 200
KEEP_MS = 300_000

ADD = """
for n = 1, #ARGV, 2 do
  local job = '{floor}:job:' .. ARGV[n]
  if redis.call('HSETNX', job, 'c', ARGV[n + 1]) == 1 then
    redis.call('XADD', '{floor}:stream', '*', 'i', ARGV[n])
  end
end
"""

# ARGV worker, most jobs, lifetime of results, then per outcome: entry, id, result. Returns entry,
# id and call of each job.
TURN = """
local me, stream = ARGV[1], '{floor}:stream'
local entries, jobs, n = {}, {}, 0
for i = 4, #ARGV, 3 do
  local id = ARGV[i + 1]
  local job = '{floor}:job:' .. id
  if redis.call('HGET', job, 'o') == me then
    n = n + 1
    entries[n], jobs[n] = ARGV[i], job
    redis.call('SET', '{floor}:result:' .. id, ARGV[i + 2], 'PX', ARGV[3])
  end
end
if n > 0 then
  redis.call('XACK', stream, 'g', unpack(entries))
  redis.call('XDEL', stream, unpack(entries))
  redis.call('DEL', unpack(jobs))
end
local found, flat, m = redis.call('XREADGROUP', 'GROUP', 'g', me, 'COUNT', ARGV[2], 'STREAMS', stream, '>'), {}, 0
if found then
  for _, entry in ipairs(found[1][2]) do
    local id = entry[2][2]
    local job = '{floor}:job:' .. id
    flat[m + 1], flat[m + 2], flat[m + 3] = entry[1], id, redis.call('HGET', job, 'c')
    m = m + 3
    redis.call('HSET', job, 'o', me)
  end
end
return flat
"""


pack = msgpack.Packer().pack


async def noop(payload: bytes | None = None) -> None:
    ran()


class Actor:
    def __init__(self, url: str, concurrency: int) -> None:
        self.server = redis.Redis.from_url(url, protocol=2)
        self.add, self.turn = self.server.register_script(ADD), self.server.register_script(TURN)
        with suppress(redis.ResponseError):  # it exists already
            self.server.xgroup_create("{floor}:stream", "g", id="0", mkstream=True)

    async def __aenter__(self) -> "Actor":
        return self

    async def __aexit__(self, *exception: object) -> None: ...

    async def bulk(self, task: str, payloads: Sequence[bytes | None]) -> None:
        for first in range(0, len(payloads), 1000):
            arguments: list[str | bytes] = []
            for one in payloads[first : first + 1000]:
                arguments += (os.urandom(16).hex(), pack([task, [] if one is None else [one], {}]))
            self.add(args=arguments)

    async def work(self) -> None:
        loop = asyncio.get_running_loop()
        outcomes: list[bytes] = []
        jobs: list[bytes] = []

        async def run(entry: bytes, job_id: bytes, data: bytes) -> None:
            _, args, kwargs = msgpack.unpackb(data)
            value = await noop(*args, **kwargs)
            outcomes.extend((entry, job_id, pack([True, value, 1])))

        while True:
            arguments = ["w", BATCH, KEEP_MS, *outcomes]
            outcomes.clear()
            turn = loop.run_in_executor(None, lambda args=arguments: self.turn(args=args))
            for n in range(0, len(jobs), 3):
                loop.create_task(run(jobs[n], jobs[n + 1], jobs[n + 2]))  # noqa: RUF006 - its outcome is awaited below
            expected = len(jobs)
            jobs = await turn
            while len(outcomes) < expected:  # noqa: ASYNC110 - an event for each job would cost more than the job
                await asyncio.sleep(0)
            if not jobs and not outcomes:
                await asyncio.sleep(0.1)
