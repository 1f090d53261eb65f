"""A server that evicts keys when its memory is full loses jobs: producers and workers refuse it
unless told otherwise.
"""

import asyncio
import logging

import pytest

from ardiq import Ardiq, BrokerError, BrokerUnfitError
from tests.conftest import FleetFactory, ServerFactory
from tests.servers import Server

POLICIES = ["allkeys-lru", "allkeys-random", "volatile-lru", "volatile-ttl"]
LIMIT = "100mb"


def evicting(make_server: ServerFactory, policy: str = "allkeys-lru") -> Server:
    return make_server(options={"maxmemory": LIMIT, "maxmemory-policy": policy})


@pytest.mark.parametrize("policy", POLICIES)
async def test_producers_and_workers_refuse_it(make_server: ServerFactory, policy: str) -> None:
    server = evicting(make_server, policy)
    app = Ardiq(server.url)
    task = app.ref("task")
    for attempt in (
        task.enqueue,
        lambda: task.options(delay_ms=60_000).enqueue(),
        lambda: app.enqueue_many([task.prepare()]),
        lambda: asyncio.to_thread(task.enqueue_sync),
        app.run,
    ):
        with pytest.raises(BrokerUnfitError, match=rf"{policy}.*noeviction.*allow_eviction=True"):
            await attempt()
    assert server.client().keys() == [], "no job, no lease"


async def test_an_app_that_only_reads_is_not_affected(make_server: ServerFactory) -> None:
    app = Ardiq(evicting(make_server).url)
    assert await app.queue_size() == 0
    assert await app.status("any") == "not_found"
    assert (await app.inspect())["waiting"] == 0


async def test_with_allow_eviction_it_works_and_the_worker_warns(
    make_server: ServerFactory, caplog: pytest.LogCaptureFixture
) -> None:
    app = Ardiq(evicting(make_server).url, allow_eviction=True)
    assert app.allow_eviction
    assert not Ardiq().allow_eviction

    @app.task
    async def answer() -> int:
        return 42

    job = await answer.enqueue()
    with caplog.at_level(logging.WARNING, "ardiq"):
        await app.run(burst=True)
    result = await job.result()
    assert result is not None
    assert result.value == 42
    assert "maxmemory-policy is allkeys-lru" in caplog.text


async def test_it_works_once_the_policy_is_changed_and_a_policy_without_a_limit_is_harmless(
    make_server: ServerFactory,
) -> None:
    server = evicting(make_server)
    app = Ardiq(server.url)
    with pytest.raises(BrokerError):
        await app.ref("task").enqueue()
    server.cli("CONFIG", "SET", "maxmemory", "0")
    await app.ref("task").enqueue()
    assert await app.queue_size() == 1


async def test_the_server_is_asked_once_per_connection(make_server: ServerFactory) -> None:
    server = make_server()
    app = Ardiq(server.url)

    def asked() -> int:
        # The connection of the test asks, too, but does so after it has been counted.
        return int(server.cli("INFO", "commandstats")["cmdstat_info"]["calls"])

    before = asked()
    for _ in range(5):
        await asyncio.gather(*(app.ref("task").enqueue() for _ in range(5)))
    assert asked() - before == 2


async def test_a_user_that_may_not_ask_can_still_work(make_server: ServerFactory) -> None:
    server = make_server()
    server.cli("ACL", "SETUSER", "shy", "on", ">secret", "~*", "&*", "+@all", "-info", "-config")
    app = Ardiq(server.url.replace("redis://", "redis://shy:secret@"))

    @app.task
    async def answer() -> int:
        return 42

    job = await answer.enqueue()
    await app.run(burst=True)
    result = await job.result()
    assert result is not None
    assert result.value == 42


def test_a_worker_process_says_why_and_exits_with_an_error(
    make_server: ServerFactory, make_fleet: FleetFactory
) -> None:
    program = make_fleet(evicting(make_server)).command_line()
    assert program.end() not in (0, None)
    assert "allow_eviction=True" in program.output


async def test_a_server_without_persistence_is_warned_of(
    make_server: ServerFactory, caplog: pytest.LogCaptureFixture
) -> None:
    for append_only in (False, True):
        caplog.clear()
        app = Ardiq(make_server(append_only=append_only).url)
        with caplog.at_level(logging.WARNING, "ardiq"):
            await app.run(burst=True)
        assert ("append-only" in caplog.text) is not append_only
