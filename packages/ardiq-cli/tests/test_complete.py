"""Completion in the shell: it offers names from Redis, quickly or not at all, and nothing that a
shell would execute.
"""

import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ardiq import Ardiq
from tests.programs import DEADLINE_S
from tests.servers import Server

MakeServer = Callable[..., Server]
Complete = Callable[..., subprocess.CompletedProcess[str]]


# As the console script does: the name of the program determines the names of the shell's variables.
PROGRAM = "import sys; sys.argv[0] = 'ardiq'; from ardiq_cli.main import main; main()"


@pytest.fixture
def server(make_server: MakeServer) -> Server:
    return make_server()


@pytest.fixture
def complete(project: Path, environment: dict[str, str], server: Server) -> Complete:
    """A function that does what bash does when Tab is pressed behind these words."""

    def run(line: str, url: str = server.url) -> subprocess.CompletedProcess[str]:
        words = {"COMP_WORDS": f"ardiq {line}", "COMP_CWORD": str(len(line.split()) + line.endswith(" "))}
        return subprocess.run(
            [sys.executable, "-c", PROGRAM],
            cwd=project,
            env={**environment, "ARDIQ_REDIS_URL": url, "_ARDIQ_COMPLETE": "complete_bash", **words},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )

    return run


def offered(done: subprocess.CompletedProcess[str]) -> list[str]:
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize("command", ["inspect queues", "inspect workers", "inspect jobs", "drain"])
def test_queues_are_offered(server: Server, complete: Complete, command: str) -> None:
    for queue in ("mails", "shop", "shop-2"):
        Ardiq(redis_url=server.url, queue_name=queue).ref("some.task").enqueue_sync()
    assert offered(complete(f"{command} --queue ")) == ["mails", "shop", "shop-2"]
    assert offered(complete(f"{command} --queue sh")) == ["shop", "shop-2"]


def test_tasks_are_offered_from_the_queue_that_is_meant(server: Server, complete: Complete) -> None:
    shop = Ardiq(redis_url=server.url, queue_name="shop")
    shop.ref("images.resize").enqueue_sync()
    shop.ref("images.crop").options(delay_ms=3_600_000).enqueue_sync()
    assert offered(complete("inspect jobs --task ")) == ["images.crop", "images.resize"]
    Ardiq(redis_url=server.url, queue_name="mails").ref("send").enqueue_sync()
    assert offered(complete("inspect jobs --task ")) == []
    assert offered(complete("inspect jobs --queue mails --task ")) == ["send"]
    assert offered(complete(f"inspect jobs --url {server.url} --queue shop --task images.r")) == ["images.resize"]


def test_schedules_are_offered_from_the_queue_that_is_meant(server: Server, complete: Complete) -> None:
    shop = Ardiq(redis_url=server.url, queue_name="shop")
    for name in ("nightly", "often", "$(id)"):
        shop.ref("report").options(every=60, task_id=name).enqueue_sync()
    assert offered(complete("schedule pause ")) == ["nightly", "often"]
    assert offered(complete("schedule fire --queue shop nightly of")) == ["often"]


def test_names_that_a_shell_might_act_upon_are_not_offered(server: Server, complete: Complete) -> None:
    Ardiq(redis_url=server.url, queue_name="shop").ref("$(id)").enqueue_sync()
    server.cli("SADD", "ardiq:queues", "`id`", "a;b", "two words", "evil\x1b[31m", b"\xff")
    assert offered(complete("inspect jobs --queue ")) == ["shop"]
    assert offered(complete("inspect jobs --queue shop --task ")) == []


def test_a_server_that_is_away_or_silent_costs_a_moment_and_no_words(complete: Complete) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        for url in (f"redis://127.0.0.1:{port}", "redis://127.0.0.1:1", "no url"):
            began = time.monotonic()
            assert offered(complete("inspect jobs --queue ", url)) == []
            assert time.monotonic() - began < 10
