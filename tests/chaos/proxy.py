"""A link from one process to the server that can be cut, slowed, delayed, or silently closed."""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Literal, Self

from tests.gate import Gate, until_one_ends

CHUNK = 65536
MOST_CHUNKS = 64
"""Chunks in flight in one direction; a sender that is faster than the link waits."""

Direction = Literal["request", "reply"]


@dataclass
class Cut:
    """The connection that carries the next `after` bytes in `direction` breaks behind the last of
    them.
    """

    direction: Direction
    after: int
    done: asyncio.Event = field(default_factory=asyncio.Event)


class Link:
    """Listens at `port` and passes everything on to the server at `server_port`.

    `latency_s`: how long a byte is in flight. `bytes_per_s`: the rate in each direction; 0 is
    unlimited. Both can be changed at any time.
    """

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._gate = Gate(self._serve)
        self._open = asyncio.Event()
        self._open.set()
        self._cut: Cut | None = None
        self.latency_s = 0.0
        self.bytes_per_s = 0
        self.port = 0

    async def __aenter__(self) -> Self:
        await self._gate.__aenter__()
        self.port = self._gate.port
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._gate.__aexit__(*exception)

    def block(self) -> None:
        """Hold all data back without closing connections."""
        self._open.clear()

    def unblock(self) -> None:
        """Deliver the data held back, and let everything pass again."""
        self._open.set()

    def sever(self) -> None:
        """Break every connection now; data in flight is lost."""
        self._gate.sever()

    def cut(self, direction: Direction, after: int) -> Cut:
        """Break the connection that carries the byte `after` from now on; `done` of what this
        returns is set then.
        """
        self._cut = Cut(direction, after)
        return self._cut

    def heal(self) -> None:
        """Pass everything on, at once."""
        self.latency_s, self.bytes_per_s, self._cut = 0.0, 0, None
        self.unblock()

    async def _serve(self, from_program: asyncio.StreamReader, to_program: asyncio.StreamWriter) -> None:
        await self._open.wait()
        async with self._gate.onward(self._server_port) as (from_server, to_server):
            await until_one_ends(
                self._pass("request", from_program, to_server), self._pass("reply", from_server, to_program)
            )

    async def _pass(self, direction: Direction, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on one direction of a connection, until an end closes it or a cut ends it."""
        chunks: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(MOST_CHUNKS)
        receiving = asyncio.create_task(self._receive(reader, chunks))
        sending = asyncio.create_task(self._send(direction, chunks, writer))
        try:
            await asyncio.wait([receiving, sending], return_when=asyncio.FIRST_COMPLETED)
            # At the end of the input, the rest still has to be sent.
            await asyncio.wait([sending])
        finally:
            receiving.cancel()
            sending.cancel()
            await asyncio.gather(receiving, sending, return_exceptions=True)

    async def _receive(self, reader: asyncio.StreamReader, chunks: asyncio.Queue[tuple[float, bytes]]) -> None:
        data = b"-"
        while data:
            try:
                data = await reader.read(CHUNK)
            except OSError:
                data = b""
            await chunks.put((time.monotonic() + self.latency_s, data))

    async def _send(
        self, direction: Direction, chunks: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter
    ) -> None:
        """Return when everything was sent, or the connection was cut."""
        while True:
            due, data = await chunks.get()
            if not data:
                return
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if self.bytes_per_s:
                await asyncio.sleep(len(data) / self.bytes_per_s)
            await self._open.wait()
            cut = self._cut
            if cut is not None and cut.direction == direction:
                if len(data) >= cut.after:
                    self._cut = None
                    writer.write(data[: cut.after])
                    await writer.drain()
                    cut.done.set()
                    return
                cut.after -= len(data)
            writer.write(data)
            await writer.drain()
