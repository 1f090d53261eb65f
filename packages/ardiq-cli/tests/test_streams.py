"""Standard streams that are closed, full or without a reader decide nothing that they should
not.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ardiq import Ardiq
from ardiq_cli.exits import ExitCode
from tests.programs import DEADLINE_S
from tests.servers import Server

Module = Callable[[str], None]
Shell = Callable[..., subprocess.CompletedProcess[str]]

TASKS = """
    from ardiq import Ardiq
    app = Ardiq(queue_name={queue!r})

    @app.task
    async def add(a, b):
        return a + b
"""


@pytest.fixture
def shell(project: Path, environment: dict[str, str]) -> Shell:
    """A function that runs `ardiq` with arguments and redirections in a shell, to its end."""

    def run(words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", f"{sys.executable} -m ardiq_cli {words}"],
            cwd=project,
            env={**environment, **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )

    return run


@pytest.fixture
def app(server: Server, queue_name: str, module: Module) -> Ardiq:
    module(TASKS.format(queue=queue_name))
    app = Ardiq(redis_url=server.url, queue_name=queue_name)
    app.ref("add").enqueue_sync(1, 1)
    return app


UNWRITABLE = ["2>/dev/full", "2>&-", "2> >(exec true)"]
FAULTS = [
    ("run nope:app", ExitCode.USAGE),
    ("run nope:app -w 2", ExitCode.USAGE),
    ("run nope:app --verbose", ExitCode.USAGE),
    ("run", ExitCode.USAGE),
    ("dev nope:app --no-reload", ExitCode.USAGE),
    ("inspect queues", ExitCode.UNREACHABLE),
    ("drain --timeout 1", ExitCode.UNREACHABLE),
]


@pytest.mark.parametrize("stream", UNWRITABLE)
@pytest.mark.parametrize(("words", "status"), FAULTS, ids=[words for words, _ in FAULTS])
def test_an_unwritable_error_keeps_its_status(shell: Shell, words: str, status: ExitCode, stream: str) -> None:
    done = shell(f"{words} {stream}")
    assert done.returncode == status
    assert done.stdout == ""


@pytest.mark.parametrize("streams", ["2>/dev/full", "2>&-", ">&-", "<&- >&- 2>&-", ">/dev/full"])
@pytest.mark.parametrize("processes", ["1", "2"])
def test_burst_succeeds_with_any_streams(
    app: Ardiq, server: Server, shell: Shell, processes: str, streams: str
) -> None:
    done = shell(f"run tasks:app --burst -w {processes} {streams}", ARDIQ_REDIS_URL=server.url)
    assert done.returncode == ExitCode.OK, done.stderr
    assert done.stdout == ""
    assert app.queue_size_sync() == 0


@pytest.mark.parametrize("stream", [*UNWRITABLE, ">&-", "> >(exec true)"])
def test_drain_succeeds_only_if_the_queue_is_drained(app: Ardiq, server: Server, shell: Shell, stream: str) -> None:
    words = f"drain --queue {app.queue_name} --url {server.url} --timeout"
    assert shell(f"{words} 0.3 --interval 0.1 {stream}").returncode == ExitCode.TIMEOUT
    assert shell("run tasks:app --burst", ARDIQ_REDIS_URL=server.url).returncode == ExitCode.OK
    assert shell(f"{words} 20 {stream}").returncode == ExitCode.OK


def test_complaint_does_not_go_to_standard_output(app: Ardiq, server: Server, shell: Shell) -> None:
    done = shell(f"drain --queue {app.queue_name} --url {server.url} --timeout 0 2>&-")
    assert done.returncode == ExitCode.TIMEOUT
    assert [json.loads(line)["drained"] for line in done.stdout.splitlines()] == [False]


@pytest.mark.parametrize("words", ["inspect queues", "inspect queues --json", "inspect jobs", "inspect workers"])
def test_inspect_fails_if_its_output_is_lost_and_not_if_its_reader_leaves(
    app: Ardiq, server: Server, shell: Shell, words: str
) -> None:
    words = f"{words} --queue {app.queue_name} --url {server.url}"
    full = shell(f"{words} >/dev/full")
    assert (full.returncode, full.stderr) == (ExitCode.FAILED, "ardiq: OSError: [Errno 28] No space left on device\n")
    for stream in (">&-", "2>&-", "2>/dev/full"):
        assert shell(f"{words} {stream}").returncode == ExitCode.OK


@pytest.mark.parametrize("words", ["--version", "--help", "run --help"])
def test_help_that_cannot_be_written_is_one_line_and_status_1(shell: Shell, words: str) -> None:
    done = shell(f"{words} >/dev/full")
    assert (done.returncode, done.stderr) == (ExitCode.FAILED, "ardiq: OSError: [Errno 28] No space left on device\n")
    assert shell(f"{words} >&-").returncode == ExitCode.OK
