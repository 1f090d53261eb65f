"""`ardiq run` becomes a process that has only what a worker needs, under the same process id."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ardiq import Ardiq
from ardiq_cli.exits import ExitCode
from tests.programs import StartProgram
from tests.servers import Server

Ask = Callable[..., subprocess.CompletedProcess[str]]
Module = Callable[[str], None]

TASKS = """
    import json, os, sys
    from ardiq import Ardiq
    app = Ardiq(queue_name={queue!r}, priorities=["low", "default", "high"])

    @app.task
    async def facts():
        return {{
            "pid": os.getpid(),
            "parser": [name for name in ("typer", "click", "rich", "watchfiles", "ardiq_cli.main") if name in sys.modules],
            "flags": [sys.flags.dev_mode, sys.flags.optimize, bool(sys.stdout.write_through)],
            "argv": sys.argv,
        }}

    @app.cron("*/5 * * * *")
    async def restock(): ...

    @app.cron(every=3600)
    async def tidy(): ...
"""


@pytest.fixture
def client(server: Server, queue_name: str, module: Module) -> Ardiq:
    module(TASKS.format(queue=queue_name))
    return Ardiq(server.url, queue_name)


def test_the_worker_has_no_parser_in_memory_and_the_same_process_id(
    client: Ardiq, server: Server, ardiq: StartProgram
) -> None:
    job = client.ref("facts").enqueue_sync()
    program = ardiq("run", "tasks:app", "--burst", ARDIQ_REDIS_URL=server.url)
    assert program.end() == ExitCode.OK, program.output
    result = job.result_sync()
    assert result is not None
    assert result.value["pid"] == program.pid
    assert result.value["parser"] == []
    assert result.value["argv"] == ["ardiq", "run", "tasks:app"]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_options_of_the_interpreter_are_kept(
    client: Ardiq, server: Server, start: StartProgram, workers: str
) -> None:
    job = client.ref("facts").enqueue_sync()
    flags = ("-X", "dev", "-O", "-u", "-W", "ignore")
    program = start(*flags, "-m", "ardiq_cli", "run", "tasks:app", "-b", "-w", workers, ARDIQ_REDIS_URL=server.url)
    assert program.end() == ExitCode.OK, program.output
    result = job.result_sync()
    assert result is not None
    assert result.value["flags"] == [True, 1, True]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_file_named_like_a_module_of_python_breaks_no_start(
    client: Ardiq, server: Server, project: Path, environment: dict[str, str], workers: str
) -> None:
    for name in ("signal", "asyncio", "json"):
        (project / f"{name}.py").write_text("raise SystemExit('the wrong module')")
    ardiq = Path(sys.executable).with_name("ardiq")
    done = subprocess.run(
        [ardiq, "run", "tasks:app", "--burst", "-w", workers],
        cwd=project, env={**environment, "ARDIQ_REDIS_URL": server.url}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == ExitCode.OK, done.stderr


def test_a_stop_during_the_start_is_an_orderly_end(
    client: Ardiq, server: Server, ardiq: StartProgram, project: Path
) -> None:
    # The signal is pending before the worker's program has begun, as when it comes while that
    # program starts.
    code = (
        "import os, signal, sys\n"
        "from ardiq_cli.signals import held_back\n"
        "from ardiq_cli import worker_process\n"
        "execv = os.execv\n"
        "def late(*arguments):\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    execv(*arguments)\n"
        "os.execv = late\n"
        "sys.argv = ['ardiq', 'run', 'tasks:app']\n"
        "from ardiq_cli.main import main\n"
        "main()\n"
    )
    (project / "late.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "late.py"],
        cwd=project, env={**os.environ, "ARDIQ_REDIS_URL": server.url}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (ExitCode.OK, "")


def test_an_interpreter_that_cannot_be_started_again_runs_the_worker_itself(
    client: Ardiq, server: Server, start: StartProgram, project: Path
) -> None:
    code = "import sys; sys.executable = '/nonexistent/python'; from ardiq_cli.main import main; main()"
    job = client.ref("facts").enqueue_sync()
    program = start("-c", code, "run", "tasks:app", "--burst", ARDIQ_REDIS_URL=server.url)
    assert program.end() == ExitCode.OK, program.output
    result = job.result_sync()
    assert result is not None
    assert "typer" in result.value["parser"]


def test_an_interpreter_whose_path_was_prepared_runs_the_worker_itself(
    client: Ardiq, server: Server, start: StartProgram
) -> None:
    # As in an application in one file: a new interpreter would not find the packages.
    code = f"import sys; sys.path += {sys.path!r}; from ardiq_cli.main import main; main()"
    job = client.ref("facts").enqueue_sync()
    program = start("-S", "-c", code, "run", "tasks:app", "--burst", ARDIQ_REDIS_URL=server.url)
    assert program.end() == ExitCode.OK, program.output
    result = job.result_sync()
    assert result is not None
    assert "typer" in result.value["parser"]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_it_says_what_it_serves_once_and_without_the_password(
    client: Ardiq, server: Server, ardiq: StartProgram, queue_name: str, workers: str
) -> None:
    url = server.url.replace("redis://", "redis://default:@")
    program = ardiq("run", "tasks:app", "-w", workers, ARDIQ_REDIS_URL=f"{url}/0?client_name=hunter2")
    program.await_output(" ardiq.worker: worker ", int(workers))
    program.send(signal.SIGTERM)
    assert program.end() == ExitCode.OK
    lines = [line.rpartition("ardiq.worker: ")[2] for line in program.output.splitlines()]
    assert lines.count(f"serving queue {queue_name} at {server.url}/0, lanes high > default > low") == 1
    assert lines.count("tasks: facts, restock, tidy") == 1
    assert lines.count("schedules: restock (*/5 * * * * UTC), tidy (every 3600 s)") == 1
    assert "hunter2" not in program.output


def test_an_application_without_tasks_is_a_warning(server: Server, module: Module, ask: Ask, queue_name: str) -> None:
    module(f"from ardiq import Ardiq\napp = Ardiq(queue_name={queue_name!r})\n")
    done = ask("run", "tasks:app", "--burst", ARDIQ_REDIS_URL=server.url)
    assert "WARNING" in done.stderr
    assert "tasks:app has no tasks: import the modules that define tasks" in done.stderr


@pytest.mark.parametrize("package", ["ardiq", "ardiq_cli"])
def test_the_packages_can_be_run(package: str, project: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", package, "--help"], cwd=project, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (ExitCode.OK, "")
    assert done.stdout.startswith("Usage: ardiq [OPTIONS] COMMAND")


def test_without_the_command_line_the_client_says_what_to_install(project: Path) -> None:
    (project / "ardiq_cli.py").write_text("raise ModuleNotFoundError('gone', name='ardiq_cli')")
    done = subprocess.run([sys.executable, "-m", "ardiq", "run"], cwd=project, capture_output=True, text=True)
    assert done.returncode == ExitCode.USAGE
    assert done.stderr == "ardiq: the command line is not installed here: pip install ardiq-cli\n"
