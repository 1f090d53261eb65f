"""The protocol's catalog, the client's names, and the data on a server agree."""

import asyncio
import re

from ardiq import Ardiq, TaskStatus
from ardiq_core import protocol
from tests.servers import Server


def patterns(kind: str | None = None) -> list[re.Pattern[str]]:
    """The names of keys, of one type if given, as patterns."""
    names = [row["name"] for row in protocol()["keys"] if row["type"] != "channel" and kind in (None, row["type"])]
    return [re.compile(re.sub(r"<\w+>", ".+", re.sub(r"[{}]", r"\\\g<0>", name))) for name in names]


def test_the_states_are_those_of_the_client() -> None:
    assert {row["state"] for row in protocol()["states"]} == {status.value for status in TaskStatus}


async def test_every_key_of_a_queue_at_work_is_in_the_catalogue(server: Server, queue_name: str) -> None:
    app = Ardiq(server.url, queue_name, ["low", "default"])

    @app.task(max_retries=1, backoff_ms=1, unique=True)
    async def flaky(n: int) -> int:
        if n == 1:
            raise ValueError(n)
        return n

    jobs = await app.enqueue_many([flaky.prepare(n) for n in range(3)])
    later = await flaky.options(delay_ms=50).enqueue(99)
    held = await flaky.options(delay_ms=3_600_000).enqueue(100)
    running = asyncio.create_task(app.run())
    for job in [*jobs, later]:
        assert await job.result(timeout=20) is not None
    kinds = kinds_of_keys(server, queue_name)
    app.stop()
    await running
    assert await held.status() is TaskStatus.SCHEDULED
    used = {name.removeprefix(f"ardiq:{{{queue_name}}}:").partition(":")[0] for name in kinds}
    assert used >= {"job", "lane", "returned", "due", "workers", "worker-info", "lanes", "unique"}
    for name, kind in kinds.items():
        label = {"zset": "sorted set"}.get(kind, kind)
        assert any(pattern.fullmatch(name) for pattern in patterns(label)), f"{name} ({kind})"


def kinds_of_keys(server: Server, queue: str) -> dict[str, str]:
    names = [name.decode() for name in server.client().scan_iter(match=f"ardiq:{{{queue}}}:*")]
    return {name: server.cli("TYPE", name).decode() for name in names}
