"""Application code that interferes with the worker's event loop: it stops the loop, cancels all
asyncio tasks, or has a log or a signal handler that raises.
"""

import signal
from pathlib import Path

import pytest

from ardiq import Ardiq, TaskResult
from ardiq_cli.exits import ExitCode
from tests.programs import StartProgram, eventually
from tests.servers import Server

TASKS = """
    import asyncio, logging, pathlib, sys, threading
    from ardiq import Ardiq
    app = Ardiq(queue_name={queue!r}, concurrency=3)

    def count(name):
        with open(name, "a") as file:
            file.write("started\\n")

    def cancel_all():
        for task in asyncio.all_tasks():
            task.cancel()

    @app.task(max_retries=0)
    async def plain():
        return "done"

    @app.task(max_retries=0)
    async def stop_loop():
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0.01)
        return "done"

    @app.task(max_retries=1, backoff_ms=1)
    async def itself():
        count("itself")
        cancel_all()
        await asyncio.sleep(60)

    @app.task(max_retries=1, backoff_ms=1)
    async def callback():
        count("callback")
        asyncio.get_running_loop().call_soon(cancel_all)
        await asyncio.sleep(60)

    @app.task(max_retries=1, backoff_ms=1)
    async def child():
        count("child")
        async def cancels():
            cancel_all()
        await asyncio.gather(asyncio.create_task(cancels()), asyncio.sleep(60))

    loops = []

    @app.task(max_retries=1, backoff_ms=1)
    def thread():
        count("thread")
        loops[0].call_soon_threadsafe(cancel_all)
        threading.Event().wait(1)

    @app.task(max_retries=1, backoff_ms=1)
    async def stranger():
        count("stranger")
        loop = asyncio.get_running_loop()
        threading.Thread(target=lambda: loop.call_soon_threadsafe(cancel_all)).start()
        await asyncio.sleep(60)

    @app.task(max_retries=0)
    async def bystander():
        loops.append(asyncio.get_running_loop())
        count("bystander")
        while not pathlib.Path("go").exists():
            await asyncio.sleep(0.01)
        return "done"

    @app.task(max_retries=0)
    async def stops_at_the_end():
        async def waits():
            try:
                await asyncio.sleep(60)
            finally:
                asyncio.get_running_loop().stop()
                sys.exit(9)
        loops.append(asyncio.create_task(waits()))
        await asyncio.sleep(0)
"""


@pytest.fixture
def app(server: Server, queue_name: str, module: StartProgram) -> Ardiq:
    module(TASKS.format(queue=queue_name))
    return Ardiq(redis_url=server.url, queue_name=queue_name)


def result_of(app: Ardiq, name: str) -> TaskResult[object]:
    result = app.ref(name).enqueue_sync().result_sync(timeout=20)
    assert result is not None
    return result


def starts(project: Path, name: str) -> int:
    file = project / name
    return file.read_text().count("started") if file.exists() else 0


def test_a_task_that_stops_the_loop_ends_as_any_other(app: Ardiq, server: Server, ardiq: StartProgram) -> None:
    program = ardiq("run", "tasks:app", ARDIQ_REDIS_URL=server.url)
    for name in ("stop_loop", "plain"):
        result = result_of(app, name)
        assert (result.value, result.tries) == ("done", 1), program.output
    assert "stopped the event loop; the worker continues" in program.output
    assert program.output.count(" serves ") == 1


@pytest.mark.parametrize("name", ["itself", "callback", "child", "thread"])
def test_a_task_that_cancels_all_others_has_failed_and_they_have_not(
    app: Ardiq, server: Server, ardiq: StartProgram, project: Path, name: str
) -> None:
    bystander = app.ref("bystander").enqueue_sync()
    program = ardiq("run", "tasks:app", ARDIQ_REDIS_URL=server.url)
    eventually(lambda: starts(project, "bystander") == 1, "the start of the other task")
    result = result_of(app, name)
    assert (result.success, result.tries, result.error_type) == (False, 2, "asyncio.exceptions.CancelledError")
    assert starts(project, name) == 2
    assert f"{name}[{result.task_id}] cancelled all asyncio tasks of the worker" in program.output
    assert "is returned to the queue: all asyncio tasks of the worker were cancelled" in program.output
    (project / "go").touch()
    other = bystander.result_sync(timeout=20)
    assert other is not None
    assert (other.value, other.tries) == ("done", 1)
    assert starts(project, "bystander") >= 2
    assert program.output.count(" serves ") == 1


def test_no_run_is_free_if_it_is_not_known_which_task_cancels_all(
    app: Ardiq, server: Server, ardiq: StartProgram, project: Path
) -> None:
    program = ardiq("run", "tasks:app", ARDIQ_REDIS_URL=server.url)
    result = result_of(app, "stranger")
    assert (result.success, result.tries) == (False, 2)
    assert starts(project, "stranger") == 2
    assert "code outside of tasks cancelled all asyncio tasks" in program.output
    assert result_of(app, "plain").value == "done"


def test_what_is_left_of_tasks_does_not_change_the_status(app: Ardiq, server: Server, ardiq: StartProgram) -> None:
    job = app.ref("stops_at_the_end").enqueue_sync()
    program = ardiq("run", "tasks:app", "--burst", ARDIQ_REDIS_URL=server.url)
    assert program.end() == ExitCode.OK, program.output
    assert "the event loop could not be closed cleanly" in program.output
    result = job.result_sync()
    assert result is not None
    assert result.success


RAISING_LOG = """
    import asyncio, logging, os, signal, sys
    from ardiq import Ardiq
    app = Ardiq(queue_name={queue!r})

    class Handler(logging.Handler):
        def emit(self, record):
            raise {kind}("the log is broken")

    logging.getLogger().addHandler(Handler())

    @app.task(max_retries=0)
    async def exits():
        asyncio.get_running_loop().call_soon(sys.exit, 0)
        await asyncio.sleep(0.01)
        return "done"

    @app.task(max_retries=0)
    async def fails_in_callback():
        asyncio.get_running_loop().call_soon(int, "one")
        await asyncio.sleep(0.01)
        return "done"

    @app.task(max_retries=0)
    async def unused_signal():
        os.kill(os.getpid(), signal.SIGUSR1)
        await asyncio.sleep(0.01)
        return "done"

    @app.task(max_retries=0)
    async def slow():
        asyncio.get_running_loop().slow_callback_duration = 0
        await asyncio.sleep(0.01)
        return "done"

    @app.task(max_retries=0)
    async def fails():
        raise ValueError
"""


@pytest.mark.parametrize("kind", ["RuntimeError", "KeyboardInterrupt", "SystemExit"])
def test_a_log_that_raises_does_not_end_the_worker(
    server: Server, queue_name: str, ardiq: StartProgram, module: StartProgram, kind: str
) -> None:
    module(RAISING_LOG.format(queue=queue_name, kind=kind))
    app = Ardiq(redis_url=server.url, queue_name=queue_name)
    jobs = {name: app.ref(name).enqueue_sync() for name in ("exits", "fails_in_callback", "unused_signal", "slow")}
    app.ref("fails").enqueue_sync()
    program = ardiq("run", "tasks:app", "--burst", ARDIQ_REDIS_URL=server.url, PYTHONASYNCIODEBUG="1")
    assert program.end() == ExitCode.FAILED, program.output
    found = {name: job.result_sync() for name, job in jobs.items()}
    assert {name: result and (result.value, result.tries) for name, result in found.items()} == dict.fromkeys(
        jobs, ("done", 1)
    ), program.output


RAISING_HANDLER = """
    import signal

    def reload(number, frame):
        raise {kind}("the reload failed")

    signal.signal(signal.SIGUSR1, reload)

    def block(name):
        count(name)
        while not pathlib.Path("go").exists():
            threading.Event().wait(0.01)
        return "done"

    @app.task(max_retries=0)
    def in_thread():
        return block("in_thread")

    @app.task(max_retries=0)
    async def waits():  # without a timer, so that the signal arrives while the loop waits
        loop, is_suspended = asyncio.get_running_loop(), threading.Event()

        def block_after_suspension():
            loop.call_soon_threadsafe(is_suspended.set)
            is_suspended.wait()
            return block("waits")

        return await asyncio.to_thread(block_after_suspension)
"""


@pytest.mark.parametrize("kind", ["ValueError", "KeyboardInterrupt", "SystemExit"])
def test_a_signal_handler_that_raises_while_the_loop_waits_ends_no_job(
    app: Ardiq, server: Server, ardiq: StartProgram, project: Path, module: StartProgram, kind: str
) -> None:
    module(TASKS.format(queue=app.queue_name) + RAISING_HANDLER.format(kind=kind))
    jobs = [app.ref(name).enqueue_sync() for name in ("in_thread", "waits")]
    program = ardiq("run", "tasks:app", ARDIQ_REDIS_URL=server.url)
    eventually(lambda: starts(project, "in_thread") == starts(project, "waits") == 1, "the start of the tasks")
    for count in range(1, 6):
        program.send(signal.SIGUSR1)
        program.await_output("the reload failed", count)
    (project / "go").touch()
    for job in jobs:
        result = job.result_sync(timeout=20)
        assert result is not None
        assert (result.value, result.tries) == ("done", 1), program.output
    assert "signal handler of the application raised" in program.output
    assert program.output.count(" serves ") == 1
    program.send(signal.SIGTERM)
    assert program.end() == ExitCode.OK, program.output


def test_a_loop_that_is_broken_ends_the_worker(start: StartProgram) -> None:
    code = """
import asyncio
from ardiq_cli.worker import _run

async def main():
    asyncio.get_running_loop()._selector.close()
    await asyncio.sleep(60)

_run(main())
"""
    program = start("-c", code)
    assert program.end() == ExitCode.FAILED, program.output
    assert 0 < program.output.count("the worker continues") < 20
    assert "\nValueError: " in program.output, program.output
