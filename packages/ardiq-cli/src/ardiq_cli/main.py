"""The console script `ardiq`: the list of its commands. Each command has its own module.

Those modules import what they need when they run, so that `--help` only costs the parser.
"""

# First of all, so that no signal ends the command meanwhile.
from ardiq_cli import early as early

# isort: split
from typing import Annotated

import typer

from ardiq_cli import streams
from ardiq_cli.abort import abort
from ardiq_cli.demo import demo
from ardiq_cli.dev import dev
from ardiq_cli.drain import drain
from ardiq_cli.exits import ExitCode, complain, describe
from ardiq_cli.help_text import examples
from ardiq_cli.inspect import inspect_app
from ardiq_cli.run import run
from ardiq_cli.schedule import schedule_app

# Without markup mode typer prints help and usage errors without rich, which would take longer than
# all the rest. Its tracebacks are off altogether: they show local variables, and those may be
# secrets.
app = typer.Typer(
    name="ardiq",
    help="Run and inspect ArdiQ workers.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples("ardiq dev shop.tasks:app", "ardiq run --help", "ardiq inspect queues"),
)
# The list of commands has a line for each, so every command has a summary that fits.
app.command(
    short_help="Run a worker, or several, for an application.",
    epilog=examples(
        "ardiq run shop.tasks:app",
        "ardiq run shop.tasks:app --workers 4 --concurrency 32",
        "ardiq run shop.tasks:app --burst --log-format json",
    ),
)(run)
app.add_typer(inspect_app, name="inspect")
app.command(
    short_help="Abort jobs by their ids.",
    epilog=examples("ardiq abort --queue shop JOB_ID", "ardiq abort --queue shop --wait 60 JOB_ID JOB_ID"),
)(abort)
app.add_typer(schedule_app, name="schedule")
app.command(
    short_help="Wait until no job in a queue is waiting or running.",
    epilog=examples("ardiq drain --queue shop", "ardiq drain --queue shop --timeout 60"),
)(drain)
app.command(
    short_help="Run a worker that reloads, with a server of its own.",
    epilog=examples("ardiq dev shop.tasks:app", "ARDIQ_REDIS_URL=redis://localhost:6379 ardiq dev shop.tasks:app"),
)(dev)
app.command(
    short_help="Kill a worker halfway through, and lose no jobs.",
    epilog=examples("ardiq demo"),
)(demo)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"ardiq {version('ardiq-cli')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Run and inspect ArdiQ workers."""


def main() -> None:
    """Entry point of the console script, and of `python -m ardiq`."""
    streams.prepare()
    try:
        app(prog_name="ardiq")
    except OSError as error:  # help, the version or a usage error cannot be written
        complain(describe(error))
        raise SystemExit(getattr(error.__context__, "exit_code", ExitCode.FAILED)) from None
