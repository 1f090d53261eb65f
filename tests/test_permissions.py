"""Redis users with few permissions: what they lack is reported once, and everything that they may
do works.
"""

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from ardiq import Ardiq
from tests.servers import Server

MUTE = [("resetchannels", "+@all"), ("&*", "+@all", "-publish")]
"""Two ways in which a user cannot publish. The first is the default of Redis 7 for new users."""

SOON_S = 4
"""Less than the first pause of a caller that expects a message."""

AddUser = Callable[..., str]


@pytest.fixture
def add_user(server: Server) -> AddUser:
    """A function that adds a user with these rights on all keys; returns the server's URL for that
    user.
    """

    def add(*rules: str) -> str:
        name = f"user-{uuid.uuid4().hex}"
        server.cli("ACL", "SETUSER", name, "reset", "on", ">secret", "~*", *rules)
        return server.url.replace("://", f"://{name}:secret@")

    return add


@asynccontextmanager
async def serving(app: Ardiq) -> AsyncIterator[None]:
    """A worker during the block."""
    async with asyncio.timeout(30):
        worker = asyncio.create_task(app.run(shutdown_grace_s=0))
        try:
            while not (await app.inspect())["workers"]:  # noqa: ASYNC110 - the server is asked
                await asyncio.sleep(0.01)
            yield
        finally:
            app.stop()
            await worker


def complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.name for one in caplog.records if "cannot publish" in one.getMessage()]


@pytest.mark.parametrize("rules", MUTE, ids=" ".join)
@pytest.mark.parametrize("ttl_ms", [0, 1500, 300_000])
async def test_results_of_a_worker_that_may_not_publish_arrive_soon(
    server: Server, queue_name: str, add_user: AddUser, rules: tuple[str, ...], ttl_ms: int
) -> None:
    app = Ardiq(add_user(*rules), queue_name)
    release = asyncio.Event()

    @app.task(result_ttl_ms=ttl_ms)
    async def hold() -> int:
        await release.wait()
        return 7

    producer = Ardiq(server.url, queue_name)
    async with serving(app):
        job = await producer.ref(hold.name).enqueue()
        waiting = asyncio.create_task(job.result(timeout=SOON_S))
        await asyncio.sleep(0.05)  # a result that exists at the first check needs no message
        release.set()
        result = await waiting
    assert (result.success, result.value) == (True, 7)


async def test_a_caller_that_may_not_subscribe_gets_a_result_that_is_not_stored(
    server: Server, queue_name: str, add_user: AddUser
) -> None:
    app = Ardiq(server.url, queue_name)
    release = asyncio.Event()

    @app.task(result_ttl_ms=0)
    async def hold() -> int:
        await release.wait()
        return 7

    producer = Ardiq(add_user("resetchannels", "+@all"), queue_name)
    async with serving(app):
        job = await producer.ref(hold.name).enqueue()
        waiting = asyncio.create_task(job.result(timeout=SOON_S))
        await asyncio.sleep(0.05)  # as above
        release.set()
        result = await waiting
    assert (result.success, result.value) == (True, 7)


@pytest.mark.parametrize("rules", MUTE, ids=" ".join)
async def test_a_worker_reports_once_and_at_once_that_it_may_not_publish(
    queue_name: str, add_user: AddUser, rules: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    app = Ardiq(add_user(*rules), queue_name)

    @app.task
    async def work() -> None: ...

    async with serving(app):
        while not complaints(caplog):  # noqa: ASYNC110 - a log has no event to wait for
            await asyncio.sleep(0.01)
        assert await (await work.enqueue()).result(timeout=SOON_S)
    assert complaints(caplog) == ["ardiq.engine"]


async def test_a_producer_on_a_loop_reports_once_that_it_may_not_publish(
    queue_name: str, add_user: AddUser, caplog: pytest.LogCaptureFixture
) -> None:
    app = Ardiq(add_user("&*", "+@all", "-publish"), queue_name)
    for _ in range(3):
        await app.ref("work").options(delay_ms=3_600_000).enqueue()
    async with asyncio.timeout(30):
        while not complaints(caplog):  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.01)
    await app.queue_size()
    assert complaints(caplog) == ["ardiq.engine"]


def test_a_producer_without_a_loop_reports_once_that_it_may_not_publish(
    queue_name: str, add_user: AddUser, caplog: pytest.LogCaptureFixture
) -> None:
    app = Ardiq(add_user("&*", "+@all", "-publish"), queue_name)
    for _ in range(3):
        app.ref("work").options(delay_ms=3_600_000).enqueue_sync()
        assert complaints(caplog) == ["ardiq.engine"]


def test_a_handler_that_raises_does_not_cost_the_caller_its_answer(
    queue_name: str, add_user: AddUser, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise ValueError("no room")

    logger = logging.getLogger("ardiq.engine")
    monkeypatch.setattr(logger, "handlers", [Broken()])
    app = Ardiq(add_user("&*", "+@all", "-publish"), queue_name)
    assert app.ref("work").options(delay_ms=3_600_000, task_id="one").enqueue_sync().id == "one"
    assert "no room" in capsys.readouterr().err


@pytest.mark.parametrize("password", ["", ":"])
def test_a_user_without_a_password_is_not_replaced_by_the_default_user(
    server: Server, queue_name: str, password: str
) -> None:
    name = f"user-{uuid.uuid4().hex}"
    server.cli("ACL", "SETUSER", name, "reset", "on", "nopass", "~*", "&*", "+@all")
    app = Ardiq(server.url.replace("://", f"://{name}{password}@"), queue_name)
    app.queue_size_sync()
    assert name in {one["user"] for one in server.client().client_list()}
