"""Redis behind TLS: the address `rediss://`, with certificate and host name verified."""

import asyncio
import json
import os
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.gate import Gate, relay, until_one_ends
from tests.servers import Server

CERTIFICATE = Path(__file__).parent / "certificate" / "localhost.pem"

PROGRAM = """
import json, sys
from ardiq import Ardiq, BrokerError
said = []
for url in sys.argv[2:]:
    app = Ardiq(url, sys.argv[1], connect_timeout_s=5)
    try:
        app.ref("work").enqueue_sync()
        said.append(app.queue_size_sync())
    except BrokerError as error:
        said.append(str(error))
print(json.dumps(said))
"""


def proxied(server: Server, context: ssl.SSLContext) -> Gate:
    """TLS in front of the server. Not every build of it supports TLS itself."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with gate.onward(server.port) as (replies, to_server):
            await until_one_ends(relay(reader, to_server), relay(replies, writer))

    gate = Gate(serve, tls=context)
    return gate


@pytest.fixture
async def tls_port(server: Server) -> AsyncIterator[int]:
    """A port for TLS in front of the server."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(CERTIFICATE)
    async with proxied(server, context) as gate:
        yield gate.port


async def ask(queue: str, *urls: str, trusted: bool) -> list[object]:
    """Return the output of a program that trusts the certificate, or only what this machine
    trusts.
    """
    program = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PROGRAM, queue, *urls),
        env={**os.environ, "SSL_CERT_FILE": str(CERTIFICATE)} if trusted else None,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    output, errors = await program.communicate()
    assert (program.returncode, errors.decode()) == (0, "")
    answers: list[object] = json.loads(output)
    return answers


async def test_jobs_go_through_tls(tls_port: int, queue_name: str) -> None:
    urls = [f"{scheme}://localhost:{tls_port}" for scheme in ("rediss", "valkeys")]
    assert await ask(queue_name, *urls, trusted=True) == [1, 2]


async def test_a_certificate_that_is_not_trusted_or_of_another_host_is_refused(tls_port: int, queue_name: str) -> None:
    (unknown,) = await ask(queue_name, f"rediss://localhost:{tls_port}", trusted=False)
    (elsewhere,) = await ask(queue_name, f"rediss://127.0.0.1:{tls_port}", trusted=True)
    for said in (unknown, elsewhere):
        assert isinstance(said, str)
        assert "cannot reach Redis" in said
        assert "certificate" in said


async def test_a_certificate_of_ones_own_authority_is_trusted_when_the_url_names_it(
    tls_port: int, queue_name: str
) -> None:
    url = f"rediss://localhost:{tls_port}?ssl_ca_certs={CERTIFICATE}"
    assert await ask(queue_name, url, trusted=False) == [1]


async def test_a_server_that_asks_for_a_certificate_gets_that_of_the_url(server: Server, queue_name: str) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=CERTIFICATE)
    context.load_cert_chain(CERTIFICATE)
    context.verify_mode = ssl.CERT_REQUIRED

    async with proxied(server, context) as gate:
        url = f"rediss://localhost:{gate.port}?ssl_ca_certs={CERTIFICATE}"
        shown = f"{url}&ssl_certfile={CERTIFICATE}&ssl_keyfile={CERTIFICATE}"
        (without, with_one) = await ask(queue_name, url, shown, trusted=False)
    assert isinstance(without, str)
    assert with_one == 1
