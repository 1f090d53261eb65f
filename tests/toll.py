"""A proxy that counts the calls of scripts and can hold the answers back."""

import asyncio
from typing import Self

from tests.servers import Server

CALL = b"EVALSHA\r\n"


class Toll:
    """Passes data between programs and the server. Programs connect to `url`.

    `calls`: how many calls of scripts have passed. `answers`: while it is not set, the server is
    not heard.
    """

    def __init__(self, server: Server) -> None:
        self._port = server.port
        self._ways: set[asyncio.Task[None]] = set()
        self.calls = 0
        self.answers = asyncio.Event()
        self.answers.set()

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
        server, to_server = await asyncio.open_connection("127.0.0.1", self._port)
        ways = [
            asyncio.create_task(self._requests(program, to_server)),
            asyncio.create_task(self._answers(server, to_program)),
        ]
        self._ways.update(ways)
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for writer in (to_server, to_program):
                writer.close()

    async def _requests(self, program: asyncio.StreamReader, to_server: asyncio.StreamWriter) -> None:
        tail = b""
        while data := await program.read(65536):
            seen = tail + data
            self.calls += seen.count(CALL)
            # A word that is split is found when its end arrives. One that ends here must not be
            # found again.
            tail = seen[-(len(CALL) - 1) :]
            to_server.write(data)
            await to_server.drain()

    async def _answers(self, server: asyncio.StreamReader, to_program: asyncio.StreamWriter) -> None:
        while data := await server.read(65536):
            await self.answers.wait()
            to_program.write(data)
            await to_program.drain()
