"""A proxy that answers calls of scripts itself for a while, like one whose backend is away."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import redis

from tests.gate import Gate, relay, until_one_ends
from tests.servers import Server


@dataclass
class Proxy:
    """Programs connect to `url`. While `reply` is set, each call of a script is answered with it.

    `reply` is a Lua expression for a reply. Calls of fewer than `least_bytes` reach the server as
    usual. If `carries_out` is set, the server also runs the calls that get `reply`. `answered`
    counts the calls that got `reply`.
    """

    url: str = ""
    reply: str | None = None
    least_bytes: int = 0
    carries_out: bool = False
    answered: int = 0
    news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def until(self, answered: int) -> None:
        """Wait until so many calls have been answered here."""
        async with self.news:
            await asyncio.wait_for(self.news.wait_for(lambda: self.answered >= answered), 60)

    async def note(self) -> None:
        self.answered += 1
        async with self.news:
            self.news.notify_all()


@asynccontextmanager
async def proxied(server: Server) -> AsyncIterator[Proxy]:
    """A proxy in front of the server."""
    proxy = Proxy()

    async def serve(program: asyncio.StreamReader, to_program: asyncio.StreamWriter) -> None:
        async with gate.onward(server.port) as (replies, to_server):
            await until_one_ends(_pass_commands(proxy, server, program, to_server), relay(replies, to_program))

    async with Gate(serve) as gate:
        proxy.url = gate.url
        yield proxy


async def _pass_commands(
    proxy: Proxy, server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    while True:
        words = await _command(reader)
        is_call = words[0].upper() == b"EVALSHA" and sum(map(len, words)) >= proxy.least_bytes
        if is_call and proxy.reply is not None:
            if proxy.carries_out:
                await _carry_out(server, words)
            # In place of the call, so that replies keep their order.
            words = [b"EVAL", f"return {proxy.reply}".encode(), b"0"]
            await proxy.note()
        writer.write(_encoded(words))
        await writer.drain()


async def _command(reader: asyncio.StreamReader) -> list[bytes]:
    count = int((await reader.readuntil(b"\r\n"))[1:])
    words = []
    for _ in range(count):
        length = int((await reader.readuntil(b"\r\n"))[1:])
        words.append((await reader.readexactly(length + 2))[:-2])
    return words


def _encoded(words: list[bytes]) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


async def _carry_out(server: Server, words: list[bytes]) -> None:
    with redis.Redis.from_url(server.url) as client:
        await asyncio.to_thread(client.execute_command, *words)
