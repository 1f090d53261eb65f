"""The tools of chaos runs: links that break where they should, the server's history, and plans from
seeds.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path

import pytest

from ardiq import Ardiq
from tests.chaos.faults import FAULTS, Scope
from tests.chaos.journal import Journal, Reader
from tests.chaos.plan import MOST, rounds, selection
from tests.chaos.proxy import Direction, Link
from tests.chaos.store import Records, Store, about
from tests.gate import Gate
from tests.servers import Kind

REQUEST, REPLY = b"0123456789" * 10, b"abcdefghij" * 10


@asynccontextmanager
async def linked() -> AsyncIterator[tuple[Link, asyncio.StreamReader, asyncio.StreamWriter, bytearray]]:
    """A link to a server that answers each request; with the program's end of a connection, and
    what the server has received.
    """
    heard = bytearray()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1000):
            heard.extend(data)
            if len(heard) % len(REQUEST) == 0:
                writer.write(REPLY)

    async with Gate(serve) as gate, Link(gate.port) as link:
        reader, writer = await asyncio.open_connection("127.0.0.1", link.port)
        try:
            yield link, reader, writer, heard
        finally:
            writer.close()


async def read_all(reader: asyncio.StreamReader) -> bytes:
    """Return everything that arrives until the connection ends or breaks."""
    got = bytearray()
    try:
        while data := await reader.read(1000):
            got += data
    except ConnectionError:
        pass
    return bytes(got)


@pytest.mark.parametrize("after", [1, 37, 100])
@pytest.mark.parametrize("direction", ["request", "reply"])
async def test_a_link_is_cut_behind_the_very_byte(direction: Direction, after: int) -> None:
    async with asyncio.timeout(10), linked() as (link, reader, writer, heard):
        writer.write(REQUEST)
        assert await reader.readexactly(len(REPLY)) == REPLY
        cut = link.cut(direction, after)
        writer.write(REQUEST)
        got = await read_all(reader)
        assert cut.done.is_set()
        if direction == "reply":
            assert (bytes(heard), got) == (REQUEST * 2, REPLY[:after])
        else:
            assert bytes(heard) == REQUEST + REQUEST[:after]
        # Only that connection is cut.
        reader, writer = await asyncio.open_connection("127.0.0.1", link.port)
        del heard[:]
        writer.write(REQUEST)
        assert await reader.readexactly(len(REPLY)) == REPLY
        writer.close()


async def test_a_link_has_latency_and_a_limit() -> None:
    async with asyncio.timeout(10), linked() as (link, reader, writer, _):

        async def seconds() -> float:
            began = time.monotonic()
            writer.write(REQUEST)
            await reader.readexactly(len(REPLY))
            return time.monotonic() - began

        link.latency_s = 0.2
        assert await seconds() >= 0.4
        link.latency_s, link.bytes_per_s = 0.0, 500
        assert await seconds() >= 0.4
        link.heal()
        assert await seconds() < 0.4


async def test_a_blocked_link_delivers_later_and_a_severed_one_never() -> None:
    async with asyncio.timeout(10), linked() as (link, reader, writer, heard):
        link.block()
        writer.write(REQUEST)
        reading = asyncio.create_task(reader.readexactly(len(REPLY)))
        assert await asyncio.wait([reading], timeout=0.2) == (set(), {reading})
        link.unblock()
        assert await reading == REPLY
        link.block()
        writer.write(REQUEST)
        link.sever()
        assert await read_all(reader) == b""
        assert bytes(heard) == REQUEST


def test_the_same_seed_gives_the_same_faults_and_each_kind_comes_before_one_comes_again() -> None:
    most: dict[Scope, int] = {"worker": 2, "producer": 1, "server": 1}
    first, second = (list(islice(rounds(5, FAULTS, most), 200)) for _ in range(2))
    assert first == second
    assert first != list(islice(rounds(6, FAULTS, most), 200))
    assert {1 <= len(faults) <= MOST for faults in first} == {True}
    for scope, limit in most.items():
        assert max(sum(fault.scope == scope for fault in faults) for faults in first) == limit
    counts = [sum(faults.count(kind) for faults in first) for kind in FAULTS.values()]
    assert max(counts) - min(counts) <= 1


def test_kinds_are_selected_by_the_beginning_of_their_names() -> None:
    assert selection("all") == list(FAULTS)
    assert set(selection("acl-,worker-kill")) == {name for name in FAULTS if name.startswith("acl-")} | {"worker-kill"}
    assert set(FAULTS) - set(selection("-server")) == {name for name in FAULTS if name.startswith("server")}
    assert selection("server-kill,server-nap,-server-nap") == ["server-kill"]
    with pytest.raises(ValueError, match="no fault is called 'flood'"):
        selection("flood")


def test_a_reader_of_a_journal_takes_whole_lines_only(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    reader = Reader(path)
    assert reader.news() == []
    journal = Journal(path)
    journal.note("start", "job", 2, "worker", pid=5, more=[1])
    with path.open("ab") as file:
        file.write(b'[1.5, "end", 5,')
    assert [(n.event, n.pid, n.job, n.tries, n.worker, n.detail) for n in reader.news()] == [
        ("start", 5, "job", 2, "worker", {"more": [1]})
    ]
    with path.open("ab") as file:
        file.write(b' "job", 2, "worker", {}]\n')
    assert [note.event for note in reader.news()] == ["end"]
    assert [note.event for note in reader.notes] == ["start", "end"]


async def test_the_server_tells_afterwards_what_was_stored_and_committed(
    server_kind: Kind, tmp_path: Path, queue_name: str
) -> None:
    store = Store(server_kind, tmp_path)
    try:
        await store.start()
        app = Ardiq(store.server.url, queue_name)

        @app.task
        async def echo(value: int) -> int:
            return value

        done = [await echo.enqueue(number) for number in range(3)]
        await app.run(burst=True)
        # The history continues after the server has died and come back.
        await store.kill()
        await store.start()
        waits, later = await echo.enqueue(4), await echo.options(delay_ms=60_000).enqueue(5)
        await store.stop()
        records = Records(store, queue_name)
        assert records.stored == {job.id for job in [*done, waits, later]}
        assert {job: len(commits) for job, commits in records.commits.items()} == {job.id: 1 for job in done}
        assert any("XADD" in line for line in about(store, waits.id))
    finally:
        store.server.close()
