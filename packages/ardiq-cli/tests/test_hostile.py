"""Data that others wrote into Redis is harmless on the terminal and in the log."""

import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import msgpack  # type: ignore[import-untyped]
import pytest

from ardiq import Ardiq
from ardiq_cli.exits import ExitCode
from tests.programs import DEADLINE_S
from tests.servers import Server

Ask = Callable[..., subprocess.CompletedProcess[str]]
OnTerminal = Callable[..., tuple[int, str]]
Module = Callable[[str], None]
MakeServer = Callable[..., Server]

EVIL = "evil\x1b[31m\x1b]0;title\x07\x9b2J\x7f\u202e\u2066\u2028\r\n12:00:00 INFO forged"
SHOWN = r"evil\x1b[31m\x1b]0;title\x07\x9b2J\x7f\u202e\u2066\u2028\r\n12:00:00 INFO forged"
ACTS = ["\x1b[31m", "\x1b]0", "\x07", "\x9b", "\x7f", "\u202e", "\u2066", "\u2028", "\n12:00:00 INFO forged"]


@pytest.fixture
def server(make_server: MakeServer) -> Server:
    """A separate server: the data that is written to it must not disturb other tests."""
    return make_server()


@pytest.fixture
def ask(ask_here: Ask) -> Ask:
    """Run commands in this process, because there are many of them."""
    return ask_here


@pytest.fixture
def work(project: Path, environment: dict[str, str], server: Server) -> Ask:
    """A function that runs a worker in burst mode, in a process of its own."""

    def run(*options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "ardiq_cli", "run", "tasks:app", "--burst", *options],
            cwd=project,
            env={**environment, "ARDIQ_REDIS_URL": server.url},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )

    return run


@pytest.fixture
def app(server: Server) -> Ardiq:
    return Ardiq(redis_url=server.url, queue_name="hostile")


def forge(app: Ardiq, *args: Any, **fields: Any) -> str:
    """Enqueue a job like a producer that does not check what it writes. Returns its id."""
    names = ("id", "name", "lane", "delay_ms", "due_ms", "expire_ms", "unique", "headers", "body")
    submission = dict(zip(names, app.ref("plain").prepare(*args)._submission, strict=True)) | fields
    forged: Any = tuple(submission.values())
    (job,) = app._connection.ask_sync(lambda mailbox, request_id: mailbox.enqueue(request_id, [forged]))
    return str(job)


def harmless(text: str) -> bool:
    return not any(acts in text for acts in ACTS)


def test_names_ids_and_headers_are_shown_with_escapes(
    app: Ardiq, server: Server, ask: Ask, on_terminal: OnTerminal
) -> None:
    forge(app, id=EVIL, name=EVIL, headers={EVIL: EVIL})
    forge(app, name="[red]no markup[/red]")
    listing = ("inspect", "jobs", "--queue", "hostile", "--url", server.url)
    done = ask(*listing)
    assert done.returncode == ExitCode.OK, done.stderr
    assert done.stdout.count(SHOWN) == 2
    assert "[red]no markup[/red]" in done.stdout
    assert harmless(done.stdout)
    status, screen = on_terminal(*listing)
    assert status == ExitCode.OK
    assert harmless(screen.replace("\r\n", "\n"))
    done = ask(*listing, "--json")
    assert done.stdout.isascii()
    assert harmless(done.stdout)
    found = next(job for job in json.loads(done.stdout) if job["task_id"] == EVIL)
    assert (found["fn_name"], found["headers"]) == (EVIL, {EVIL: EVIL})


def test_results_and_tracebacks_are_shown_with_escapes(
    app: Ardiq, server: Server, ask: Ask, work: Ask, on_terminal: OnTerminal, module: Module
) -> None:
    module(f"""
        from ardiq import Ardiq
        app = Ardiq(queue_name="hostile")
        class Loud(Exception):
            __repr__ = __str__ = lambda self: {EVIL!r}
        @app.task
        async def returns(): return {EVIL!r}
        @app.task(max_retries=0)
        async def raises(): raise Loud
        Loud.__qualname__ = {EVIL!r}
    """)
    jobs = [app.ref(name).enqueue_sync() for name in ("returns", "raises")]
    done = work()
    assert harmless(done.stderr)
    assert f"tasks.{SHOWN}" in done.stderr
    for job in jobs:
        one = ("inspect", "jobs", job.id, "--queue", "hostile", "--url", server.url)
        done = ask(*one)
        assert done.returncode == ExitCode.OK, done.stderr
        assert SHOWN in done.stdout.replace("\n", "")
        assert all(acts not in done.stdout for acts in ACTS[:-1])
        _, screen = on_terminal(*one)
        assert all(acts not in screen for acts in ACTS[:-1])
        done = ask(*one, "--json")
        assert harmless(done.stdout)
        found = json.loads(done.stdout)
        assert found["value"] == EVIL


@pytest.mark.parametrize("options", [(), ("--log-format", "json"), ("--verbose",)])
def test_a_name_forges_no_line_in_the_log(app: Ardiq, work: Ask, module: Module, options: tuple[str, ...]) -> None:
    # Each of these is on its way to another line of the log: of Python for one, of the engine for
    # the other.
    module("""
        from ardiq import Ardiq
        app = Ardiq(queue_name="hostile")
        @app.task(max_retries=0)
        async def plain(): raise ValueError
        @app.task
        async def fine(): pass
    """)
    forge(app, id=EVIL)
    forge(app, id=f"2{EVIL}", body=b"\xc1")
    forge(app, id=f"3{EVIL}", name="fine")
    done = work(*options)
    assert done.stderr.count("forged") >= 2
    assert harmless(done.stderr)
    if options[:1] == ("--log-format",):
        assert all(json.loads(line) for line in done.stderr.splitlines())


def test_the_log_of_an_application_is_safe_as_well(app: Ardiq, work: Ask, module: Module, project: Path) -> None:
    module("""
        import logging
        from ardiq import Ardiq
        logging.basicConfig(filename="log")
        app = Ardiq(queue_name="hostile", burst=True)
        @app.task(max_retries=0)
        async def plain(): raise ValueError
    """)
    forge(app, id=EVIL)
    work()
    written = (project / "log").read_text()
    assert SHOWN in written
    assert harmless(written)


def test_errors_are_one_harmless_line(ask: Ask, work: Ask, module: Module) -> None:
    module(f"raise ValueError({EVIL!r})")
    done = work()
    assert done.returncode == ExitCode.USAGE
    assert harmless(done.stderr)
    assert done.stderr.count("\n") == 1
    assert all(acts not in work("--verbose").stderr for acts in ACTS[:1])
    assert harmless(ask("inspect", "jobs", EVIL).stderr)
    assert harmless(ask("inspect", "queues", "--queue", EVIL).stderr)


def test_foreign_names_of_queues_do_not_hide_the_others(app: Ardiq, server: Server, ask: Ask) -> None:
    app.ref("some.task").enqueue_sync()
    foreign = [b"\xff\xfe", EVIL.encode(), b"", b"two words", b"[red]"]
    server.cli("SADD", "ardiq:queues", *foreign)
    done = ask("inspect", "queues", "--json", "--url", server.url)
    assert done.returncode == ExitCode.OK, done.stderr
    found = {queue["queue"]: queue for queue in json.loads(done.stdout)}
    assert found["hostile"]["waiting"] == 1
    assert set(found) == {"hostile", "\\xff\\xfe", EVIL, "", "two words", "[red]"}
    assert "not the name of a queue" in found["\\xff\\xfe"]["error"]
    assert harmless(done.stderr)
    for what in ("queues", "workers"):
        done = ask("inspect", what, "--url", server.url)
        assert done.returncode == ExitCode.OK, done.stderr
        assert harmless(done.stdout + done.stderr)
        assert done.stderr.count("not the name of a queue") == 5
    assert "hostile" in ask("inspect", "queues", "--url", server.url).stdout
    done = ask("inspect", "queues", "--queue", "typo", "--url", server.url)
    assert harmless(done.stderr)


def test_foreign_names_of_queues_are_not_chosen(app: Ardiq, server: Server, ask: Ask) -> None:
    job = app.ref("some.task").enqueue_sync()
    server.cli("SADD", "ardiq:queues", b"\xff\xfe", EVIL.encode(), b"", b"two words")
    done = ask("inspect", "jobs", "--url", server.url)
    assert done.returncode == ExitCode.OK, done.stderr
    assert job.id in done.stdout
    assert done.stderr == "ardiq: using queue 'hostile', the only one in Redis\n"


def test_names_in_notes_about_trouble_are_shown_with_escapes(app: Ardiq, server: Server, ask: Ask) -> None:
    app.ref("some.task").enqueue_sync()
    key = "ardiq:{hostile}:"
    server.cli("SADD", f"{key}lanes", EVIL)
    server.cli("XADD", f"{key}lane:{EVIL}", "*", "label", "envelope")
    now_ms = int(server.cli("TIME")[0]) * 1000
    for worker, lease_ms in ((EVIL, now_ms - 5000), ("alive", now_ms + 60_000)):
        info = [EVIL, 1, 1, 1, 0, 0, 0, EVIL, ["default", f"2{EVIL}"]]
        server.cli("ZADD", f"{key}workers", lease_ms, worker)
        server.cli("HSET", f"{key}worker-info", worker, cast(bytes, msgpack.packb(info)))
    for options in ((), ("--json",)):
        for what, count in (("queues", 3), ("workers", 4)):
            done = ask("inspect", what, "--queue", "hostile", "--url", server.url, *options)
            assert done.returncode == ExitCode.OK, done.stderr
            assert harmless(done.stdout)
            assert done.stdout.count("12:00:00 INFO forged") >= count
    said = ask("inspect", "queues", "--queue", "hostile", "--url", server.url).stdout
    assert f"1 job is waiting in lane {SHOWN}, which no worker serves." in said
    assert f"worker {SHOWN} has not renewed its lease" in said


def test_names_that_are_no_text_do_not_hide_the_others(app: Ardiq, server: Server, ask: Ask) -> None:
    """Lanes, workers, and scheduled or dead jobs: everything that a listing contains."""
    job = app.ref("some.task").enqueue_sync()
    later = app.ref("some.task").options(delay_ms=3_600_000).enqueue_sync()
    key = "ardiq:{hostile}:"
    server.cli("SADD", f"{key}lanes", b"\xff")
    server.cli("ZADD", f"{key}workers", 2**52, b"worker\xff\x1b[31m")
    server.cli("HSET", f"{key}worker-info", b"worker\xff\x1b[31m", b"\xff")
    server.cli("ZADD", f"{key}due", 1e300, b"due\xff")
    server.cli("HSET", f"{key}running", b"runs\xff", b"\xff \xff \xff")
    for options in ((), ("--json",)):
        for what in ("queues", "workers", "jobs"):
            done = ask("inspect", what, "--queue", "hostile", "--url", server.url, *options)
            assert done.returncode == ExitCode.OK, done.stderr
            assert harmless(done.stdout)
            if what == "jobs":
                assert job.id in done.stdout
                assert later.id in done.stdout


def test_one_queue_that_cannot_be_read_does_not_hide_the_others(app: Ardiq, server: Server, ask: Ask) -> None:
    app.ref("some.task").enqueue_sync()
    server.cli("SADD", "ardiq:queues", "broken")
    for name in ("due", "lanes", "running", "dead", "workers"):
        server.cli("SET", f"ardiq:{{broken}}:{name}", "of another type")
    done = ask("inspect", "queues", "--json", "--url", server.url)
    found = {queue["queue"]: queue for queue in json.loads(done.stdout)}
    assert found["hostile"]["waiting"] == 1
    assert "broken" in found
    if "error" in found["broken"]:
        assert done.returncode == ExitCode.FAILED
        assert "queue 'broken'" in done.stderr


ODD: list[tuple[Any, ...]] = [
    ({(1, 2): 3},),
    (float("nan"), float("inf"), -float("inf")),
    (2**70, 10**4999, -(10**4999)),
    (b"\x00\xff", {b"key": {1, (2, 3)}}, frozenset({None})),
    ({1: "a", "1": "b"},),
    ("\x1b[31m\u202e\U0001f600\x00",),
]


def test_every_argument_is_listed(app: Ardiq, server: Server, ask: Ask) -> None:
    nested: Any = 1
    for _ in range(300):
        nested = [nested]
    jobs = [app.ref("some.task").enqueue_sync(*args) for args in [*ODD, (nested,)]]
    jobs_of_another_kind = [
        forge(app, body=b"\xc1 is no msgpack"),
        forge(app, body=b"\x2a"),  # 42, which is no call
        forge(app, body=b""),
    ]
    ids = {*(job.id for job in jobs), *jobs_of_another_kind}
    done = ask("inspect", "jobs", "--queue", "hostile", "--json", "--url", server.url)
    assert done.returncode == ExitCode.OK, done.stderr

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    found = {job["task_id"]: job for job in json.loads(done.stdout, parse_constant=refuse)}
    assert set(found) == ids
    assert found[jobs[0].id]["args"] == [{"(1, 2)": 3}]
    assert found[jobs[1].id]["args"] == ["nan", "inf", "-inf"]
    assert "15 bytes" in str(found[jobs_of_another_kind[0]]["args"])
    for job in ids:
        for options in ((), ("--json",)):
            one = ask("inspect", "jobs", job, "--queue", "hostile", "--url", server.url, *options)
            assert one.returncode == ExitCode.OK, one.stderr


def test_every_result_is_shown(app: Ardiq, server: Server, ask: Ask, work: Ask, module: Module) -> None:
    module("""
        import pickle
        from ardiq import Ardiq
        app = Ardiq(queue_name="hostile", burst=True, serializer=pickle.dumps, deserializer=pickle.loads)
        @app.task
        async def odd(): return {(1, 2): {float("nan")}}
    """)
    own = Ardiq(redis_url=server.url, queue_name="hostile", serializer=pickle.dumps, deserializer=pickle.loads)
    job = own.ref("odd").enqueue_sync()
    listed = ask("inspect", "jobs", "--queue", "hostile", "--url", server.url, "--json")
    assert "only the application can read" in listed.stdout
    assert work().returncode == ExitCode.OK
    for options in ((), ("--json",)):
        done = ask("inspect", "jobs", job.id, "--queue", "hostile", "--url", server.url, *options)
        assert done.returncode == ExitCode.OK, done.stderr
        assert "only the application can read" in done.stdout


ENCODINGS: list[dict[str, str]] = [
    {"PYTHONIOENCODING": "ascii"},
    {"PYTHONIOENCODING": "latin-1"},
    {"PYTHONIOENCODING": "cp1252"},
    {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    {"LC_ALL": "POSIX"},
]


@pytest.mark.parametrize("variables", ENCODINGS, ids=str)
def test_any_console_encoding(
    app: Ardiq, server: Server, project: Path, environment: dict[str, str], variables: dict[str, str]
) -> None:
    job = app.ref("größe.名前").enqueue_sync("größe 名前 \U0001f600")

    def run(*arguments: str) -> bytes:
        done = subprocess.run(
            [sys.executable, "-m", "ardiq_cli", *arguments, "--url", server.url],
            cwd=project,
            env={**{k: v for k, v in environment.items() if not k.startswith("LC_")}, **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=DEADLINE_S,
            check=False,
        )
        assert done.returncode in (ExitCode.OK, ExitCode.TIMEOUT), done.stderr.decode(errors="replace")
        return done.stdout

    queue = ("--queue", "hostile")
    for command in (("inspect", "queues"), ("inspect", "workers", *queue), ("drain", *queue, "--timeout", "0.1")):
        run(*command)
    for command in (("inspect", "jobs", *queue), ("inspect", "jobs", job.id, *queue)):
        assert job.id.encode() in run(*command)
        assert "größe 名前 \U0001f600" in json.dumps(json.loads(run(*command, "--json")), ensure_ascii=False)


def test_times_that_no_clock_has_shown(app: Ardiq, server: Server, ask: Ask) -> None:
    """The header of an entry holds any number of 48 bits for a time: the year may have five
    digits.
    """
    job = app.ref("some.task").enqueue_sync().id.encode()
    lane = "ardiq:{hostile}:lane:default"
    ((entry, fields),) = server.cli("XRANGE", lane, "-", "+")
    ((label, envelope),) = fields.items()
    header = label.removesuffix(job)[:-6] + b"\xff" * 6
    server.cli("XDEL", lane, entry)
    record = server.cli("GET", b"ardiq:{hostile}:job:" + job)
    moved = server.cli("XADD", lane, "*", header + job, envelope)
    server.cli("SET", b"ardiq:{hostile}:job:" + job, record.replace(entry, moved))
    for options in ((), ("--json",)):
        done = ask("inspect", "jobs", "--queue", "hostile", "--url", server.url, *options)
        assert done.returncode == ExitCode.OK, done.stderr
        assert str(2**48 - 1) in done.stdout
