"""`ardiq demo`: real work in real processes, one of which is killed, and a summary at the end."""

from ardiq_cli.exits import CommandError, ExitCode, boundary
from ardiq_cli.run import Verbose


def demo(verbose: Verbose = False) -> None:
    """Hash every file of this directory with two workers, kill one of them, and show that nothing
    is lost.

    It needs no running server: it starts its own, unless $ARDIQ_REDIS_URL names one.
    """
    with boundary(verbose=verbose, only_shows=True):
        import asyncio
        import signal
        from pathlib import Path

        from ardiq_cli.demo_environment import environment
        from ardiq_cli.demo_files import collect
        from ardiq_cli.signals import stop_signals
        from ardiq_cli.terminal import take_any_text

        source = collect(Path.cwd())
        if not source.paths:
            raise CommandError("this directory has no files to work on", ExitCode.USAGE)
        take_any_text()
        # Any stop signal, like Ctrl-C, has to run the `finally` blocks that end what the demo
        # started.
        for number in stop_signals():
            if number is not signal.SIGINT:
                signal.signal(number, lambda _number, _frame: signal.raise_signal(signal.SIGINT))
        with environment() as scratch:
            # Import this after the environment is set: the tasks' application reads the
            # environment.
            from ardiq_cli.demo_run import Demo

            balance = asyncio.run(Demo(source, scratch).run())
        raise SystemExit(ExitCode.OK if balance.clean else ExitCode.FAILED)
