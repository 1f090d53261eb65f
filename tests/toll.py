"""A proxy that counts the calls of scripts and can hold the answers back."""

import asyncio
from typing import Self

from tests.gate import Gate, until_one_ends
from tests.servers import Server

CALL = b"EVALSHA\r\n"


class Toll:
    """Passes data between programs and the server. Programs connect to `url`.

    `calls`: how many calls of scripts have passed. `answers`: while it is not set, the server is
    not heard.
    """

    def __init__(self, server: Server) -> None:
        self._port = server.port
        self._gate = Gate(self._serve)
        self.calls = 0
        self.answers = asyncio.Event()
        self.answers.set()

    async def __aenter__(self) -> Self:
        await self._gate.__aenter__()
        self.url = self._gate.url
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._gate.__aexit__(*exception)

    async def _serve(self, program: asyncio.StreamReader, to_program: asyncio.StreamWriter) -> None:
        async with self._gate.onward(self._port) as (server, to_server):
            await until_one_ends(self._requests(program, to_server), self._answers(server, to_program))

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
