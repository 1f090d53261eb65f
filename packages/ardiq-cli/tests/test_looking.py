"""Commands that only read change nothing: they report unknown queues, and work on a server that
accepts no writes.
"""

import asyncio
import json
import subprocess
from collections.abc import Callable

import pytest

from ardiq import Ardiq
from ardiq_cli.exits import ExitCode
from tests.programs import eventually
from tests.servers import Server

Ask = Callable[..., subprocess.CompletedProcess[str]]
MakeServer = Callable[..., Server]

COMMANDS: list[tuple[str, ...]] = [
    ("inspect", "queues"),
    ("inspect", "workers"),
    ("inspect", "jobs"),
    ("inspect", "jobs", "--state", "dead", "--json"),
    ("inspect", "jobs", "some-id"),
    ("schedule", "list"),
    ("drain",),
]


@pytest.fixture
def server(make_server: MakeServer) -> Server:
    """A separate server: the tests check all its keys and list all its queues."""
    return make_server()


def snapshot(server: Server) -> dict[bytes, object]:
    return {key: server.cli("DUMP", key) for key in server.cli("KEYS", "*")}


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_unknown_queue_is_status_4_and_those_that_exist_are_named(
    server: Server, ask_here: Ask, command: tuple[str, ...]
) -> None:
    names = ["mails", "reports", *(f"shop-{n}" for n in range(30))]
    for name in names:
        Ardiq(redis_url=server.url, queue_name=name).ref("some.task").enqueue_sync()
    before = snapshot(server)
    for _ in range(2):  # the first command must not register it for the second
        done = ask_here(*command, "--queue", "mial", "--url", server.url)
        assert done.returncode == ExitCode.NOT_FOUND, done.stderr
        assert done.stdout == ""
        assert "'mial'" in done.stderr
        assert "'mails'" in done.stderr
        assert "and 12 more" in done.stderr
        assert done.stderr.count("\n") == 1
    assert snapshot(server) == before


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_server_without_queues_says_so(server: Server, ask_here: Ask, command: tuple[str, ...]) -> None:
    done = ask_here(*command, "--queue", "mails", "--url", server.url)
    assert done.returncode == ExitCode.NOT_FOUND
    assert "'mails'" in done.stderr
    assert server.cli("DBSIZE") == 0


def test_listing_all_queues_of_an_empty_server_makes_none(server: Server, ask_here: Ask) -> None:
    for what in ("queues", "workers"):
        done = ask_here("inspect", what, "--json", "--url", server.url)
        assert (done.returncode, json.loads(done.stdout)) == (ExitCode.OK, [])
    assert server.cli("DBSIZE") == 0


def test_a_queue_in_which_nothing_is_left_is_known(server: Server, ask_here: Ask) -> None:
    app = Ardiq(redis_url=server.url, queue_name="mails", burst=True, result_ttl_ms=0)

    @app.task
    async def send() -> None: ...

    send.enqueue_sync()
    asyncio.run(app.run())
    queue = ("--queue", "mails", "--url", server.url)
    assert ask_here("drain", *queue).returncode == ExitCode.OK
    assert ask_here("inspect", "queues", *queue).returncode == ExitCode.OK
    said = {
        ("workers",): "No worker is running. Start one: ardiq run MODULE:APP",
        ("jobs",): "There are no unfinished or dead jobs. To see a finished one: ardiq inspect jobs --queue mails ID",
        ("jobs", "--state", "queued", "--state", "dead", "--task", "send"): (
            "There are no queued or dead jobs of task send. To see a finished one: ardiq inspect jobs --queue mails ID"
        ),
    }
    for what, words in said.items():
        done = ask_here("inspect", *what, *queue)
        assert done.returncode == ExitCode.OK
        assert words in " ".join(done.stdout.split())
        assert ask_here("inspect", *what, *queue, "--json").stdout.strip() == "[]"
    done = ask_here("inspect", "jobs", "some-id", *queue)
    assert done.returncode == ExitCode.NOT_FOUND
    assert "no job 'some-id'" in done.stderr


def test_a_replica_can_be_looked_at(make_server: MakeServer, server: Server, ask_here: Ask) -> None:
    app = Ardiq(redis_url=server.url, queue_name="mails")
    done_one = app.ref("some.task").options(delay_ms=3_600_000).enqueue_sync()
    job = app.ref("some.task").enqueue_sync(1)
    replica = make_server()
    replica.cli("REPLICAOF", "127.0.0.1", server.port)
    eventually(lambda: len(replica.cli("KEYS", "*")) == len(server.cli("KEYS", "*")), "the data on the replica")
    url = ("--url", replica.url)
    queue = ("--queue", "mails", *url)
    (found,) = json.loads(ask_here("inspect", "queues", "--json", *url).stdout)
    assert (found["queue"], found["waiting"], found["scheduled"]) == ("mails", 2, 1)
    assert ask_here("inspect", "workers", *queue).returncode == ExitCode.OK
    listed = json.loads(ask_here("inspect", "jobs", "--json", *queue).stdout)
    assert {one["task_id"] for one in listed} == {job.id, done_one.id}
    one = json.loads(ask_here("inspect", "jobs", job.id, "--json", *queue).stdout)
    assert (one["status"], one["args"]) == ("queued", [1])
    assert ask_here("drain", "--timeout", "0.1", *queue).returncode == ExitCode.TIMEOUT
    assert ask_here("inspect", "queues", "--queue", "typo", *url).returncode == ExitCode.NOT_FOUND


@pytest.mark.parametrize(
    ("access", "script_right"), [("~", "+evalsha"), ("%R~", "+evalsha_ro"), ("%R~", "+@scripting")]
)
def test_a_user_of_one_queue_only_can_look_at_it(server: Server, ask_here: Ask, access: str, script_right: str) -> None:
    """This user may neither read the names of all queues nor write."""
    job = Ardiq(redis_url=server.url, queue_name="mails").ref("some.task").enqueue_sync()
    rules = (
        "on",
        ">secret",
        "resetkeys",
        f"{access}ardiq:{{mails}}:*",
        f"{access}ardiq:{{none}}:*",
        "resetchannels",
        "-@all",
        "+@read",
    )
    server.cli("ACL", "SETUSER", "inspector", *rules, "+@connection", script_right, "+script|load", "+time", "+info")
    url = ("--url", server.url.replace("://", "://inspector:secret@"))
    assert ask_here("inspect", "queues", "--queue", "mails", *url).returncode == ExitCode.OK
    for state in ("queued", "scheduled", "running", "dead"):
        listed = ask_here("inspect", "jobs", "--state", state, "--queue", "mails", *url)
        assert listed.returncode == ExitCode.OK, listed.stderr
    assert ask_here("inspect", "jobs", job.id, "--queue", "mails", *url).returncode == ExitCode.OK
    assert ask_here("drain", "--queue", "mails", "--timeout", "0.1", *url).returncode == ExitCode.TIMEOUT
    done = ask_here("inspect", "queues", "--queue", "none", *url)
    assert done.returncode == ExitCode.NOT_FOUND, done.stderr


def test_a_key_of_the_wrong_type_is_named_when_the_names_of_the_queues_are_read(server: Server, ask_here: Ask) -> None:
    server.cli("SET", "ardiq:queues", "odd")
    done = ask_here("inspect", "jobs", "--queue", "typo", "--url", server.url)
    assert done.returncode == ExitCode.NOT_FOUND
    assert "WRONGTYPE" in done.stderr
    assert "ardiq:queues" in done.stderr
    done = ask_here("inspect", "jobs", "--url", server.url)
    assert "ardiq:queues" in done.stderr


def test_a_user_who_lacks_the_right_to_look_is_told_the_smallest_one(server: Server, ask_here: Ask) -> None:
    Ardiq(redis_url=server.url, queue_name="mails").ref("some.task").enqueue_sync()
    server.cli("ACL", "SETUSER", "nosy", "on", ">secret", "%R~*", "-@all", "+@read", "+@connection", "+info")
    done = ask_here("inspect", "queues", "--queue", "mails", "--url", server.url.replace("://", "://nosy:secret@"))
    assert done.returncode not in (ExitCode.OK, ExitCode.NOT_FOUND)
    assert "+evalsha_ro" in done.stderr
