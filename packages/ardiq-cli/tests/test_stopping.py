"""Stop signals of a worker's process: they are counted even if the loop is blocked, and forked
children do not inherit the handlers.
"""

import signal
import textwrap
import time
from pathlib import Path

import pytest

from ardiq import Ardiq
from tests.programs import StartProgram, eventually
from tests.servers import Server

TASKS = """
    import asyncio, ctypes, multiprocessing, os, pathlib, signal, threading, time
    from ardiq import Ardiq
    app = Ardiq(queue_name={queue!r})

    @app.task(max_retries=0)
    async def sleep():
        pathlib.Path("started").touch()
        time.sleep(1000)

    @app.task(max_retries=0)
    async def compute():
        pathlib.Path("started").touch()
        while True:
            pass

    @app.task(max_retries=0)
    async def swallow():
        pathlib.Path("started").touch()
        while True:
            try:
                time.sleep(1000)
            except BaseException:
                pass

    @app.task(max_retries=0)
    async def foreign():
        # Foreign code that never looks for signals of Python's.
        pathlib.Path("started").touch()
        lock = ctypes.CDLL(None)
        while lock.usleep(900_000) or True:
            if os.path.exists("never"):
                break

    @app.task(max_retries=0)
    async def foreign_after_handler():
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, print)
        pathlib.Path("started").touch()
        # Unlike `usleep`, it does not return when a signal comes.
        ctypes.CDLL(None).pthread_cond_wait(ctypes.create_string_buffer(64), ctypes.create_string_buffer(64))

    @app.task(max_retries=0)
    async def joins():
        pathlib.Path("started").touch()
        thread = threading.Thread(target=time.sleep, args=(1000,), daemon=True)
        thread.start()
        thread.join()

    @app.task(max_retries=0)
    async def deaf():
        pathlib.Path("started").touch()
        while True:
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                pass

    def child(ready):
        ready.send(signal.set_wakeup_fd(-1))
        time.sleep(30)

    def forked(number):
        context = multiprocessing.get_context("fork")
        ours, theirs = context.Pipe()
        process = context.Process(target=child, args=(theirs,))
        process.start()
        descriptor = ours.recv()
        for _ in range(10):
            # In the child of a thread, Python 3.13 misses a signal that does not interrupt a system call.
            os.kill(process.pid, number)
            process.join(1)
            if process.exitcode is not None:
                break
        return process.exitcode, descriptor

    @app.task(max_retries=0)
    async def fork(number):
        return forked(number)

    @app.task(max_retries=0)
    def fork_in_thread(number):
        return forked(number)

    def own(number, frame):
        os._exit(7)

    @app.task(max_retries=0)
    async def fork_with_handler(number):
        before = signal.signal(number, own)
        try:
            return forked(number)
        finally:
            signal.signal(number, before)
"""


@pytest.fixture
def app(server: Server, queue_name: str, module: StartProgram) -> Ardiq:
    module(TASKS.format(queue=queue_name))
    return Ardiq(redis_url=server.url, queue_name=queue_name)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("task", ["sleep", "compute", "swallow", "foreign", "foreign_after_handler", "joins", "deaf"])
def test_the_third_signal_ends_a_single_worker_whatever_it_does(
    app: Ardiq, server: Server, ardiq: StartProgram, project: Path, task: str, number: signal.Signals
) -> None:
    program = ardiq("run", "tasks:app", ARDIQ_REDIS_URL=server.url)
    program.await_output(" serves ")
    app.ref(task).enqueue_sync()
    eventually(lambda: (project / "started").exists(), "the start of the task")
    if task == "sleep":
        program.await_output("the event loop has been blocked for ")
        assert " by sleep[" in program.output
        assert "in sleep" in program.output
    for _ in range(3):
        assert program.process.poll() is None
        program.send(number)
        time.sleep(0.1)  # the kernel merges signals that are not taken yet
    assert program.end(10) == 128 + number, program.output
    assert f"third {number.name}: the process exits at once" in program.output


RAISING_LOG = """
    import logging, sys

    class Broken(logging.Handler):
        def emit(self, record):
            raise RuntimeError("the log is broken")

    sys.stdout = open(1, "w", closefd=False)  # buffered
    print("written before the end")
    logging.getLogger("ardiq.worker").addHandler(Broken())
"""


def test_a_log_that_raises_does_not_keep_the_output_from_being_written(
    app: Ardiq, server: Server, ardiq: StartProgram, project: Path, module: StartProgram
) -> None:
    module(TASKS.format(queue=app.queue_name) + RAISING_LOG)
    program = ardiq("run", "tasks:app", ARDIQ_REDIS_URL=server.url)
    app.ref("deaf").enqueue_sync()
    eventually(lambda: (project / "started").exists(), "the start of the task")
    for _ in range(3):
        program.send(signal.SIGTERM)
        time.sleep(0.1)  # the kernel merges signals that are not taken yet
    assert program.end(10) == 128 + signal.SIGTERM, program.output
    assert "written before the end" in program.output


@pytest.mark.parametrize("task", ["fork", "fork_in_thread"])
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, -15), (signal.SIGINT, 1)])
def test_a_forked_child_has_the_default_actions(
    app: Ardiq, server: Server, ardiq: StartProgram, task: str, number: signal.Signals, status: int
) -> None:
    program = ardiq("run", "tasks:app", ARDIQ_REDIS_URL=server.url)
    program.await_output(" serves ")
    for _ in range(2):
        found = app.ref(task).enqueue_sync(int(number)).result_sync(timeout=30)
        assert found is not None
        # multiprocessing turns the KeyboardInterrupt of a SIGINT into status 1.
        assert found.value == (status, -1), program.output
    assert "stops;" not in program.output, "the worker has not heard the signal of its child"
    program.send(signal.SIGTERM)
    assert program.end() == 0, program.output


def test_a_handler_of_the_applications_is_left_to_the_child(app: Ardiq, server: Server, ardiq: StartProgram) -> None:
    program = ardiq("run", "tasks:app", ARDIQ_REDIS_URL=server.url)
    program.await_output(" serves ")
    found = app.ref("fork_with_handler").enqueue_sync(int(signal.SIGTERM)).result_sync(timeout=30)
    assert found is not None
    assert found.value[0] == 7
    program.send(signal.SIGTERM)
    assert program.end() == 0, program.output


SWALLOWS = {
    "except": """
        try:
            wait()
        except BaseException:
            pass
    """,
    "import error": """
        try:
            wait()
        except BaseException:
            raise ImportError("interrupted")
    """,
    "exit": """
        try:
            wait()
        except BaseException:
            raise SystemExit(3)
    """,
    "finalizer": """
        class Waits:
            def __del__(self):
                wait()

        Waits()
    """,
}


@pytest.mark.parametrize("how", SWALLOWS)
def test_a_stop_signal_is_kept_if_the_imported_application_swallows_it(
    app: Ardiq, server: Server, ardiq: StartProgram, module: StartProgram, how: str
) -> None:
    wait = """
        def wait():
            print("importing", flush=True)
            time.sleep(30)
    """
    module(
        TASKS.format(queue=app.queue_name)
        + "\n".join(textwrap.indent(textwrap.dedent(part), " " * 4) for part in (wait, SWALLOWS[how]))
    )
    program = ardiq("run", "tasks:app", ARDIQ_REDIS_URL=server.url)
    program.await_output("importing")
    program.send(signal.SIGTERM)
    assert program.end(20) == 0, program.output
    assert " serves " not in program.output
    assert "ardiq: " not in program.output
