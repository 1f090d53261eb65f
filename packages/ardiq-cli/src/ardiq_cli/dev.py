"""`ardiq dev`: a worker for development, with a Redis server where there is none."""

from typing import TYPE_CHECKING

from ardiq_cli.exits import boundary
from ardiq_cli.logs import LogFormat
from ardiq_cli.run import Concurrency, Format, Quiet, Target, Verbose

if TYPE_CHECKING:
    from ardiq import Ardiq
    from ardiq_cli.embedded import EmbeddedServer

_SERVER_END_S = 30.0
"""How long the server may take to end; it writes what it has not written yet."""


def dev(
    target: Target,
    concurrency: Concurrency = None,
    verbose: Verbose = False,
    quiet: Quiet = False,
    log_format: Format = LogFormat.CONSOLE,
) -> None:
    """Run a worker, and a Redis server for this project unless $ARDIQ_REDIS_URL names one.

    All `ardiq dev` of one project share the server; its data stays in the project's `.ardiq` directory.
    """
    with boundary(verbose=verbose):
        import os

        from ardiq_cli import ending
        from ardiq_cli.embedded import EmbeddedServer, project_place
        from ardiq_cli.worker import WorkerOptions, run_worker

        options = WorkerOptions(target, concurrency=concurrency, verbose=verbose, quiet=quiet, log_format=log_format)
        if os.environ.get("ARDIQ_REDIS_URL"):
            raise SystemExit(run_worker(options))
        server = EmbeddedServer(project_place())
        # The application picks the URL up when it is imported; the server is started after that, if it was.
        os.environ["ARDIQ_REDIS_URL"] = server.url
        try:
            code = run_worker(options, _StartServer(server))
        finally:
            ending.extend(_SERVER_END_S)
            server.close()
            ending.extend()
        raise SystemExit(code)


class _StartServer:
    def __init__(self, server: "EmbeddedServer") -> None:
        self._server = server

    def loaded(self, app: "Ardiq") -> None:
        import logging

        log = logging.getLogger("ardiq.dev")
        server = self._server
        if app.redis_url != server.url:
            log.info("the application names its own Redis: no development server is needed")
            return
        server.start()
        whose = "shared with another command" if server.pid is None else f"pid {server.pid}"
        log.info("development server (%s); for other programs: ARDIQ_REDIS_URL=%s", whose, server.url)

    def connected(self) -> None:
        pass

    def drained(self) -> None:
        pass

    def last_step(self) -> None:
        self._server.close()
