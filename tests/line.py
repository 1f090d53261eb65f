"""A slow, distant or forgetful line to a server, like those in real networks."""

import asyncio
import time
from typing import Self

from tests.gate import Gate, until_one_ends
from tests.servers import Server

TICKS_PER_S = 100
"""How finely a rate is kept."""


class Line:
    """Passes data between programs and the server. Programs connect to `url`.

    Args:
        server: the server at the other end.
        rate: bytes per second in each direction, shared by all connections; None is unlimited.
        delay_s: how long everything takes in each direction, in seconds.
        forgets_after_s: a connection that was idle for so long silently drops whatever is sent on
            it later.

    `connections` counts those that were made, `moved` the bytes that went to programs, `sent` those
        that went to the server.
    """

    def __init__(
        self, server: Server, *, rate: int | None = None, delay_s: float = 0, forgets_after_s: float | None = None
    ) -> None:
        self._port = server.port
        self._rate = rate
        self._delay_s = delay_s
        self._forgets_after_s = forgets_after_s
        self._gate = Gate(self._serve)
        self._turns = {"up": asyncio.Lock(), "down": asyncio.Lock()}
        self.connections = 0
        self.moved = 0
        self.sent = 0

    async def __aenter__(self) -> Self:
        await self._gate.__aenter__()
        self.url = self._gate.url
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._gate.__aexit__(*exception)

    async def _serve(self, program: asyncio.StreamReader, to_program: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self._delay_s:
            await asyncio.sleep(2 * self._delay_s)  # the handshake of TCP, which is over by now
        async with self._gate.onward(self._port) as (server, to_server):
            connection = _Connection(self._forgets_after_s)
            await until_one_ends(
                self._pass_on("up", connection, program, to_server),
                self._pass_on("down", connection, server, to_program),
            )

    async def _pass_on(
        self, way: str, connection: "_Connection", reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        piece = max(512, self._rate // TICKS_PER_S) if self._rate else 65536
        late: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        delivering = asyncio.create_task(self._deliver(late, writer))
        try:
            while data := await reader.read(piece):
                if connection.has_forgotten():
                    continue
                if self._rate:
                    async with self._turns[way]:
                        await asyncio.sleep(len(data) / self._rate)
                if way == "down":
                    self.moved += len(data)
                else:
                    self.sent += len(data)
                if self._delay_s:
                    late.put_nowait((time.monotonic() + self._delay_s, data))
                else:
                    writer.write(data)
                    await writer.drain()
        finally:
            delivering.cancel()

    async def _deliver(self, late: "asyncio.Queue[tuple[float, bytes]]", writer: asyncio.StreamWriter) -> None:
        while True:
            at, data = await late.get()
            await asyncio.sleep(max(0, at - time.monotonic()))
            writer.write(data)


class _Connection:
    def __init__(self, forgets_after_s: float | None) -> None:
        self._forgets_after_s = forgets_after_s
        self._used = time.monotonic()
        self._forgotten = False

    def has_forgotten(self) -> bool:
        """Note that data has arrived, and return whether it arrived too late."""
        now = time.monotonic()
        if self._forgets_after_s is not None and now - self._used > self._forgets_after_s:
            self._forgotten = True
        self._used = now
        return self._forgotten
