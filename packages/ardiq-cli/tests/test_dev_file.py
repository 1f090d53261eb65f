"""`ardiq dev` can be found as long as it runs: it checks its own file, and restores what is
removed.
"""

import logging
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ardiq import Ardiq
from ardiq.development import find_server
from ardiq.options import DEFAULT_URL
from ardiq_cli import dev_file, embedded, target
from ardiq_cli.embedded import EmbeddedServer, Place, answers, project_place
from ardiq_cli.exits import CommandError, ExitCode
from tests.development import doubled, server_pids
from tests.programs import StartProgram, alive, eventually

Ask = Callable[..., subprocess.CompletedProcess[str]]
Module = Callable[[str], None]


@pytest.fixture
def place(project: Path) -> Place:
    return project_place(project)


@pytest.fixture
def server(place: Place) -> Iterator[EmbeddedServer]:
    """A server of this process that announces itself; not started."""
    server = EmbeddedServer(place, announces=True)
    yield server
    server.close()


def test_dev_says_that_programs_do_not_follow_a_link(
    ardiq: StartProgram, url: str, project: Path, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (project / ".ardiq").symlink_to(tmp_path / "elsewhere")
    program = ardiq("dev", "tasks:app")
    program.await_output(" serves ")
    why = f"{project / '.ardiq'} is a symbolic link"
    assert f"programs cannot find it, because {why}: export ARDIQ_REDIS_URL={url}" in program.output
    assert "use it; elsewhere" not in program.output
    assert doubled(url, 21) == 42, "with the URL they can"


def test_dev_says_that_programs_trust_no_file_system_without_modes(
    start: StartProgram, url: str, project: Path
) -> None:
    directory = project / ".ardiq"
    directory.mkdir()
    directory.chmod(0o777)
    code = (
        "import pathlib, runpy, sys; pathlib.Path.chmod = lambda *_, **__: None; "
        "sys.argv = ['ardiq', 'dev', 'tasks:app']; runpy.run_module('ardiq_cli', run_name='__main__')"
    )
    program = start("-c", code)
    program.await_output(" serves ")
    why = f"other users can write to {directory}"
    assert f"programs cannot find it, because {why}: export ARDIQ_REDIS_URL={url}" in program.output


def test_a_file_system_that_refuses_to_change_modes_is_no_error(
    server: EmbeddedServer, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object, **_options: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "chmod", refuse)
    server.start()
    assert answers(place.socket)


def test_a_data_directory_of_another_user_is_an_error(server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object, **_options: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "chmod", refuse)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(CommandError, match=r"cannot keep data in .*: Operation not permitted"):
        server.start()


def test_a_removed_file_is_written_again(ardiq: StartProgram, url: str, project: Path) -> None:
    program = ardiq("dev", "tasks:app")
    program.await_output(" serves ")
    (project / ".ardiq" / "dev.json").unlink()
    eventually(lambda: find_server(str(project)).server == (url, str(project), program.pid), "the file")
    assert "starting" not in program.output, "the server goes on"


def test_a_removed_directory_comes_back_with_a_server_that_both_share(
    ardiq: StartProgram, url: str, project: Path
) -> None:
    first = ardiq("dev", "tasks:app")
    first.await_output(" serves ")
    (before,) = server_pids(first)
    shutil.rmtree(project / ".ardiq")
    second = ardiq("dev", "tasks:app")
    second.await_output(" serves ")
    first.await_output(f"{project / '.ardiq' / 'lock'} was removed; restarting the development server")
    assert not alive(before), "two servers would each have some of the jobs"
    found = find_server(str(project)).server
    assert found is not None
    assert (found.url, found.pid in (first.pid, second.pid)) == (url, True)
    assert doubled(url, 21) == 42
    for program in (first, second):
        program.send(signal.SIGTERM)
        assert program.end() == ExitCode.OK


def test_a_new_lock_starts_no_second_server_beside_the_first(server: EmbeddedServer, place: Place) -> None:
    server.start()
    before = server.pid
    assert before is not None
    shutil.rmtree(place.data)
    other = EmbeddedServer(place, announces=True)
    other.start()
    try:
        assert not alive(before)
        eventually(lambda: (server.pid is None) != (other.pid is None), "one of them has the server")
    finally:
        other.close()


def test_another_server_that_still_answers_is_an_error(server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "answers", lambda path: True)
    monkeypatch.setattr(embedded, "_START_TIMEOUT_S", 0.1)
    with pytest.raises(CommandError, match=r"another server answers at .*\.sock; end the command that runs it"):
        server.start()
    assert server.pid is None


def test_a_command_that_shares_the_server_follows_it_to_the_new_directory(
    ardiq: StartProgram, url: str, project: Path
) -> None:
    first = ardiq("dev", "tasks:app")
    first.await_output(" serves ")
    second = ardiq("dev", "tasks:app")
    second.await_output(" serves ")
    shutil.rmtree(project / ".ardiq")
    first.await_output("was removed; restarting the development server")
    eventually(lambda: find_server(str(project)).server is not None, "the new server")
    for program in (first, second):
        program.send(signal.SIGTERM)
        assert program.end() == ExitCode.OK
        if program is first:
            eventually(lambda: answers(project_place(project).socket), "the second's server")
            assert doubled(url, 21) == 42


def test_a_removed_socket_comes_back_with_all_jobs(ardiq: StartProgram, url: str, project: Path) -> None:
    program = ardiq("dev", "tasks:app")
    program.await_output(" serves ")
    job = Ardiq(redis_url=url).ref("double").options(delay_ms=1000).enqueue_sync(4)
    socket = project_place(project).socket
    socket.unlink()
    program.await_output(f"{socket} was removed; restarting the development server")
    eventually(lambda: answers(socket), "the new server")
    result = job.result_sync(timeout=20)
    assert result is not None
    assert result.value == 8


def test_the_server_goes_on_while_its_project_is_elsewhere(ardiq: StartProgram, url: str, project: Path) -> None:
    program = ardiq("dev", "tasks:app", "--no-reload")
    program.await_output(" serves ")
    (pid,) = server_pids(program)
    project.rename(project.with_name("moved"))
    program.await_output("cannot keep the development server running; trying again")
    assert doubled(url, 21) == 42
    assert not project.exists()
    project.with_name("moved").rename(project)
    assert find_server(str(project)).server is not None
    assert alive(pid)


def test_a_file_that_cannot_be_written_is_logged_once_and_tried_again(
    server: EmbeddedServer, place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write, failures = dev_file.write, iter(range(3))

    def fails_at_first(directory: Path, url: str) -> None:
        if next(failures, None) is not None:
            raise OSError(28, "No space left on device")
        write(directory, url)

    monkeypatch.setattr(dev_file, "write", fails_at_first)
    server.start()
    eventually(lambda: find_server(str(place.data.parent)).server, "the file")
    (line,) = caplog.records
    assert line.levelname == "ERROR"
    assert "programs cannot find the development server; trying again" in line.message
    assert "No space left on device" in line.message


def test_an_unfinished_file_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: object, **_options: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space"):
        dev_file.write(tmp_path, "unix:///tmp/some.sock")
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("error", [OSError(12, "Cannot allocate memory"), CommandError("no Redis server found")])
def test_a_server_that_cannot_be_started_again_is_logged_once_and_tried_again(
    server: EmbeddedServer,
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    server.start()
    pid = server.pid
    assert pid is not None
    program, failures = embedded.find_server(), iter(range(3))

    def fails_at_first() -> Path:
        if next(failures, None) is not None:
            raise error
        return program

    monkeypatch.setattr(embedded, "find_server", fails_at_first)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: answers(place.socket) and server.pid not in (pid, None), "a new server")
    lines = [record.message for record in caplog.records if record.levelno == logging.ERROR]
    assert lines == [f"cannot keep the development server running; trying again: {error}"]
    assert len([record for record in caplog.records if "restarting it" in record.message]) == 1


def test_an_empty_variable_names_no_server(ardiq: StartProgram, ask: Ask, url: str, project: Path) -> None:
    ardiq("dev", "tasks:app", ARDIQ_REDIS_URL="").await_output(" serves ")
    done = ask("inspect", "queues", ARDIQ_REDIS_URL="")
    assert done.stderr == f"ardiq: using the development server of {project}, {url}\n"
    assert done.returncode == ExitCode.OK


def test_a_command_warns_as_a_program_does(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ARDIQ_REDIS_URL", "")
    monkeypatch.chdir(project)
    (project / ".ardiq").mkdir(mode=0o700)
    target._server.cache_clear()
    try:
        assert target._server(None) == DEFAULT_URL  # it does not connect
    finally:
        target._server.cache_clear()
    assert capsys.readouterr().err == (
        f"ardiq: no development server is running for {project}, so {DEFAULT_URL} is used: "
        "start `ardiq dev` there, or set $ARDIQ_REDIS_URL\n"
    )
