"""A TCP server of a test, for proxies and for servers that answer in unusual ways."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Self

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


class Gate:
    """Accepts connections at `port`, and calls `serve` for each one.

    A connection is closed when `serve` has returned. No connection outlives the gate, not even one
    with data that its other end does not read. If `serve` fails for another reason than a broken
    connection, leaving the gate raises that error.
    """

    def __init__(self, serve: Serve, *, tls: ssl.SSLContext | None = None) -> None:
        self._serve = serve
        self._tls = tls
        self._serving: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []
        self._is_open = True
        self.port = 0

    @property
    def url(self) -> str:
        """The address for programs that speak to Redis."""
        return f"redis://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._server.close()
        self._is_open = False
        self.sever()
        ends = await asyncio.gather(*self._serving, return_exceptions=True)
        # A connection that breaks is closed one turn of the loop later.
        await asyncio.sleep(0)
        for end in ends:
            if isinstance(end, Exception) and not isinstance(end, (OSError, EOFError)):
                raise end

    def sever(self) -> None:
        """Break every connection now; data in flight is lost."""
        for task in self._serving:
            task.cancel()
        for writer in self._writers:
            writer.transport.abort()

    # Not a coroutine: from the moment when a connection exists, it is among those to be closed.
    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        if not self._is_open:
            writer.transport.abort()
            return
        task = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(lambda _: writer.close())

    @asynccontextmanager
    async def onward(self, port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """Connect to another server, on behalf of a connection that the gate serves."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        self._writers.append(writer)
        try:
            yield reader, writer
        finally:
            writer.close()


async def until_one_ends(*ways: Coroutine[Any, Any, None]) -> None:
    """Run coroutines until the first one ends, and cancel the others. Raises what that one has
    raised.
    """
    tasks = [asyncio.ensure_future(way) for way in ways]
    try:
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in ended:
        await task


async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass data on until it ends."""
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
