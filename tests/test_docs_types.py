"""Every Python block of the README and of the documentation passes `mypy --strict`.

The files of a page are checked as they are once the page has been followed to its end. The blocks
without a title are one more module: a session, in which `await` may stand at the top and a variable
may change its type.
"""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.reader import Block, blocks
from tests.test_docs import DOCS, PAGES, named

pytest.importorskip("mypy")

# Where the packages are linked to their sources. mypy finds by itself what is installed as a wheel.
PLACES = {str(Path(str(find_spec(name).origin)).parent.parent) for name in ("ardiq", "ardiq_core")}  # type: ignore[union-attr]
SOURCES = sorted(place for place in PLACES if Path(place).name != "site-packages")
SESSION = ["--allow-redefinition", "--implicit-reexport", "--disable-error-code=top-level-await"]


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mypy")


def mypy(cache: Path, directory: Path, files: list[str], options: list[str]) -> str:
    """What mypy finds wrong."""
    run = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--config-file="),
            *("--cache-dir", str(cache / "-".join(["cache", *options]))),
            *(*options, *files),
        ],
        cwd=directory,
        env={"MYPYPATH": ":".join(SOURCES), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
    )
    return run.stdout + run.stderr


def check(page: list[Block], cache: Path, directory: Path) -> str:
    """Write the blocks of a page as files, and return what mypy finds wrong."""
    files: list[str] = []
    session: list[str] = []
    for block in page:
        if block.language != "python":
            continue
        if block.title is None:
            session += [f"# {block.page.name}:{block.line}", block.code]
            continue
        file = directory / block.title
        if block.appends:
            file.write_text(f"{file.read_text()}\n\n{block.code}")
        else:
            file.write_text(block.code)
            files.append(file.name)
            if "Ardiq(" in block.code:
                session.append(f"from {file.stem} import *")
    found = mypy(cache, directory, files, []) if files else ""
    if any(block.language == "python" and block.title is None for block in page):
        (directory / "the_session.py").write_text("\n".join(session))
        found += mypy(cache, directory, ["the_session.py"], SESSION)
    return found


WITH_PYTHON = [page for page in PAGES if any(block.language == "python" for block in blocks(page))]


@pytest.mark.parametrize("page", WITH_PYTHON, ids=named)
def test_the_python_of_a_page_is_typed(page: Path, cache: Path, tmp_path: Path) -> None:
    assert check(blocks(page), cache, tmp_path) == ""


@pytest.mark.parametrize("title", ["shop.py", None])
def test_a_block_with_a_wrong_type_is_found(title: str | None, cache: Path, tmp_path: Path) -> None:
    wrong = Block(DOCS / "wrong.md", 1, "python", title, False, 'number: int = "one"\n', None)
    assert "Incompatible types in assignment" in check([wrong], cache, tmp_path)
