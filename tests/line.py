"""A slow, distant or forgetful line to a server, like those in real networks."""

import asyncio
import time
from contextlib import suppress
from typing import Self

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
        self._ways: set[asyncio.Task[None]] = set()
        self._turns = {"up": asyncio.Lock(), "down": asyncio.Lock()}
        self.connections = 0
        self.moved = 0
        self.sent = 0

    async def __aenter__(self) -> Self:
        self._gate = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"redis://127.0.0.1:{self._gate.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._gate.close()
        for way in self._ways:
            way.cancel()
        await asyncio.gather(*self._ways, return_exceptions=True)

    async def _serve(self, program: asyncio.StreamReader, to_program: asyncio.StreamWriter) -> None:
        self.connections += 1
        with suppress(ConnectionError):
            if self._delay_s:
                await asyncio.sleep(2 * self._delay_s)  # the handshake of TCP, which is over by now
            server, to_server = await asyncio.open_connection("127.0.0.1", self._port)
            connection = _Connection(self._forgets_after_s)
            ways = [
                asyncio.create_task(self._pass_on("up", connection, program, to_server)),
                asyncio.create_task(self._pass_on("down", connection, server, to_program)),
            ]
            self._ways.update(ways)
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                for writer in (to_server, to_program):
                    writer.close()

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
