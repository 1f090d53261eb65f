"""The log of `ardiq run` and the application's own logging configuration, which takes
precedence.
"""

import json
import subprocess
from collections.abc import Callable

import pytest

from ardiq import Ardiq
from ardiq_cli.exits import ExitCode
from tests.servers import Server

Ask = Callable[..., subprocess.CompletedProcess[str]]
Module = Callable[[str], None]
Run = Callable[..., list[str]]

WORKERS = pytest.mark.parametrize("workers", ["1", "2"])


@pytest.fixture
def run(server: Server, queue_name: str, module: Module, ask: Ask) -> Run:
    """A function that runs a worker whose application has these lines, and one job. It returns the
    lines of the log.
    """

    def finish(lines: str, *options: str, task: str = "pass") -> list[str]:
        body = "\n    ".join(task.splitlines())
        module(f"""
import logging, logging.config, sys
from ardiq import Ardiq
{lines}
app = Ardiq(queue_name={queue_name!r})
@app.task(max_retries=0)
async def job():
    {body}
""")
        Ardiq(redis_url=server.url, queue_name=queue_name).ref("job").enqueue_sync()
        done = ask("run", "tasks:app", "--burst", *options, ARDIQ_REDIS_URL=server.url)
        assert done.returncode in (ExitCode.OK, ExitCode.FAILED), done.stderr
        # The test's server does not save its data, and the worker always warns about that.
        return [line for line in done.stderr.splitlines() if "append-only" not in line]

    return finish


def one(lines: list[str], part: str) -> str:
    """The only line with `part`."""
    (found,) = [line for line in lines if part in line]
    return found


@WORKERS
@pytest.mark.parametrize("options", [(), ("--log-format", "json")])
def test_basic_config_of_the_application_decides(run: Run, workers: str, options: tuple[str, ...]) -> None:
    lines = run("logging.basicConfig(format='MINE %(name)s %(message)s')", "-w", workers, *options)
    mine = [line for line in lines if " serves " in line]
    assert len(mine) == int(workers)
    assert all(line.startswith("MINE ardiq.worker worker ") for line in mine)
    if workers == "1":
        assert all(line.startswith("MINE ") for line in lines)


def test_level_of_the_application_decides(run: Run) -> None:
    assert run("logging.basicConfig(level=logging.ERROR)") == []
    assert any("finished on attempt" in line for line in run("logging.basicConfig(level=logging.DEBUG)"))
    assert run("logging.getLogger('ardiq').setLevel(logging.ERROR)") == []


def test_what_the_command_line_asks_for_counts_where_the_application_says_nothing_of_ardiq(run: Run) -> None:
    lines = run("logging.basicConfig(format='MINE %(message)s')", "--verbose")
    assert one(lines, "finished on attempt").startswith("MINE ")
    assert run("logging.basicConfig(format='MINE %(message)s')", "--quiet") == []


DICT_CONFIG = """
logging.config.dictConfig({{
    "version": 1,
    {extra}
    "formatters": {{"mine": {{"format": "MINE %(name)s %(message)s"}}}},
    "handlers": {{"mine": {{"class": "logging.StreamHandler", "formatter": "mine"}}}},
    {where}
}})
"""
AT_ROOT = '"root": {"handlers": ["mine"], "level": "INFO"}'
AT_ARDIQ = '"loggers": {"ardiq": {"handlers": ["mine"], "level": "INFO"}}'
AT_WORKER = '"loggers": {"ardiq.worker": {"handlers": ["mine"], "level": "INFO", "propagate": False}}'


@pytest.mark.parametrize("extra", ["", '"disable_existing_loggers": True,', '"disable_existing_loggers": False,'])
@pytest.mark.parametrize("where", [AT_ROOT, AT_ARDIQ, AT_WORKER])
@pytest.mark.parametrize("early", ["", "import ardiq_worker\n"])
def test_dict_config_of_the_application_decides_and_silences_nothing_by_accident(
    run: Run, extra: str, where: str, early: str
) -> None:
    lines = run(early + DICT_CONFIG.format(extra=extra, where=where), task="raise ValueError")
    assert one(lines, " serves ").startswith("MINE ardiq.worker ")
    assert one(lines, "failed on attempt").startswith("MINE ardiq.worker ")


def test_handlers_of_other_loggers_take_nothing_from_ours_and_nothing_is_written_twice(run: Run) -> None:
    lines = run(
        """
handler = logging.StreamHandler()
handler.setFormatter(logging.Formatter("MINE %(message)s"))
logging.getLogger("shop").addHandler(handler)
""",
        task="""
logging.getLogger("shop.cart").warning("from the shop")
logging.getLogger("other").info("from elsewhere")
""",
    )
    assert one(lines, "from the shop") == "MINE from the shop"
    assert "INFO" in one(lines, "from elsewhere")
    assert "INFO" in one(lines, " serves ")


def test_handler_at_the_root_replaces_ours(run: Run) -> None:
    lines = run("logging.getLogger().addHandler(logging.StreamHandler(sys.stderr))")
    assert one(lines, " serves ").startswith("worker ")


def test_a_null_handler_takes_nothing_except_at_the_root_where_it_silences(run: Run) -> None:
    lines = run("logging.getLogger('ardiq').addHandler(logging.NullHandler())")
    assert "INFO" in one(lines, " serves ")
    assert run("logging.getLogger().addHandler(logging.NullHandler())") == []


IMPORTING = "logging.getLogger('shop').info('importing %s', 'now'); logging.getLogger('shop').debug('too much')\n"


@pytest.mark.parametrize("then", ["", "logging.basicConfig(format='MINE %(message)s')"])
def test_what_is_logged_during_the_import_is_shown(run: Run, then: str) -> None:
    lines = run(IMPORTING + then)
    assert "INFO" in one(lines, "importing now")
    assert not [line for line in lines if "too much" in line]
    record = json.loads(one(run(IMPORTING + then, "--log-format", "json"), "importing now"))
    assert (record["level"], record["logger"]) == ("info", "shop")


@pytest.mark.parametrize("place", ["import", "task"])
def test_a_bare_call_of_logging_changes_no_format(run: Run, place: str) -> None:
    call = "logging.info('a bare call')"
    lines = run(call if place == "import" else "", "--log-format", "json", task=call if place == "task" else "pass")
    written = [json.loads(line)["message"] for line in lines if line.startswith("{")]
    assert any(" serves " in message for message in written)
    assert any("has signed off" in message for message in written)
    if place == "task":
        assert "a bare call" in written


def test_without_a_configuration_every_line_is_ours(run: Run) -> None:
    lines = [json.loads(line) for line in run("", "--log-format", "json", task="raise ValueError('\\ud800\\x7f')")]
    assert {line["logger"] for line in lines} == {"ardiq.worker"}


def test_a_level_alone_is_a_configuration(run: Run) -> None:
    lines = run("logging.basicConfig(level=logging.INFO)")
    assert one(lines, " serves ").startswith("INFO:ardiq.worker:")


def test_a_filter_on_the_handler_of_the_application_is_kept(run: Run) -> None:
    lines = run(
        """
class Redacted(logging.Filter):
    def filter(self, record):
        record.msg, record.args = "redacted", ()
        return True
logging.info("this adds a handler")
logging.root.handlers[0].addFilter(Redacted())
"""
    )
    assert {line.split(":")[-1] for line in lines} == {"this adds a handler", "redacted"}


def records(lines: list[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in lines]


def test_json_lines_about_a_job_have_its_facts_as_fields(run: Run) -> None:
    lines = records(run("", "--log-format", "json", "--verbose", task="import asyncio\nawait asyncio.sleep(0.05)"))
    (done,) = [line for line in lines if "finished on attempt" in str(line["message"])]
    assert (done["task"], done["attempt"], done["outcome"]) == ("job", 1, "succeeded")
    assert f"job[{done['job_id']}]" in str(done["message"])
    assert isinstance(done["duration_ms"], int)
    assert 40 <= done["duration_ms"] < 30_000
    lines = records(run("", "--log-format", "json", task="raise ValueError"))
    (failed,) = [line for line in lines if "failed on attempt" in str(line["message"])]
    assert (failed["task"], failed["attempt"], failed["outcome"]) == ("job", 1, "failed")
    assert {"job_id", "duration_ms"} <= set(failed)
    (start,) = [line for line in lines if " serves " in str(line["message"])]
    assert set(start) == {"time", "level", "logger", "pid", "message"}


def test_json_lines_of_the_application_have_its_extra_fields_and_the_job_that_they_belong_to(run: Run) -> None:
    body = """
import asyncio
log = logging.getLogger("shop")
def tell():
    log.info("in a thread", extra={"task": "mine"})
async def child():
    log.info("from a child")
log.info("paid", extra={"amount": 3, "items": ["a", b"b"], "time": 5})
await asyncio.create_task(child())
await asyncio.to_thread(tell)
"""
    lines = records(
        run("logging.getLogger('shop').info('loading', extra={'stage': 1})", "--log-format", "json", task=body)
    )
    said = {str(line["message"]): line for line in lines}
    assert said["loading"]["stage"] == 1
    assert "job_id" not in said["loading"]
    paid = said["paid"]
    assert (paid["amount"], paid["items"], paid["extra.time"]) == (3, ["a", "b'b'"], 5)
    assert str(paid["time"]).startswith("20")
    assert (paid["task"], paid["attempt"]) == ("job", 1)
    assert paid["job_id"] == said["from a child"]["job_id"] == said["in a thread"]["job_id"]
    assert said["in a thread"]["task"] == "mine", "what the caller passes counts"


def test_console_lines_stay_readable(run: Run) -> None:
    lines = run("", task="logging.getLogger('shop').info('paid', extra={'amount': 3})\nraise ValueError")
    assert one(lines, "shop").endswith(" shop: paid")
    assert "failed on attempt 1 of 1 and will not be retried: ValueError at " in one(lines, "failed on attempt")
    assert "duration" not in one(lines, "failed on attempt")
