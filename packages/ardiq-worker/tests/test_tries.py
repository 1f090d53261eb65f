"""How many times a job was started, on a real server."""

import asyncio

from ardiq import Ardiq, Retry, current_task
from tests.servers import Server


async def test_tries_are_counted_beyond_16_bits(server: Server, queue_name: str) -> None:
    app = Ardiq(server.url, queue_name)
    tries: list[int] = []

    @app.task(max_retries=65_537)
    async def fail() -> None:
        context = current_task()
        assert context is not None
        tries.append(context.tries)
        raise Retry(delay_ms=1)

    job = await fail.options(delay_ms=60_000).enqueue()
    key = f"ardiq:{{{queue_name}}}:"
    record: bytes = server.cli("GET", f"{key}job:{job.id}")
    # Kind, nonce, the length of the stream's name and that name; then the header, which begins with
    # the tries.
    header = 10 + record[9]
    server.cli("SET", f"{key}job:{job.id}", record[:header] + b"\xff\xfe" + record[header + 2 :])
    server.cli("ZADD", f"{key}due", 1, job.id)
    running = asyncio.create_task(app.run())
    result = await job.result(timeout=30)
    app.stop()
    await running
    assert result is not None
    assert (result.success, result.tries) == (False, 65_538)
    assert tries == [65_535, 65_536, 65_537, 65_538]
