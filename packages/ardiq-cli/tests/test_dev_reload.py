"""`ardiq dev` starts its worker again after a change or a crash, and the server outlives the
worker.
"""

import asyncio
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from ardiq import Ardiq, TaskStatus
from ardiq_cli.dev_watch import Sources
from ardiq_cli.embedded import project_place
from ardiq_cli.exits import ExitCode
from tests.programs import DEADLINE_S, Program, StartProgram, alive, eventually, open_files
from tests.servers import Server

Module = Callable[[str], None]

TASKS = """
    import asyncio, os, pathlib
    from ardiq import Ardiq
    app = Ardiq(queue_name="shop")

    @app.task
    async def version(): return 1

    @app.task
    async def nap(seconds):
        pathlib.Path("started").touch()
        await asyncio.sleep(seconds)

    @app.task(max_retries=0)
    def die(): os._exit(7)
"""


@pytest.fixture
def client(project: Path, module: Module, without_url: None) -> Ardiq:
    """An app for the queue whose tasks are in the project's `tasks.py`."""
    module(TASKS)
    return Ardiq(redis_url=project_place(project).url, queue_name="shop")


def workers(program: Program) -> list[int]:
    return [int(pid) for pid in re.findall(r"\[(\d+)\] ardiq\.worker: worker \S+ serves", program.output)]


def server_pids(program: Program) -> list[int]:
    return [int(pid) for pid in re.findall(r"development server \(pid (\d+)\)", program.output)]


def ends(program: Program) -> None:
    program.send(signal.SIGTERM)
    assert program.end() == ExitCode.OK, program.output


def test_a_change_brings_the_new_code(ardiq: StartProgram, client: Ardiq, module: Module) -> None:
    program = ardiq("dev", "tasks:app")
    program.await_output(" serves ")
    module(TASKS.replace("return 1", "return 2").replace("die()", "new()"))
    program.await_output("tasks.py changed: restarting the worker")
    program.await_output(" serves ", 2)
    program.await_output("tasks: version, nap, new")
    result = client.ref("version").enqueue_sync().result_sync(timeout=20)
    assert result is not None
    assert result.value == 2
    assert len(set(workers(program))) == 2
    assert program.output.count("development server (") == 1
    ends(program)


def test_a_new_module_in_a_new_directory_is_noticed(ardiq: StartProgram, client: Ardiq, project: Path) -> None:
    program = ardiq("dev", "tasks:app")
    program.await_output(" serves ")
    package = project / "orders"
    package.mkdir()
    (package / "api.py").touch()
    program.await_output("orders/api.py changed")
    ends(program)


def test_a_directory_that_is_removed_ends_no_watch(
    ardiq: StartProgram, client: Ardiq, project: Path, module: Module
) -> None:
    for name in ("orders", "stock"):
        (project / name).mkdir()
    program = ardiq("dev", "tasks:app")
    program.await_output(" serves ")
    for name in ("orders", "stock"):
        (project / name).rmdir()
    module(f"{TASKS}    # again")
    program.await_output("tasks.py changed")
    assert "no longer noticed" not in program.output
    program.send(signal.SIGTERM)
    assert program.end() == ExitCode.OK, program.output


def test_other_files_change_nothing(ardiq: StartProgram, client: Ardiq, project: Path, module: Module) -> None:
    program = ardiq("dev", "tasks:app")
    program.await_output(" serves ")
    (project / "notes.txt").write_text("x")
    (project / ".#tasks.py").write_text("x")
    hidden = project / ".venv" / "lib"
    hidden.mkdir(parents=True)
    (hidden / "x.py").write_text("x")
    module(TASKS.replace("return 1", "return 2"))
    program.await_output(" serves ", 2)
    # Changes come in order, so the others would have been noticed before.
    assert [line.rpartition("ardiq.dev: ")[2] for line in program.output.splitlines() if "changed" in line] == [
        "tasks.py changed: restarting the worker"
    ]
    ends(program)


def test_a_running_task_runs_again_with_the_new_code(
    ardiq: StartProgram, client: Ardiq, module: Module, project: Path
) -> None:
    program = ardiq("dev", "tasks:app")
    program.await_output(" serves ")
    job = client.ref("nap").enqueue_sync(600)
    eventually(lambda: (project / "started").exists(), "the start of the task")
    module(TASKS.replace("await asyncio.sleep(seconds)", "return 'new'"))
    result = job.result_sync(timeout=20)
    assert result is not None
    assert (result.value, result.tries) == ("new", 1)
    assert "tasks that are still running after 1 s are returned to the queue" in program.output
    ends(program)


def test_a_broken_change_is_shown_and_mended_by_the_next_one(
    ardiq: StartProgram, client: Ardiq, module: Module
) -> None:
    program = ardiq("dev", "tasks:app")
    program.await_output(" serves ")
    module("def broken(")
    program.await_output("importing tasks failed")
    program.await_output("it will be restarted when a file changes")
    module(TASKS)
    program.await_output(" serves ", 2)
    ends(program)


def test_without_reload_a_change_is_ignored(ardiq: StartProgram, client: Ardiq, module: Module, project: Path) -> None:
    program = ardiq("dev", "tasks:app", "--no-reload")
    program.await_output(" serves ")
    assert "inotify" not in "".join(open_files(program.pid))
    module(TASKS.replace("return 1", "return 2"))
    result = client.ref("version").enqueue_sync().result_sync(timeout=20)
    assert result is not None
    assert result.value == 1
    ends(program)


def test_the_server_survives_the_death_of_the_worker(ardiq: StartProgram, client: Ardiq) -> None:
    program = ardiq("dev", "tasks:app")
    program.await_output(" serves ")
    (server,) = server_pids(program)
    os.kill(workers(program)[0], signal.SIGKILL)
    program.await_output("the worker was killed by SIGKILL; another starts in")
    program.await_output(" serves ", 2)
    assert alive(server)
    assert server_pids(program) == [server]
    result = client.ref("version").enqueue_sync().result_sync(timeout=20)
    assert result is not None
    assert result.value == 1
    ends(program)
    assert not alive(server)


def test_a_task_that_ends_the_process_does_not_end_the_command(ardiq: StartProgram, client: Ardiq) -> None:
    program = ardiq("dev", "tasks:app")
    program.await_output(" serves ")
    client.ref("die").enqueue_sync()
    program.await_output("the worker ended with status 7")
    program.await_output(" serves ", 2)
    ends(program)


def test_a_worker_that_outlives_the_command_would_be_an_orphan(ardiq: StartProgram, client: Ardiq) -> None:
    program = ardiq("dev", "tasks:app")
    program.await_output(" serves ")
    (worker,) = workers(program)
    program.send(signal.SIGKILL)
    program.end()
    eventually(lambda: not alive(worker), "the end of the worker")


def test_the_second_signal_returns_running_tasks_and_the_third_ends_everything(
    ardiq: StartProgram, client: Ardiq, project: Path, module: Module
) -> None:
    program = ardiq("dev", "tasks:app")
    program.await_output(" serves ")
    client.ref("nap").enqueue_sync(600)
    eventually(lambda: (project / "started").exists(), "the start of the task")
    program.send(signal.SIGINT)
    program.await_output("press Ctrl-C again")
    program.await_output("1 running task has 30 s to finish")
    program.send(signal.SIGINT)
    assert program.end() == ExitCode.OK
    assert "has signed off" in program.output


def test_the_third_signal_ends_a_worker_whose_loop_is_blocked(
    ardiq: StartProgram, client: Ardiq, project: Path, module: Module
) -> None:
    module(TASKS.replace("await asyncio.sleep(seconds)", "__import__('time').sleep(seconds)"))
    program = ardiq("dev", "tasks:app")
    program.await_output(" serves ")
    client.ref("nap").enqueue_sync(600)
    eventually(lambda: (project / "started").exists(), "the start of the task")
    for answer in ("press Ctrl-C again", "second signal", "third signal"):
        # Signals that come at one time may count as one.
        program.send(signal.SIGTERM)
        program.await_output(answer)
    assert program.end() == ExitCode.FAILED
    assert not any(alive(pid) for pid in (*workers(program), *server_pids(program)))


def test_a_drained_burst_application_ends_the_command(ardiq: StartProgram, client: Ardiq, module: Module) -> None:
    module(TASKS.replace('queue_name="shop"', 'queue_name="shop", burst=True'))
    program = ardiq("dev", "tasks:app")
    assert program.end() == ExitCode.OK, program.output
    assert "has signed off" in program.output


def test_it_reloads_beside_a_server_that_the_environment_names(
    ardiq: StartProgram, client: Ardiq, server: Server, queue_name: str, module: Module
) -> None:
    module(TASKS.replace('"shop"', repr(queue_name)))
    program = ardiq("dev", "tasks:app", ARDIQ_REDIS_URL=server.url)
    program.await_output(" serves ")
    module(TASKS.replace('"shop"', repr(queue_name)).replace("return 1", "return 2"))
    program.await_output(" serves ", 2)
    job = Ardiq(server.url, queue_name).ref("version").enqueue_sync()
    eventually(lambda: job.status_sync() is TaskStatus.COMPLETE, "the job")
    ends(program)


def test_a_server_that_cannot_start_ends_the_command_and_says_why(
    ardiq: StartProgram, client: Ardiq, project: Path
) -> None:
    (project / ".ardiq").write_text("in the way")
    program = ardiq("dev", "tasks:app")
    assert program.end() == ExitCode.FAILED
    assert f"ardiq: cannot keep data in {project / '.ardiq'}: File exists" in program.output
    (project / ".ardiq").unlink()
    (project / ".ardiq" / "lock").mkdir(parents=True)
    program = ardiq("dev", "tasks:app")
    assert program.end() == ExitCode.FAILED
    assert f"ardiq: cannot open {project / '.ardiq' / 'lock'}: Is a directory" in program.output
    assert "Traceback" not in program.output


async def test_a_change_before_the_watch_begins_is_noticed(tmp_path: Path) -> None:
    for name in ("changed.py", "removed.py", "same.py"):
        (tmp_path / name).touch()
    sources = Sources(tmp_path)
    (tmp_path / "changed.py").write_text("x")
    (tmp_path / "removed.py").unlink()
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "added.py").touch()
    changes = sources.changes()
    async with asyncio.timeout(DEADLINE_S):
        files = await anext(changes)
    assert files == [tmp_path / "changed.py", tmp_path / "new" / "added.py", tmp_path / "removed.py"]
    await changes.aclose()


async def test_a_change_while_the_watch_begins_anew_is_noticed(tmp_path: Path) -> None:
    changes = Sources(tmp_path).changes()
    async with asyncio.timeout(DEADLINE_S):
        first = asyncio.ensure_future(anext(changes))
        for number in range(20):
            (tmp_path / f"d{number}").mkdir()
            (tmp_path / f"d{number}" / "x.py").touch()
            await asyncio.sleep(0)
        found = set(await first)
        while len(found) < 20:
            found.update(await anext(changes))
    assert found == {tmp_path / f"d{number}" / "x.py" for number in range(20)}
    await changes.aclose()


def test_directories_without_sources_are_not_watched(tmp_path: Path) -> None:
    for name in ("src/shop", ".git/objects", "venv/lib", "node_modules/x", "src/__pycache__"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "venv" / "pyvenv.cfg").touch()
    assert Sources(tmp_path).directories == [tmp_path, tmp_path / "src", tmp_path / "src" / "shop"]
