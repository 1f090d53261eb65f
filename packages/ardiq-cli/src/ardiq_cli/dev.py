"""`ardiq dev`: a worker for development that reloads, and starts a Redis server if none is
configured.
"""

from typing import TYPE_CHECKING, Annotated

import typer

from ardiq_cli.exits import boundary
from ardiq_cli.logs import LogFormat
from ardiq_cli.run import Concurrency, Format, Quiet, Target, Verbose

if TYPE_CHECKING:
    from ardiq_cli.embedded import EmbeddedServer


def dev(
    target: Target,
    concurrency: Concurrency = None,
    reload: Annotated[
        bool, typer.Option("--reload/--no-reload", help="Restart the worker when a Python file changes.")
    ] = True,
    verbose: Verbose = False,
    quiet: Quiet = False,
    log_format: Format = LogFormat.CONSOLE,
) -> None:
    """Run a worker for development: it reloads, and logs every attempt.

    Starts a Redis server for this project, unless $ARDIQ_REDIS_URL or the application names one.
    Programs and ardiq commands that run in this project use that server. All `ardiq dev`
    processes of one project share it. Its data stays in the project's `.ardiq` directory.
    """
    with boundary(verbose=verbose):
        import asyncio
        import os
        from pathlib import Path

        from ardiq_cli.dev_supervise import DevSupervisor
        from ardiq_cli.dev_worker import SERVER_VARIABLE
        from ardiq_cli.embedded import EmbeddedServer, project_place
        from ardiq_cli.logs import configure, settle
        from ardiq_cli.worker import WorkerOptions

        configure(log_format, verbose=verbose, quiet=quiet)
        settle()
        options = WorkerOptions(target, concurrency=concurrency, verbose=verbose, quiet=quiet, log_format=log_format)
        environment = dict(os.environ)
        server = None
        if not environment.get("ARDIQ_REDIS_URL"):
            server = EmbeddedServer(project_place(), announces=True)
            # The application reads the URL when it is imported. The server is started after that,
            # and only if the application uses it.
            environment |= {"ARDIQ_REDIS_URL": server.url, SERVER_VARIABLE: server.url}
        supervisor = DevSupervisor(options, environment, lambda: _start(server), Path.cwd() if reload else None)
        try:
            code = asyncio.run(supervisor.run())
        finally:
            if server is not None:
                server.close()
        raise SystemExit(code)


def _start(server: "EmbeddedServer | None") -> None:
    from ardiq.development import FILE, find_server
    from ardiq_worker.logs import Log

    if server is None or server.has_started:
        return
    server.start()
    whose = "shared with another command" if server.pid is None else f"pid {server.pid}"
    log = Log("ardiq.dev")
    log.info("development server (%s); its data is in %s", whose, server.place.data)
    project = server.place.data.parent
    # As the programs look for it: the file system may ignore modes, or `.ardiq` may be a link.
    found = find_server(str(project))
    if found.server is not None and found.server.url == server.url:
        log.info("programs in %s use it; elsewhere: export ARDIQ_REDIS_URL=%s", project, server.url)
    else:
        why = found.why or f"{server.place.data / FILE} is missing or names no running process"
        log.warning("programs cannot find it, because %s: export ARDIQ_REDIS_URL=%s", why, server.url)
