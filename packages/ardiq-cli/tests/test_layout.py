"""Tables fit the screen by leaving columns out. Identifiers are never cut."""

import re
from collections.abc import Callable

import pytest

from ardiq import Ardiq
from ardiq_cli.exits import ExitCode
from ardiq_cli.layout import Column, arrange
from tests.servers import Server

OnTerminal = Callable[..., tuple[int, str]]

COLUMNS = (
    Column("id", 0),
    Column("task", 1, wraps=True),
    Column("two\nlines", 3),
    Column("empty", 2, may_be_empty=False),
    Column("note", 4, wraps=True),
)
ROW = ["i" * 30, "t" * 40, "12", "", "n" * 100]


def plain(screen: str) -> str:
    return re.sub(r"\x1b\[[\d;]*m", "", screen)


def titles(width: int) -> list[str]:
    return [COLUMNS[position].title for position in arrange(COLUMNS, [ROW], width).positions]


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (96, ["id", "task", "two lines", "note"]),
        (95, ["id", "task", "two lines"]),
        (68, ["id", "task"]),
        (60, ["id", "two lines"]),
        (41, ["id"]),
        (1, ["id"]),
    ],
)
def test_columns_get_their_room_by_importance(width: int, shown: list[str]) -> None:
    assert titles(width) == shown
    layout = arrange(COLUMNS, [ROW], width)
    assert layout.left_out == [title for title in ("task", "two lines", "note") if title not in shown]
    assert layout.width <= max(width, 34)
    assert layout.widths[0] == 30, "an id is never cut"
    assert titles(layout.needed) == ["id", "task", "two lines", "note"], "the width that is named is enough"


def test_text_that_wraps_gets_the_spare_room_from_left_to_right() -> None:
    assert arrange(COLUMNS, [ROW], 115).widths == [30, 40, 5, 27]
    assert arrange(COLUMNS, [ROW], 1000).widths == [30, 40, 5, 100]


def test_wide_characters_count_twice() -> None:
    assert arrange([Column("id", 0)], [["名前"]], 80).widths == [4]


@pytest.fixture
def app(server: Server, queue_name: str) -> Ardiq:
    return Ardiq(redis_url=server.url, queue_name=queue_name, priorities=["low", "default", "high"])


@pytest.mark.parametrize("columns", [20, 80, 300])
def test_no_id_is_cut_on_any_terminal(app: Ardiq, on_terminal: OnTerminal, server: Server, columns: int) -> None:
    long_id = "an-id-of-a-job-that-" + "is-long-" * 10
    job = app.ref("a.task.with.a.long.name." + "x" * 30).options(task_id=long_id).enqueue_sync()
    others = [app.ref("some.task").options(delay_ms=3_600_000).enqueue_sync() for _ in range(2)]
    where = ("--queue", app.queue_name, "--url", server.url)
    status, screen = on_terminal("inspect", "jobs", *where, columns=columns)
    assert status == ExitCode.OK
    for one in (job, *others):
        assert one.id in screen
    assert "…" not in screen
    assert ("Left out:" in screen) is (columns < 300)
    assert ("lane" in screen.splitlines()[1]) is (columns == 300)
    _, screen = on_terminal("inspect", "jobs", job.id, *where, columns=columns)
    assert "…" not in screen
    assert long_id in screen.replace("\r\n", "").replace(" ", "")


def test_what_is_left_out_is_named_with_the_way_to_see_it(app: Ardiq, on_terminal: OnTerminal, server: Server) -> None:
    app.ref("some.task").enqueue_sync()
    where = ("--queue", app.queue_name, "--url", server.url)
    _, screen = on_terminal("inspect", "jobs", *where, columns=80)
    (last,) = [line for line in screen.splitlines() if line.startswith("Left out: ")]
    assert last.startswith("Left out: tries, enqueued. To see all: --json, or a terminal of ")
    needed = int(last.split()[-2])
    _, screen = on_terminal("inspect", "jobs", *where, columns=needed - 1)
    assert "Left out" in screen
    _, screen = on_terminal("inspect", "jobs", *where, columns=needed)
    assert "Left out" not in screen
    assert "enqueued" in screen


def test_queues_and_workers_fit_80_columns_with_their_names_and_lanes(
    app: Ardiq, on_terminal: OnTerminal, server: Server
) -> None:
    for lane in ("low", "high"):
        app.ref("some.task").options(priority=lane).enqueue_sync()
    for what in ("queues", "workers"):
        status, screen = on_terminal("inspect", what, "--url", server.url, "--queue", app.queue_name, columns=80)
        assert status == ExitCode.OK
        assert all(len(line) <= 80 for line in plain(screen).splitlines())
    _, screen = on_terminal("inspect", "queues", "--url", server.url, "--queue", app.queue_name, columns=80)
    assert app.queue_name in screen
    assert "of these scheduled" in screen.replace("\r\n", " ")
    assert "waiting includes scheduled jobs" in screen


def test_notes_stand_below_a_table_that_has_no_room_for_them(
    app: Ardiq, on_terminal: OnTerminal, server: Server, ask: Callable[..., object], module: Callable[[str], None]
) -> None:
    strange = Ardiq(
        redis_url=server.url,
        queue_name=app.queue_name,
        serializer=lambda _value: b"\xc1 is no msgpack",
        deserializer=lambda data: data,
    )
    job = strange.ref("some.task").enqueue_sync()
    module(f"""
        from ardiq import Ardiq
        app = Ardiq(queue_name={app.queue_name!r})
        @app.task(name="some.task")
        async def some_task(): ...
    """)
    ask("run", "tasks:app", "--burst", ARDIQ_REDIS_URL=server.url)
    for columns in (80, 200):
        where = ("--queue", app.queue_name, "--url", server.url)
        _, screen = on_terminal("inspect", "jobs", *where, columns=columns)
        assert (f"{job.id}: the arguments cannot be decoded" in screen) is (columns == 80)
        assert "the arguments cannot be decoded" in screen
