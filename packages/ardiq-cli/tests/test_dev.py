"""`ardiq dev`: a worker with a server for the project, which is shared, durable and never left
behind.
"""

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ardiq import Ardiq
from ardiq.development import find_server
from ardiq_cli.embedded import answers, project_place
from ardiq_cli.exits import ExitCode
from tests.development import TASKS, doubled, server_pids
from tests.programs import StartProgram, alive, eventually
from tests.servers import Server

Ask = Callable[..., subprocess.CompletedProcess[str]]
Module = Callable[[str], None]


def test_dev_brings_its_own_server(ardiq: StartProgram, url: str) -> None:
    program = ardiq("dev", "tasks:app")
    program.await_output(" serves ")
    assert f"ARDIQ_REDIS_URL={url}" in program.output
    assert doubled(url, 21) == 42
    pid = server_pids(program)[-1]
    program.send(signal.SIGINT)
    assert program.end() == ExitCode.OK
    assert "has signed off" in program.output
    assert not alive(pid)


def test_jobs_survive_from_one_run_to_the_next(ardiq: StartProgram, url: str) -> None:
    program = ardiq("dev", "tasks:app")
    program.await_output(" serves ")
    job = Ardiq(redis_url=url).ref("double").options(delay_ms=1000).enqueue_sync(4)
    program.send(signal.SIGTERM)
    program.end()
    program = ardiq("dev", "tasks:app")
    program.await_output(" serves ")
    result = job.result_sync(timeout=20)
    assert result is not None
    assert result.value == 8


def test_killed_dev_leaves_no_server_behind(ardiq: StartProgram, url: str) -> None:
    program = ardiq("dev", "tasks:app")
    program.await_output(" serves ")
    pid = server_pids(program)[-1]
    assert alive(pid)
    program.send(signal.SIGKILL)
    program.end()
    eventually(lambda: not alive(pid), "the end of the server")


def test_second_dev_shares_the_server_and_carries_on_without_the_first(
    ardiq: StartProgram, url: str, project: Path
) -> None:
    first = ardiq("dev", "tasks:app")
    first.await_output(" serves ")
    second = ardiq("dev", "tasks:app")
    second.await_output(" serves ")
    assert "shared with another command" in second.output
    first.send(signal.SIGKILL)
    first.end()
    second.await_output("restarting the server")
    eventually(lambda: answers(project_place(project).socket), "the second's server")
    assert doubled(url, 5) == 10
    second.send(signal.SIGTERM)
    assert second.end() == ExitCode.OK


def test_dev_takes_the_server_that_the_environment_names(
    ardiq: StartProgram, module: Module, server: Server, queue_name: str, project: Path
) -> None:
    module(TASKS.replace("Ardiq()", f"Ardiq(queue_name={queue_name!r})"))
    program = ardiq("dev", "tasks:app", "-c", "3", "--log-format", "json", ARDIQ_REDIS_URL=server.url)
    program.await_output(" serves ")
    assert "development server" not in program.output
    assert not (project / ".ardiq").exists()
    program.send(signal.SIGTERM)
    assert program.end() == ExitCode.OK
    messages = [json.loads(line)["message"] for line in program.output.splitlines()]
    assert any("concurrency 3," in message for message in messages)


def test_dev_starts_no_server_for_an_application_that_names_its_own(
    ardiq: StartProgram, module: Module, server: Server, queue_name: str, project: Path, without_url: None
) -> None:
    module(TASKS.replace("Ardiq()", f"Ardiq(redis_url={server.url!r}, queue_name={queue_name!r})"))
    program = ardiq("dev", "tasks:app")
    program.await_output(" serves ")
    assert "no development server is needed" in program.output
    assert not (project / ".ardiq").exists()
    program.send(signal.SIGTERM)
    assert program.end() == ExitCode.OK


def test_dev_with_a_broken_module_is_status_2_and_starts_nothing(
    ardiq: StartProgram, module: Module, project: Path, without_url: None
) -> None:
    module("raise RuntimeError('no settings')")
    program = ardiq("dev", "tasks:app")
    assert program.end() == ExitCode.USAGE
    assert not (project / ".ardiq").exists()


def test_its_file_is_private_and_goes_with_it(ardiq: StartProgram, url: str, project: Path) -> None:
    program = ardiq("dev", "tasks:app")
    program.await_output(" serves ")
    file = project / ".ardiq" / "dev.json"
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert (file.parent / ".gitignore").read_text() == "*\n"
    assert find_server(str(project)).server == (url, str(project), program.pid)
    program.send(signal.SIGTERM)
    assert program.end() == ExitCode.OK
    assert not file.exists()


def test_a_program_in_the_project_needs_no_export(
    ardiq: StartProgram, start: StartProgram, url: str, project: Path
) -> None:
    ardiq("dev", "tasks:app").await_output(" serves ")
    below = project / "scripts"
    below.mkdir()
    code = (
        "import logging, os, sys; logging.basicConfig(level='INFO'); os.chdir('scripts'); sys.path.append('..'); "
        "from tasks import double; print(double.enqueue_sync(21).result_sync(timeout=20).value)"
    )
    program = start("-c", code)
    assert program.end() == ExitCode.OK, program.output
    assert "42" in program.output.splitlines()
    assert f"INFO:ardiq.client:using the development server of {project}, {url}" in program.output


COMMANDS = [("inspect", "queues"), ("inspect", "workers"), ("inspect", "jobs"), ("drain", "--timeout", "20")]


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_command_in_the_project_says_in_one_line_which_server_it_uses(
    ardiq: StartProgram, ask: Ask, url: str, project: Path, arguments: tuple[str, ...]
) -> None:
    ardiq("dev", "tasks:app").await_output(" serves ")
    done = ask(*arguments)
    assert done.returncode == ExitCode.OK, done.stderr
    assert done.stderr.splitlines() == [f"ardiq: using the development server of {project}, {url}"]


def test_a_command_with_a_server_of_its_own_says_nothing(
    ardiq: StartProgram, ask: Ask, url: str, server: Server
) -> None:
    ardiq("dev", "tasks:app").await_output(" serves ")
    for done in (
        ask("inspect", "queues", "--url", server.url),
        ask("inspect", "queues", ARDIQ_REDIS_URL=server.url),
    ):
        assert (done.returncode, done.stderr) == (ExitCode.OK, "")


def test_run_in_the_project_serves_the_same_queue(ardiq: StartProgram, url: str, project: Path) -> None:
    ardiq("dev", "tasks:app").await_output(" serves ")
    program = ardiq("run", "tasks:app")
    program.await_output(" serves ")
    assert f"using the development server of {project}, {url}" in program.output
    assert f"serving queue default at {url}, lanes default" in program.output
    program.send(signal.SIGTERM)
    assert program.end() == ExitCode.OK


def test_the_file_follows_the_server_to_another_command(ardiq: StartProgram, url: str, project: Path) -> None:
    first = ardiq("dev", "tasks:app")
    first.await_output(" serves ")
    second = ardiq("dev", "tasks:app")
    second.await_output(" serves ")
    first.send(signal.SIGTERM)
    assert first.end() == ExitCode.OK
    second.await_output("restarting the server")
    eventually(lambda: find_server(str(project)).server == (url, str(project), second.pid), "the second's file")
    second.send(signal.SIGTERM)
    assert second.end() == ExitCode.OK
    assert find_server(str(project)).server is None


def test_a_killed_dev_leaves_a_file_that_no_program_uses(ardiq: StartProgram, url: str, project: Path) -> None:
    program = ardiq("dev", "tasks:app")
    program.await_output(" serves ")
    program.send(signal.SIGKILL)
    program.end()
    assert (project / ".ardiq" / "dev.json").exists()
    assert find_server(str(project)) == (None, str(project), None)


def test_the_file_stays_true_when_the_server_dies(ardiq: StartProgram, url: str, project: Path) -> None:
    program = ardiq("dev", "tasks:app")
    program.await_output(" serves ")
    os.kill(server_pids(program)[-1], signal.SIGKILL)
    assert find_server(str(project)).server is not None
    program.await_output("the development server ended (SIGKILL); restarting it")
    assert doubled(url, 21) == 42
