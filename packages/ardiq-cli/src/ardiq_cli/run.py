"""`ardiq run`: a worker, or several supervised ones."""

from typing import TYPE_CHECKING, Annotated

import typer

from ardiq_cli.exits import boundary
from ardiq_cli.logs import LogFormat

if TYPE_CHECKING:
    from ardiq_cli.worker import WorkerOptions

Target = Annotated[str, typer.Argument(metavar="MODULE:APP", help="The application, such as shop.tasks:app.")]
Concurrency = Annotated[
    int | None, typer.Option("--concurrency", "-c", min=1, max=1_000_000, help="Jobs that one process runs at once.")
]
Grace = Annotated[
    float | None,
    typer.Option("--grace", min=0.0, max=1e9, help="Seconds that running jobs get to finish when stopping."),
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Debug messages, and tracebacks of errors.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Warnings and errors only.")]
Format = Annotated[LogFormat, typer.Option("--log-format", help="How the log is written to standard error.")]


def run(
    target: Target,
    burst: Annotated[
        bool, typer.Option("--burst", "-b", help="Exit when no job is waiting, running or scheduled.")
    ] = False,
    concurrency: Concurrency = None,
    workers: Annotated[
        int, typer.Option("--workers", "-w", min=1, max=1024, help="Worker processes to keep alive.")
    ] = 1,
    grace: Grace = None,
    verbose: Verbose = False,
    quiet: Quiet = False,
    log_format: Format = LogFormat.CONSOLE,
) -> None:
    """Run a worker for the application APP of MODULE; the current directory is importable.

    SIGTERM or Ctrl-C stops it gracefully, a second one skips the grace period.
    """
    with boundary(verbose=verbose):
        from ardiq_cli.worker import WorkerOptions, run_worker
        from ardiq_cli.worker_process import become

        options = WorkerOptions(target, burst, concurrency, grace, verbose, quiet, log_format)
        if workers == 1:
            become(options)
            raise SystemExit(run_worker(options))  # there is no interpreter to start
        raise SystemExit(_supervise(options, workers))


def _supervise(options: "WorkerOptions", workers: int) -> int:
    import asyncio
    from dataclasses import replace

    from ardiq_cli.logs import configure, settle
    from ardiq_cli.supervise import Supervisor
    from ardiq_cli.worker_process import command_line

    configure(options.log_format, verbose=options.verbose, quiet=options.quiet)
    settle()
    announces = True

    def command(tether: str, reports: int) -> list[str]:
        nonlocal announces
        child = replace(options, announces=announces, is_supervised=True)
        announces = False
        return command_line(child, tether, reports)

    return asyncio.run(Supervisor(command, workers).run())
