"""A worker's process ends soon after the worker, with its status, whatever application code still
runs.
"""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ardiq import Ardiq, TaskStatus
from ardiq_cli.exits import ExitCode
from tests.programs import Program, StartProgram, eventually
from tests.servers import Server

LIMIT_S = 2.0
SLACK_S = 2.0
"""For a machine with more processes than cores: the limit itself is asserted where nothing else is
measured.
"""

TASKS = """
    import asyncio, atexit, concurrent.futures, pathlib, sys, threading, time
    from ardiq import Ardiq
    app = Ardiq(queue_name={queue!r})
    kept = []

    @app.task(max_retries=0)
    async def to_thread():
        pathlib.Path("started").touch()
        await asyncio.to_thread(time.sleep, 100_000)

    @app.task(max_retries=0)
    async def deaf_executor():
        with concurrent.futures.ThreadPoolExecutor() as pool:
            while True:
                pathlib.Path("started").touch()
                try:
                    return await asyncio.get_running_loop().run_in_executor(pool, time.sleep, 100_000)
                except asyncio.CancelledError:
                    pass

    @app.task(max_retries=0)
    def in_thread():
        pathlib.Path("started").touch()
        time.sleep(100_000)

    @app.task
    async def thread():
        threading.Thread(target=time.sleep, args=(100_000,)).start()
        pathlib.Path("started").touch()

    @app.task
    async def executor():
        kept.append(concurrent.futures.ThreadPoolExecutor(2))
        kept[-1].submit(time.sleep, 100_000)
        pathlib.Path("started").touch()

    @app.task
    async def exit_handler():
        atexit.register(time.sleep, 100_000)
        pathlib.Path("started").touch()

    @app.task
    async def compute_at_exit():
        # In one call of C, which never lets go of the interpreter.
        atexit.register(pow, 7, 10**9)
        pathlib.Path("started").touch()

    class Slow:
        def __del__(self):
            time.sleep(100_000)

    @app.task
    async def finalizer():
        sys.modules["kept"] = Slow()
        pathlib.Path("started").touch()

    @app.task
    async def deaf_coroutine():
        async def deaf():
            while True:
                try:
                    await asyncio.sleep(100_000)
                except asyncio.CancelledError:
                    pass
        kept.append(asyncio.create_task(deaf()))
        pathlib.Path("started").touch()

    @app.task
    async def fork():
        import multiprocessing
        process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(20,))
        process.start()
        pathlib.Path("started").touch()

    @app.task
    async def last_words():
        # Ends in time, and has something to say.
        atexit.register(print, "said at the end")
        print("buffered", end="")
        pathlib.Path("started").touch()

    @app.task(max_retries=0)
    async def fail():
        kept.append(concurrent.futures.ThreadPoolExecutor(2))
        kept[-1].submit(time.sleep, 100_000)
        raise ValueError
"""


@pytest.fixture
def app(server: Server, queue_name: str, module: StartProgram) -> Ardiq:
    module(TASKS.format(queue=queue_name))
    return Ardiq(redis_url=server.url, queue_name=queue_name)


def ends_soon(program: Program, since: float) -> int:
    status = program.end(30)
    assert time.monotonic() - since < LIMIT_S + SLACK_S, program.output
    return status


HANGS = (
    "to_thread",
    "deaf_executor",
    "in_thread",
    "thread",
    "executor",
    "exit_handler",
    "deaf_coroutine",
    "fork",
    "finalizer",
    "compute_at_exit",
)

FROM_C = ("finalizer", "compute_at_exit")
"""Tasks after which no Python code can run any more; the exit status is known only where there are
POSIX timers.
"""

UNFINISHED = ("to_thread", "deaf_executor", "in_thread")
"""Tasks that still run when the worker ends."""


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("task", ["to_thread", "exit_handler"])
def test_the_process_ends_soon_with_several_workers_too(
    app: Ardiq, server: Server, ardiq: StartProgram, project: Path, task: str, workers: str
) -> None:
    program = ardiq("run", "tasks:app", "-w", workers, "--grace", "0.1", ARDIQ_REDIS_URL=server.url)
    program.await_output(" serves ", int(workers))
    app.ref(task).enqueue_sync()
    eventually(lambda: (project / "started").exists(), "the start of the task")
    program.send(signal.SIGTERM)
    program.await_output("has signed off", int(workers))
    assert ends_soon(program, time.monotonic()) == ExitCode.OK, program.output


@pytest.mark.parametrize("task", HANGS)
def test_the_process_ends_soon_after_it_has_signed_off(
    app: Ardiq, server: Server, ardiq: StartProgram, project: Path, task: str
) -> None:
    program = ardiq("run", "tasks:app", "--grace", "0.1", ARDIQ_REDIS_URL=server.url)
    program.await_output(" serves ")
    job = app.ref(task).enqueue_sync()
    eventually(lambda: (project / "started").exists(), "the start of the task")
    if task not in UNFINISHED:
        eventually(lambda: job.status_sync() is TaskStatus.COMPLETE, "the end of the task")
    program.send(signal.SIGTERM)
    program.await_output("has signed off")
    assert ends_soon(program, time.monotonic()) == (1 if task in FROM_C and sys.platform != "linux" else 0), (
        program.output
    )
    if task in FROM_C:
        assert "(most recent call first)" in program.output, "it does not say what goes on"
    if task in UNFINISHED:
        assert job.status_sync() is TaskStatus.QUEUED
    if task not in FROM_C and task != "in_thread":  # none of our own threads is waited for
        assert "ending the process with status 0 without waiting any longer: " in program.output


def test_what_ends_in_time_ends_as_ever(app: Ardiq, server: Server, ardiq: StartProgram, project: Path) -> None:
    program = ardiq("run", "tasks:app", ARDIQ_REDIS_URL=server.url)
    program.await_output(" serves ")
    app.ref("last_words").enqueue_sync()
    eventually(lambda: (project / "started").exists(), "the start of the task")
    program.send(signal.SIGTERM)
    assert program.end() == ExitCode.OK
    assert "buffered" in program.output, program.output
    assert "said at the end" in program.output
    assert "is ended" not in program.output


READS_INPUT = """
    import atexit, os, pathlib
    from ardiq import Ardiq
    app = Ardiq(queue_name={queue!r})
    os.dup2(os.pipe()[0], 0)
    atexit.register(print, "said at the end")

    @app.task(max_retries=0)
    def reads():
        pathlib.Path("started").touch()
        return input()
"""


def test_a_task_that_reads_standard_input_does_not_abort_the_process(
    app: Ardiq, server: Server, ardiq: StartProgram, project: Path, module: StartProgram
) -> None:
    module(READS_INPUT.format(queue=app.queue_name))
    program = ardiq("run", "tasks:app", "--grace", "0.1", ARDIQ_REDIS_URL=server.url)
    program.await_output(" serves ")
    app.ref("reads").enqueue_sync()
    eventually(lambda: (project / "started").exists(), "the start of the task")
    program.send(signal.SIGTERM)
    assert program.end() == ExitCode.OK, program.output
    assert "said at the end" in program.output
    assert "Fatal Python error" not in program.output


def test_a_burst_that_failed_ends_with_its_status(app: Ardiq, server: Server, ardiq: StartProgram) -> None:
    app.ref("fail").enqueue_sync()
    program = ardiq("run", "tasks:app", "--burst", ARDIQ_REDIS_URL=server.url)
    program.await_output("has signed off")
    assert ends_soon(program, time.monotonic()) == ExitCode.FAILED, program.output
    assert "threads of the application are still running (ThreadPoolExecutor-0_0)" in program.output


@pytest.mark.parametrize("number", [0, 1, 6])
@pytest.mark.parametrize("timers", [True, False])
def test_the_process_ends_from_c_with_its_status(number: int, timers: bool) -> None:
    code = f"""
import ctypes, time
from ardiq_cli import ending, exit_timer
if not {timers}:
    del exit_timer.ExitTimer
ending.END_S = 0.1
ending.begin({number})
ending.extend(0.2)
ctypes.PyDLL(None).sleep(60)
"""
    begun = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == (number if timers and sys.platform == "linux" else 1), done.stderr
    assert "(most recent call first)" in done.stderr
    assert time.monotonic() - begun < 10


NO_THREADS = """
    import threading
    from ardiq import Ardiq
    app = Ardiq(queue_name={queue!r})
    threading.stack_size(1 << 46)  # no machine has room for that

    @app.task(max_retries=0)
    def work():
        return "worked"
"""


def test_a_process_that_gets_no_threads_ends_with_a_status_of_its_own(
    app: Ardiq, server: Server, ardiq: StartProgram, module: StartProgram
) -> None:
    module(NO_THREADS.format(queue=app.queue_name))
    jobs = app.enqueue_many_sync([app.ref("work").prepare() for _ in range(200)])
    program = ardiq("run", "tasks:app", ARDIQ_REDIS_URL=server.url)
    assert program.end() == ExitCode.EXHAUSTED, program.output
    assert "ardiq: the worker has stopped: no thread can be started for tasks" in program.output
    found = [job.info_sync() for job in jobs]
    assert {(info.status, info.tries) for info in found if info is not None} == {(TaskStatus.QUEUED, 0)}
    assert None not in found


def test_an_application_that_cannot_be_loaded_ends_too(ardiq: StartProgram, module: StartProgram) -> None:
    module(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(100_000,)).start()\nprint('up', flush=True)"
    )
    program = ardiq("run", "tasks:app")
    program.await_output("up")
    assert ends_soon(program, time.monotonic()) == ExitCode.USAGE, program.output
    assert "ardiq: " in program.output


RAISING_LOG = """
    import logging, sys, threading, time

    class Broken(logging.Handler):
        def handle(self, record):
            raise RuntimeError("the log is broken")

    sys.stdout = open(1, "w", closefd=False)  # buffered
    print("written before the end")
    threading.Thread(target=time.sleep, args=(100_000,)).start()
    logging.root.addHandler(Broken())
    raise SystemError("why the application cannot start")
"""


def test_a_log_that_raises_hides_no_reason(ardiq: StartProgram, module: StartProgram) -> None:
    module(RAISING_LOG)
    program = ardiq("run", "tasks:app")
    assert program.end(30) == ExitCode.USAGE, program.output
    assert "why the application cannot start" in program.output
    assert "written before the end" in program.output, "the output was not flushed"
