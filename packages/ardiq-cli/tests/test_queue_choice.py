"""Which queue a command uses without `--queue`, and that it says so."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ardiq import Ardiq, BrokerUnreachableError
from ardiq_cli import target
from ardiq_cli.exits import ExitCode
from tests.servers import Server

Ask = Callable[..., subprocess.CompletedProcess[str]]
MakeServer = Callable[..., Server]

COMMANDS: list[tuple[str, ...]] = [("inspect", "jobs"), ("drain", "--timeout", "0.1")]


@pytest.fixture
def server(make_server: MakeServer) -> Server:
    return make_server()


def enqueue(server: Server, queue: str) -> str:
    return Ardiq(redis_url=server.url, queue_name=queue).ref("some.task").enqueue_sync().id


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_the_only_queue_is_meant_and_named(server: Server, ask_here: Ask, command: tuple[str, ...]) -> None:
    enqueue(server, "shop")
    done = ask_here(*command, "--url", server.url)
    assert done.returncode in (ExitCode.OK, ExitCode.TIMEOUT)
    assert done.stdout
    assert done.stderr.startswith("ardiq: using queue 'shop', the only one in Redis\n")


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_the_default_queue_is_meant_and_the_others_are_named(
    server: Server, ask_here: Ask, command: tuple[str, ...]
) -> None:
    for queue in ("default", "shop", "mails"):
        enqueue(server, queue)
    done = ask_here(*command, "--url", server.url)
    assert done.returncode in (ExitCode.OK, ExitCode.TIMEOUT)
    others = "to choose another one, pass --queue NAME: 'mails', 'shop'"
    assert done.stderr.startswith(f"ardiq: using queue 'default'; {others}\n")


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_of_several_queues_none_is_guessed(server: Server, ask_here: Ask, command: tuple[str, ...]) -> None:
    for queue in ("shop", "mails"):
        enqueue(server, queue)
    done = ask_here(*command, "--url", server.url)
    assert (done.returncode, done.stdout) == (ExitCode.NOT_FOUND, "")
    assert done.stderr == "ardiq: there is no queue 'default'; choose one with --queue NAME: 'mails', 'shop'\n"


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_the_default_queue_alone_needs_no_words(server: Server, ask_here: Ask, command: tuple[str, ...]) -> None:
    enqueue(server, "default")
    assert "using queue" not in ask_here(*command, "--url", server.url).stderr


def test_one_job_is_found_in_the_only_queue_too(server: Server, ask_here: Ask) -> None:
    job = enqueue(server, "shop")
    done = ask_here("inspect", "jobs", job, "--json", "--url", server.url)
    assert done.returncode == ExitCode.OK
    assert json.loads(done.stdout)["task_id"] == job
    done = ask_here("inspect", "jobs", "unknown", "--url", server.url)
    assert done.returncode == ExitCode.NOT_FOUND
    assert "queue 'shop' has no job 'unknown'" in done.stderr


def test_jobs_of_one_task(server: Server, ask_here: Ask) -> None:
    app = Ardiq(redis_url=server.url, queue_name="shop")
    for name in ("resize", "send", "resize"):
        app.ref(name).enqueue_sync()
    where = ("--queue", "shop", "--url", server.url)
    done = ask_here("inspect", "jobs", "--task", "resize", "--json", *where)
    assert [job["fn_name"] for job in json.loads(done.stdout)] == ["resize", "resize"]
    done = ask_here("inspect", "jobs", "--task", "resize", "--limit", "1", *where)
    assert done.stdout.count("resize") == 1
    assert "There may be more queued jobs: use --limit." in done.stdout
    assert "use --limit" not in ask_here("inspect", "jobs", "--limit", "4", *where).stdout


def test_that_the_development_server_does_not_run_is_said_once(
    project: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    (project / ".ardiq").mkdir()
    monkeypatch.chdir(project)
    monkeypatch.delenv("ARDIQ_REDIS_URL", raising=False)
    monkeypatch.setattr("ardiq.options.DEFAULT_URL", "unix:///nonexistent/ardiq.sock")
    target._server.cache_clear()
    app = target.open_queue(None, "default", connect_timeout_s=0.1)
    target._server.cache_clear()
    with pytest.raises(BrokerUnreachableError):
        app.queue_size_sync()
    said = capfd.readouterr().err + caplog.text
    assert said.count("no development server is running for") == 1
