"""The environment of `ardiq demo`: a scratch directory, a server, and a queue that is used once."""

import os
import tempfile
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

URL_VARIABLE = "ARDIQ_REDIS_URL"
QUEUE_VARIABLE = "ARDIQ_DEMO_QUEUE"


@contextmanager
def environment() -> Generator[Path, None, None]:
    """Name the server and the queue in this process's environment, for `ardiq_cli.demo_tasks` here
    and in the workers.

    It starts a new server that ends with this block, unless the environment already names one.
    Yields a directory for logs, removed at the end.
    """
    from ardiq_cli.embedded import EmbeddedServer, find_server, temporary_place

    os.environ[QUEUE_VARIABLE] = f"ardiq-demo-{uuid.uuid4().hex[:12]}"
    with tempfile.TemporaryDirectory(prefix="ardiq-demo-") as directory:
        scratch = Path(directory)
        if os.environ.get(URL_VARIABLE):
            # Do not show the URL itself: it may contain a password.
            print(f"using the Redis that ${URL_VARIABLE} names")
            yield scratch
            return
        server = EmbeddedServer(temporary_place(scratch / "redis"))
        server.start()
        print(f"started {find_server().name} on {server.place.socket}")
        os.environ[URL_VARIABLE] = server.url
        try:
            yield scratch
        finally:
            del os.environ[URL_VARIABLE]
            server.close()
