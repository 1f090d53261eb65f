"""What plain Python reaches with nothing but batches: `python -m tests.actors.floor URL JOBS`; prints the rate as JSON.

A worker loop over one blocking connection: one script writes the results of the last batch and reads the next one. It
has no lanes, leases, retries or delays.
"""

import asyncio
import json
import sys
import time
from typing import Any

import msgpack  # type: ignore[import-untyped]
import redis

BATCH = 200

# KEYS stream; ARGV consumer, most jobs, result TTL, then per finished job: entry, id, result
TURN = """
local done = {}
for i = 4, #ARGV, 3 do
  redis.call('SET', 'floor:result:' .. ARGV[i + 1], ARGV[i + 2], 'PX', ARGV[3])
  done[#done + 1] = ARGV[i]
end
if #done > 0 then
  redis.call('XACK', KEYS[1], 'floor', unpack(done))
  redis.call('XDEL', KEYS[1], unpack(done))
end
local found = redis.call('XREADGROUP', 'GROUP', 'floor', ARGV[1], 'COUNT', ARGV[2], 'STREAMS', KEYS[1], '>')
return found and found[1][2]
"""


async def noop() -> object:
    return None


async def run(entry: bytes, fields: list[bytes], outcomes: list[Any]) -> None:
    call = msgpack.unpackb(fields[3])
    value = await noop(*call["args"])
    outcomes += (entry, fields[1], msgpack.packb({"ok": True, "value": value}))


async def main(url: str, jobs: int) -> None:
    server = redis.Redis.from_url(url)
    server.xgroup_create("floor", "floor", "0", mkstream=True)
    call: Any = msgpack.packb({"name": "noop", "args": []})
    for first in range(0, jobs, 1000):
        batch = server.pipeline(transaction=False)
        for number in range(first, min(first + 1000, jobs)):
            batch.xadd("floor", {"id": f"{number:032x}", "call": call})
        batch.execute()
    turn = server.register_script(TURN)
    loop = asyncio.get_running_loop()
    outcomes: list[Any] = []
    finished = 0
    began = time.perf_counter()
    entries: list[Any] = turn(["floor"], ["one", BATCH, 300_000])
    while entries:
        await asyncio.gather(*(loop.create_task(run(entry, fields, outcomes)) for entry, fields in entries))
        finished += len(entries)
        arguments, outcomes = outcomes, []
        entries = turn(["floor"], ["one", BATCH, 300_000, *arguments])
    print(json.dumps({"jobs_per_s": finished / (time.perf_counter() - began), "finished": finished}))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
