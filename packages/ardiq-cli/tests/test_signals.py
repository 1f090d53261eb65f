"""The effect of signals on a worker, alone, supervised and in `ardiq dev`: which ones stop it
gracefully, and which ones it survives.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from ardiq import Ardiq, Job, TaskResult
from ardiq_cli.embedded import project_place
from ardiq_cli.exits import ExitCode
from tests.programs import Program, StartProgram, alive, eventually
from tests.servers import Server

Module = Callable[[str], None]

WORKERS = pytest.mark.parametrize("workers", ["1", "2"])
HARMLESS = [signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2]

TASKS = """
    import asyncio, os, pathlib, signal, time
    from ardiq import Ardiq
    app = Ardiq(queue_name={queue!r}, idle_timeout_ms=2000)

    @app.task(max_retries=0)
    async def wait_for(mark, file):
        pathlib.Path(mark).touch()
        while not os.path.exists(file):
            await asyncio.sleep(0.01)
        return os.getpid()

    @app.task(max_retries=0)
    async def block(mark):
        pathlib.Path(mark).touch()
        time.sleep(1000)

    def descend(steps):
        if steps:
            descend(steps - 1)

    @app.task(max_retries=0)
    def compute():
        for _ in range(20):
            descend(50)
"""


# Unlike `time.sleep`, it does not return to the interpreter when a signal comes.
SLEEPS_IN_C = """
    import ctypes
    forever = ctypes.CDLL(None).pthread_cond_wait

    def nothing(): pass

    def add(loop): loop.add_signal_handler(signal.SIGUSR1, nothing)

    def remove(loop): add(loop), loop.remove_signal_handler(signal.SIGUSR1)

    def keep(loop): pass

    @app.task(max_retries=0)
    async def sleep_in_c(mark, before):
        globals()[before](asyncio.get_running_loop())
        pathlib.Path(mark).touch()
        forever(ctypes.create_string_buffer(64), ctypes.create_string_buffer(64))
"""


@pytest.fixture
def app(server: Server, queue_name: str, module: Module) -> Ardiq:
    """An app for the queue whose tasks are in the project's `tasks.py`."""
    module(TASKS.format(queue=queue_name))
    return Ardiq(redis_url=server.url, queue_name=queue_name)


def begin(app: Ardiq, project: Path) -> Job[int]:
    """A job that has started and runs until there is a file `go`."""
    job = app.ref("wait_for").enqueue_sync("started", "go")
    eventually(lambda: (project / "started").exists(), "the start of the task")
    return job


def first_run(job: Job[int]) -> TaskResult[int]:
    """Return the result, which shows that nothing has interrupted the job."""
    result = job.result_sync(timeout=20)
    assert result is not None
    assert (result.success, result.tries) == (True, 1)
    return result


@WORKERS
def test_hangup_stops_in_order(app: Ardiq, server: Server, ardiq: StartProgram, project: Path, workers: str) -> None:
    program = ardiq("run", "tasks:app", "-w", workers, ARDIQ_REDIS_URL=server.url)
    program.await_output(" serves ", int(workers))
    job = begin(app, project)
    program.send(signal.SIGHUP)
    program.await_output("to finish", int(workers))
    (project / "go").touch()
    assert program.end() == ExitCode.OK
    first_run(job)


@WORKERS
def test_under_nohup_a_hangup_means_nothing(
    app: Ardiq, server: Server, start: StartProgram, project: Path, workers: str
) -> None:
    nohup = (
        "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN);"
        "os.execv(sys.executable, [sys.executable, '-m', 'ardiq_cli', *sys.argv[1:]])"
    )
    program = start("-c", nohup, "run", "tasks:app", "-w", workers, ARDIQ_REDIS_URL=server.url)
    program.await_output(" serves ", int(workers))
    job = begin(app, project)
    program.send(signal.SIGHUP)
    (project / "go").touch()
    pid = first_run(job).value
    os.kill(pid, signal.SIGHUP)
    (project / "started").unlink()
    assert first_run(begin(app, project)).value in (pid, *workers_of(program))
    program.send(signal.SIGTERM)
    assert program.end() == ExitCode.OK


def workers_of(program: Program) -> list[int]:
    words = [line.split() for line in program.output.splitlines() if " serves " in line]
    return [int(line[2].strip("[]")) for line in words]


@WORKERS
@pytest.mark.parametrize("number", HARMLESS)
def test_a_worker_survives_other_signals(
    app: Ardiq, server: Server, ardiq: StartProgram, project: Path, workers: str, number: signal.Signals
) -> None:
    program = ardiq("run", "tasks:app", "-w", workers, ARDIQ_REDIS_URL=server.url)
    program.await_output(" serves ", int(workers))
    job = begin(app, project)
    program.send(number)
    if number is signal.SIGQUIT:
        program.await_output("[MainThread]", int(workers))
        program.await_output("asyncio tasks (", int(workers))
        program.await_output("in wait_for")
    else:
        program.await_output(f"{number.name} has no handler in this application", int(workers))
    (project / "go").touch()
    first_run(job)
    assert len(workers_of(program)) == int(workers)
    program.send(signal.SIGTERM)
    assert program.end() == ExitCode.OK


SIGNALED_EARLY = """
import os, sys

class Signals:
    def find_spec(self, name, *_):
        if name == "typer":
            sys.meta_path.remove(self)
            os.kill(os.getpid(), {number})

sys.meta_path.insert(0, Signals())
from ardiq_cli.main import main
main()
"""


@WORKERS
@pytest.mark.parametrize("number", HARMLESS)
def test_other_signals_are_survived_while_the_command_is_imported(
    app: Ardiq, server: Server, start: StartProgram, workers: str, number: signal.Signals
) -> None:
    code = SIGNALED_EARLY.format(number=int(number))
    program = start("-c", code, "run", "tasks:app", "-w", workers, ARDIQ_REDIS_URL=server.url)
    program.await_output(" serves ", int(workers))
    if number is signal.SIGQUIT:
        assert "[MainThread]" in program.output
    program.send(signal.SIGTERM)
    assert program.end() == ExitCode.OK, program.output


def test_stacks_are_shown_while_the_loop_is_blocked(
    app: Ardiq, server: Server, ardiq: StartProgram, project: Path
) -> None:
    program = ardiq("run", "tasks:app", ARDIQ_REDIS_URL=server.url)
    app.ref("block").enqueue_sync("started")
    eventually(lambda: (project / "started").exists(), "the start of the task")
    program.send(signal.SIGQUIT)
    program.await_output("in block")
    assert program.process.poll() is None


@pytest.mark.parametrize("before", ["keep", "add", "remove"])
def test_stacks_are_shown_while_c_code_blocks_the_main_thread(
    app: Ardiq, server: Server, ardiq: StartProgram, project: Path, module: Module, queue_name: str, before: str
) -> None:
    module(TASKS.format(queue=queue_name) + SLEEPS_IN_C)
    program = ardiq("run", "tasks:app", ARDIQ_REDIS_URL=server.url)
    app.ref("sleep_in_c").enqueue_sync("started", before)
    eventually(lambda: (project / "started").exists(), "the start of the task")
    program.send(signal.SIGQUIT)
    program.await_output("[MainThread]")
    program.await_output("in sleep_in_c\n")
    assert program.process.poll() is None


LOOP_HANDLERS = """
    @app.task(max_retries=0)
    async def handles(mark, file):
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, pathlib.Path("heard").touch)
        return await wait_for(mark, file)

    @app.task(max_retries=0)
    async def takes_descriptor(mark):
        signal.set_wakeup_fd(-1)
        pathlib.Path(mark).touch()
        time.sleep(1000)
"""


def test_a_handler_that_a_task_adds_to_the_loop_is_called(
    app: Ardiq, server: Server, ardiq: StartProgram, project: Path, module: Module, queue_name: str
) -> None:
    module(TASKS.format(queue=queue_name) + LOOP_HANDLERS)
    program = ardiq("run", "tasks:app", ARDIQ_REDIS_URL=server.url)
    job = app.ref("handles").enqueue_sync("started", "go")
    eventually(lambda: (project / "started").exists(), "the start of the task")
    program.send(signal.SIGUSR1)
    eventually(lambda: (project / "heard").exists(), "the handler of the loop")
    program.send(signal.SIGQUIT)
    program.await_output("asyncio tasks (")
    program.await_output("[MainThread]")
    (project / "go").touch()
    first_run(job)
    program.send(signal.SIGTERM)
    assert program.end() == ExitCode.OK


def test_stacks_are_shown_once_after_a_task_has_taken_the_descriptor(
    app: Ardiq, server: Server, ardiq: StartProgram, project: Path, module: Module, queue_name: str
) -> None:
    module(TASKS.format(queue=queue_name) + LOOP_HANDLERS)
    program = ardiq("run", "tasks:app", ARDIQ_REDIS_URL=server.url)
    app.ref("takes_descriptor").enqueue_sync("started")
    eventually(lambda: (project / "started").exists(), "the start of the task")
    for count in (1, 2):
        program.send(signal.SIGQUIT)
        program.await_output("asyncio tasks (", count)
        program.await_output("in takes_descriptor", 2 * count)
        assert program.output.count("MainThread]") == count


def test_stacks_are_shown_a_hundred_times_while_short_tasks_run(
    app: Ardiq, server: Server, ardiq: StartProgram
) -> None:
    app.enqueue_many_sync([app.ref("compute").prepare() for _ in range(20_000)])
    program = ardiq("run", "tasks:app", ARDIQ_REDIS_URL=server.url)
    program.await_output(" serves ")
    for shown in range(1, 101):
        program.send(signal.SIGQUIT)
        program.await_output("asyncio tasks (", shown)
    assert "[ardiq-task-" in program.output
    program.send(signal.SIGTERM)
    assert program.end() == ExitCode.OK


@pytest.mark.parametrize("number", HARMLESS)
def test_the_status_of_an_orderly_end_survives_other_signals(
    app: Ardiq, server: Server, ardiq: StartProgram, number: signal.Signals
) -> None:
    program = ardiq("run", "tasks:app", ARDIQ_REDIS_URL=server.url)
    program.await_output(" serves ")
    program.send(signal.SIGTERM)
    ended = False
    while not ended:
        program.send(number)
        with suppress(subprocess.TimeoutExpired):  # a flood without pauses would leave it no time to end
            program.process.wait(0.001)
            ended = True
    assert program.end() == ExitCode.OK


EXITS_FROM_C = """
    import ctypes
    libc = ctypes.CDLL(None)
    libc.signal(number, ctypes.cast(libc._exit, ctypes.c_void_p))
"""


@pytest.mark.parametrize("number", HARMLESS)
def test_a_handler_in_c_of_the_application_is_left_alone(
    app: Ardiq, server: Server, ardiq: StartProgram, module: Module, queue_name: str, number: signal.Signals
) -> None:
    module(TASKS.format(queue=queue_name) + f"    number = {int(number)}{EXITS_FROM_C}")
    program = ardiq("run", "tasks:app", ARDIQ_REDIS_URL=server.url)
    program.await_output(" serves ")
    program.send(number)
    assert program.end() == number


@pytest.mark.parametrize("number", HARMLESS)
def test_a_handler_of_the_application_is_left_alone(
    app: Ardiq,
    server: Server,
    ardiq: StartProgram,
    project: Path,
    module: Module,
    queue_name: str,
    number: signal.Signals,
) -> None:
    handler = f"""
    def hear(number, frame): pathlib.Path("heard").write_text("heard")
    signal.signal({int(number)}, hear)
"""
    module(TASKS.format(queue=queue_name) + handler)
    program = ardiq("run", "tasks:app", ARDIQ_REDIS_URL=server.url)
    program.await_output(" serves ")
    program.send(number)
    heard = project / "heard"
    eventually(lambda: heard.exists() and heard.read_text(), "the application's own handler")
    program.send(signal.SIGTERM)
    assert program.end() == ExitCode.OK
    assert "asyncio tasks" not in program.output
    assert "has no handler" not in program.output


def test_a_program_that_a_task_starts_has_the_default_actions(
    server: Server, ardiq: StartProgram, module: Module
) -> None:
    module("""
        import subprocess, sys
        from ardiq import Ardiq
        app = Ardiq(queue_name="grandchildren", burst=True)
        show = "import signal; print(*(signal.getsignal(n).name for n in (1, 3, 10, 12)), signal.pthread_sigmask(0, []))"
        @app.task
        def spawn(): return subprocess.run([sys.executable, "-c", show], stdout=subprocess.PIPE, text=True).stdout
    """)
    job = Ardiq(redis_url=server.url, queue_name="grandchildren").ref("spawn").enqueue_sync()
    program = ardiq("run", "tasks:app", "-w", "2", ARDIQ_REDIS_URL=server.url)
    assert program.end() == ExitCode.OK
    result = job.result_sync()
    assert result is not None
    assert result.value.split() == ["SIG_DFL"] * 4 + ["set()"]


@pytest.mark.parametrize("number", HARMLESS)
def test_a_forked_child_has_the_default_actions(number: signal.Signals) -> None:
    code = f"""
import os, signal
from ardiq_cli.signals import survive
survive()
readable, writable = os.pipe()
child = os.fork()
if child == 0:
    os.write(writable, b"ready")
    while True: signal.pause()
os.read(readable, 5)
os.kill(child, {int(number)})
print(os.WTERMSIG(os.waitpid(child, 0)[1]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.split() == [str(int(number))]


def test_development_worker_stops_on_hangup_and_its_server_with_it(
    ardiq: StartProgram, module: Module, project: Path, without_url: None
) -> None:
    module("from ardiq import Ardiq\napp = Ardiq()\n")
    program = ardiq("dev", "tasks:app")
    program.await_output(" serves ")
    program.send(signal.SIGQUIT)
    program.await_output("asyncio tasks (")
    program.send(signal.SIGHUP)
    assert program.end() == ExitCode.OK
    assert "has signed off" in program.output
    assert not project_place(project).socket.exists()


def test_third_signal_ends_supervised_workers_whose_loop_is_blocked(
    app: Ardiq, server: Server, ardiq: StartProgram, project: Path
) -> None:
    program = ardiq("run", "tasks:app", "-w", "2", ARDIQ_REDIS_URL=server.url)
    program.await_output(" serves ", 2)
    pids = workers_of(program)
    app.ref("block").enqueue_sync("started")
    eventually(lambda: (project / "started").exists(), "the start of the task")
    for count in (1, 2, 3):
        program.send(signal.SIGTERM)
        program.await_output("passing it on", count)  # signals that come at one time may count as one
    assert program.end() == ExitCode.FAILED
    assert not any(alive(pid) for pid in pids)
