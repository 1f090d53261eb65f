"""Outcomes while a proxy between a worker and Redis answers with errors."""

import asyncio
import logging

import pytest

from ardiq import Ardiq
from tests.proxy import proxied
from tests.servers import Server
from tests.test_lines import ended, sized, working

ABOUT_CALLS = {
    "out of range": "redis.error_reply('ERR index out of range')",
    "protocol": "redis.error_reply('ERR Protocol error: invalid bulk length')",
    "no group": "redis.error_reply('NOGROUP No such consumer group')",
    "wrong type of reply": "redis.status_reply('OK')",
}
"""Replies that also a call could cause, as Lua."""


def gated(url: str, queue_name: str) -> tuple[Ardiq, asyncio.Event, asyncio.Event]:
    app = sized(url, queue_name, concurrency=3)
    begun, go = asyncio.Event(), asyncio.Event()

    @app.task
    async def late() -> int:
        begun.set()
        await go.wait()
        return 7

    return app, begun, go


@pytest.mark.parametrize("reply", ABOUT_CALLS.values(), ids=ABOUT_CALLS)
async def test_a_result_outlives_a_proxy_that_blames_the_call_for_a_while(
    server: Server, queue_name: str, reply: str
) -> None:
    async with proxied(server) as proxy:
        app, begun, go = gated(proxy.url, queue_name)
        async with working(app):
            job = await sized(server.url, queue_name).ref("late").enqueue()
            await begun.wait()
            proxy.reply = reply
            go.set()
            # Several tries of the outcome, whatever else is called.
            await proxy.until(30)
            proxy.reply = None
            result = await ended(job)
    assert (result.success, result.value, result.tries) == (True, 7, 1)


async def test_an_outcome_that_was_written_although_its_call_failed_is_not_called_taken_over(
    server: Server, queue_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ardiq")
    async with proxied(server) as proxy:
        app, begun, go = gated(proxy.url, queue_name)
        async with working(app):
            job = await sized(server.url, queue_name).ref("late").enqueue()
            await begun.wait()
            proxy.carries_out, proxy.reply = True, "redis.error_reply('ERR upstream timeout')"
            go.set()
            result = await ended(job)
            proxy.reply = None
    assert (result.success, result.value, result.tries) == (True, 7, 1)
    said = [record for record in caplog.records if job.id in record.getMessage() and "outcome" in record.getMessage()]
    assert ["it was already written" in record.getMessage() for record in said] == [True], caplog.text
    assert said[0].levelno == logging.INFO
    assert "taken the job over" not in caplog.text


async def test_an_outcome_that_is_never_accepted_is_given_up_and_delays_no_other(
    server: Server, queue_name: str
) -> None:
    caller = sized(server.url, queue_name)
    async with proxied(server) as proxy:
        proxy.reply, proxy.least_bytes = "redis.error_reply('ERR string exceeds maximum allowed size')", 100_000
        async with working(sized(proxy.url, queue_name, concurrency=2)):
            refused = [await caller.ref("make").enqueue(length) for length in (150_000, 200_000)]
            await proxy.until(2)
            for _ in range(20):
                assert (await ended(await caller.ref("size").enqueue(b"x"))).success
            assert [await job.result() for job in refused] == [None, None]
            results = [await ended(job) for job in refused]
    assert [(result.success, result.tries) for result in results] == [(False, 1)] * 2
    assert all("could not be stored" in str(result.value) for result in results)
