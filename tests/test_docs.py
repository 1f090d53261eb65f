"""The pages are followed as a reader would, each with a server of its own; tests/reader.py says
how.

Pages leave the URL of Redis out, so that they find the server of the test.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.reader import Block, blocks, reading
from tests.servers import Server

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
FENCE = re.compile(r"^ *(?:```+|~~~+)(?P<options>.*)$", re.MULTILINE)
LANGUAGES = {"console", "dockerfile", "ini", "markdown", "mermaid", "python", "text", "toml", "yaml"}

MakeServer = Callable[[], Server]


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture
def server_url(make_server: MakeServer, monkeypatch: pytest.MonkeyPatch) -> str:
    url = make_server().url  # one for each page: readers remember the names of queues, so several pages use the same
    monkeypatch.setenv("ARDIQ_REDIS_URL", url)
    return url


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "reader"
    place.mkdir()
    monkeypatch.chdir(place)
    return place


def followed() -> list[Any]:
    """The pages with blocks. In the tutorial, the reader waits for slow jobs and for a lease."""
    slow = {DOCS / "tutorial.md": [pytest.mark.slow, pytest.mark.timeout(300)]}
    return [pytest.param(page, marks=slow.get(page, []), id=named(page)) for page in PAGES if blocks(page)]


@pytest.mark.parametrize("page", followed())
def test_a_page_can_be_followed(page: Path, server_url: str, directory: Path, tmp_path: Path) -> None:
    with reading(blocks(page), server_url, directory, tmp_path) as reader:
        reader.follow()


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_block_is_fenced_in_a_way_that_is_understood(page: Path) -> None:
    # Fences come in pairs: with options, then without.
    openings = [match["options"] for match in FENCE.finditer(page.read_text(encoding="utf-8"))][::2]
    assert len(openings) == len(blocks(page)), openings
    assert {block.language for block in blocks(page)} <= LANGUAGES


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_what_is_not_run_says_why(page: Path) -> None:
    marked = page.read_text(encoding="utf-8").count("<!-- not run")
    assert marked == sum(block.not_run is not None for block in blocks(page))
    assert [block.line for block in blocks(page) if block.not_run and block.language == "python"] == []


def test_the_pages_that_must_have_code_have_some() -> None:
    pages = ("README.md", "docs/index.md", "docs/tutorial.md")
    assert [name for name in pages if not any(block.language == "python" for block in blocks(ROOT / name))] == []


def block(code: str, language: str = "python", title: str | None = None) -> Block:
    return Block(Path("wrong.md"), 1, language, title, False, code, None)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (block("1 / 0"), ZeroDivisionError),
        (block("import asyncio\nawait asyncio.wait_for(asyncio.Event().wait(), 0)"), TimeoutError),
        (block("import ardiq\n1 / 0 # Ardiq(", title="wrong_module.py"), ZeroDivisionError),
        (block("1 / 0", title="wrong_program.py"), AssertionError),
        (block("$ false", "console"), AssertionError),
        (block("$ echo 12\n13", "console"), AssertionError),
        (block("12", "console"), AssertionError),
    ],
    ids=lambda value: value.code if isinstance(value, Block) else "",
)
def test_a_block_that_is_wrong_fails(wrong: Block, error: type[Exception], directory: Path, tmp_path: Path) -> None:
    with pytest.raises(error), reading([], "", directory, tmp_path) as reader:
        reader.step(wrong)


def test_an_output_may_leave_a_part_open(directory: Path, tmp_path: Path) -> None:
    with reading([], "", directory, tmp_path) as reader:
        reader.step(block("$ echo a 12 b\na … b", "console"))
