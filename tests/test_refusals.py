"""Servers that refuse: users see the reason and what to do.

Commands that ArdiQ can work without may be denied.
"""

import asyncio
import logging
import socket
from pathlib import Path

import pytest

from ardiq import Ardiq, BrokerError, BrokerRefusedError, BrokerUnreachableError
from tests.conftest import FleetFactory, ServerFactory
from tests.gate import Gate
from tests.programs import eventually
from tests.servers import Server
from tests.test_lines import sized, working

REFUSALS: dict[str, tuple[str, list[list[str]], str, list[str]]] = {
    "no password": ("", [["CONFIG", "SET", "requirepass", "x"]], "", ["NOAUTH", "redis://user:password@"]),
    "wrong password": (
        "",
        [["CONFIG", "SET", "requirepass", "x"]],
        "default:hunter2@",
        ["WRONGPASS", "percent-encoded"],
    ),
    "no such database": ("", [], "/99", ["`databases`"]),
    "no right to scripts": ("", [["ACL", "SETUSER", "default", "-evalsha"]], "", ["NOPERM", "+evalsha"]),
    "no right within a script": (
        "",
        [["ACL", "SETUSER", "default", "-xadd"]],
        "",
        ["Grant the permission: ACL SETUSER"],
    ),
    "no right to keys": ("", [["ACL", "SETUSER", "default", "resetkeys", "~other:*"]], "", ["NOPERM", "~ardiq:*"]),
    "a replica": ("", [["REPLICAOF", "127.0.0.1", "1"]], "", ["READONLY", "primary"]),
    "no scripts": ('rename-command EVALSHA ""', [], "", ["unknown command", "Redis 7.0"]),
    "a cluster": ("cluster-enabled yes\ncluster-port {port}", [], "", ["CLUSTERDOWN", "Redis Cluster"]),
    "full memory": ("", [["CONFIG", "SET", "maxmemory", "1"]], "", ["OOM", "maxmemory"]),
}
"""By name: configuration, commands to run afterwards, part of the URL, and text of the error."""


@pytest.mark.parametrize(("settings", "commands", "url", "said"), REFUSALS.values(), ids=REFUSALS)
def test_a_refusal_says_what_to_do(
    settings: str, commands: list[list[str]], url: str, said: list[str], make_server: ServerFactory, tmp_path: Path
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (tmp_path / "more.conf").write_text(settings.replace("{port}", str(port)) + "\n")
    server = make_server(options={"include": str(tmp_path / "more.conf")})
    for command in commands:
        server.cli(*command)
    address = server.url.replace("redis://", f"redis://{url}") if url.endswith("@") else server.url + url
    with pytest.raises(BrokerError) as caught:
        Ardiq(address, connect_timeout_s=1).ref("work").enqueue_sync()
    message = str(caught.value)
    assert all(words in message for words in said), message
    assert "hunter2" not in message


async def test_a_server_without_resp3_is_refused() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            if line == b"HELLO\r\n":
                writer.write(b"-ERR unknown command 'HELLO', with args beginning with: '3'\r\n")
            elif line == b"CLIENT\r\n":
                writer.write(b"+OK\r\n")

    async with Gate(serve) as old:
        with pytest.raises(BrokerError, match=r"unknown command 'HELLO'.*RESP3"):
            await Ardiq(old.url, connect_timeout_s=2).ref("work").enqueue()


async def test_a_worker_needs_no_dangerous_command(make_server: ServerFactory, queue_name: str) -> None:
    server = make_server()
    server.cli("ACL", "SETUSER", "worker", "on", ">secret", "~*", "&*", "+@all", "-@dangerous")
    app = sized(server.url.replace("redis://", "redis://worker:secret@"), queue_name)
    async with working(app):
        for length in (1, 100_000):
            result = await (await app.ref("size").enqueue(b"x" * length)).result(timeout=10)
            assert result is not None
            assert result.value == length


async def test_a_worker_outlives_a_lost_lease_while_memory_is_full(
    make_server: ServerFactory, queue_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ardiq")
    server = make_server()
    app = sized(server.url, queue_name, idle_timeout_ms=1000)
    workers = f"ardiq:{{{queue_name}}}:workers"
    async with working(app):
        job = await app.ref("size").enqueue(b"x")
        assert await job.result(timeout=10)
        server.cli("CONFIG", "SET", "maxmemory", "1")
        for _ in range(3):
            server.cli("DEL", workers)
            await asyncio.to_thread(eventually, lambda: server.cli("ZCARD", workers) == 1, "it signs on again")
        server.cli("CONFIG", "SET", "maxmemory", "0")
        assert await (await app.ref("size").enqueue(b"x")).result(timeout=10)
    assert not [record for record in caplog.records if "loop" in record.getMessage()]


async def test_an_outcome_that_breaks_every_connection_is_recorded_as_a_failure(
    make_server: ServerFactory, queue_name: str
) -> None:
    server = make_server(options={"proto-max-bulk-len": "1mb"})
    app = sized(server.url, queue_name)
    async with working(app):
        large = await app.ref("make").enqueue(3_000_000)
        assert await (await app.ref("size").enqueue(b"x")).result(timeout=10)
        result = await large.result(timeout=30)
    assert result is not None
    assert (result.success, result.tries) == (False, 1)


async def test_all_connections_use_the_database_and_the_name_of_the_url(server: Server, queue_name: str) -> None:
    app = sized(f"{server.url}?db=5&client_name={queue_name}", queue_name)
    async with working(app):
        result = await (await app.ref("size").enqueue(b"x" * 100_000)).result(timeout=10)
        assert result is not None
        clients = [client for client in server.client().client_list() if client["name"] == queue_name]
        assert {client["db"] for client in clients} == {"5"}
        # For calls, for messages, for the read that blocks, for large values.
        assert len(clients) == 4
        unnamed = [client for client in server.client().client_list() if client["db"] == "5" and not client["name"]]
        assert unnamed == []


def test_connections_are_called_ardiq(make_fleet: FleetFactory) -> None:
    fleet = make_fleet()
    fleet.app.queue_size_sync()
    assert "ardiq" in {client["name"] for client in fleet.server.client().client_list()}


async def test_a_large_result_outlives_a_server_that_is_a_replica_for_a_while(
    make_server: ServerFactory, queue_name: str
) -> None:
    server = make_server()
    app = sized(server.url, queue_name)
    begun, go = asyncio.Event(), asyncio.Event()

    @app.task
    async def late() -> bytes:
        begun.set()
        await go.wait()
        return b"x" * 2_000_000

    job = await late.enqueue()
    async with working(app):
        await begun.wait()
        server.cli("REPLICAOF", "127.0.0.1", "1")
        refused = server.cli("INFO", "errorstats").get("errorstat_READONLY", {"count": 0})["count"]
        go.set()
        async with asyncio.timeout(60):
            while server.cli("INFO", "errorstats").get("errorstat_READONLY", {"count": 0})["count"] < refused + 50:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        server.cli("REPLICAOF", "NO", "ONE")
        result = await job.result(timeout=30)
    assert result is not None
    assert (result.success, result.tries, len(result.value or b"")) == (True, 1, 2_000_000)


def save(server: Server) -> str:
    """Have the server save a snapshot, and return whether it could: `ok` or `err`."""
    server.cli("BGSAVE")
    eventually(lambda: not server.client().info("persistence")["rdb_bgsave_in_progress"], "the snapshot")
    return str(server.client().info("persistence")["rdb_last_bgsave_status"])


async def test_a_server_that_cannot_save_is_one_outage_after_which_work_goes_on(
    make_server: ServerFactory, queue_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ardiq")
    server = make_server(options={"save": "3600 1000000"})
    app = sized(server.url, queue_name, connect_timeout_s=1)
    begun, go = asyncio.Event(), asyncio.Event()

    @app.task
    async def held() -> int:
        begun.set()
        await go.wait()
        return 1

    def outages() -> list[str]:
        parts = ("cannot write to", "cannot reach", "answers again")
        return [line for record in caplog.records if any(part in (line := record.getMessage()) for part in parts)]

    job = await held.enqueue()
    async with working(app):
        await begun.wait()
        # A directory in the place of the file, because root may write anywhere.
        (server.directory / "dump.rdb").mkdir()
        assert save(server) == "err"
        go.set()
        await asyncio.to_thread(eventually, outages, "the outage is logged")
        for _ in range(2):
            with pytest.raises(BrokerUnreachableError, match=r"MISCONF.*unable to persist"):
                await app.ref("size").enqueue(b"x")
            assert await app.queue_size() == 0  # the server answers those who only read
        (server.directory / "dump.rdb").rmdir()
        assert save(server) == "ok"
        result = await job.result(timeout=30)
        later = await (await app.ref("size").enqueue(b"xyz")).result(timeout=30)
        await asyncio.to_thread(eventually, lambda: len(outages()) > 1, "its end is logged")
    assert result is not None
    assert later is not None
    assert (result.value, result.tries, later.value) == (1, 1, 3)
    began, ended = outages()
    assert began.startswith("cannot write to Redis")
    assert "MISCONF" in began
    assert "answers again" in ended


async def test_enqueues_of_one_turn_fail_only_where_they_were_not_accepted(
    make_server: ServerFactory, queue_name: str
) -> None:
    server = make_server()
    app = Ardiq(server.url, queue_name)
    task = app.ref("work")
    await task.enqueue()
    server.cli("CONFIG", "SET", "maxmemory", server.cli("INFO", "memory")["used_memory"] + 2_500_000)
    ended = await asyncio.gather(*(task.enqueue(b"x" * 3_000) for _ in range(2_000)), return_exceptions=True)
    server.cli("CONFIG", "SET", "maxmemory", "0")
    refused = [one for one in ended if isinstance(one, BaseException)]
    assert {type(one) for one in refused} == {BrokerRefusedError}
    assert "OOM" in str(refused[0])
    assert 0 < len(refused) < 2_000
    assert await app.queue_size() == 1 + 2_000 - len(refused)
    accepted = [one for one in ended if not isinstance(one, BaseException)]
    assert {await job.status() for job in accepted[:3] + accepted[-3:]} == {"queued"}
