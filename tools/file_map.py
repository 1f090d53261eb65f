"""Write the file map of ARCHITECTURE.md from the first sentence of each file; --check compares."""

import argparse
import ast
import re
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "ARCHITECTURE.md"
COMMAND = "python tools/file_map.py"
WIDTH = 100

ROOTS = (
    "packages/ardiq-core/engine/lua",
    "packages/ardiq-core/engine/src",
    "packages/ardiq-core/src",
    "packages/ardiq-core/python/ardiq_core",
    "packages/ardiq-client/src/ardiq",
    "packages/ardiq-worker/src/ardiq_worker",
    "packages/ardiq-cli/src/ardiq_cli",
    "tools",
)
SUFFIXES = {".lua", ".py", ".rs"}

_SECTION = re.compile(r"(<!-- file map -->\n).*?(<!-- end of file map -->)", re.DOTALL)
_COMMENT = {".rs": re.compile(r"(?:^//! ?.*\n)+", re.MULTILINE), ".lua": re.compile(r"(?:^-- ?.*\n)+", re.MULTILINE)}
_MARK = {".rs": re.compile(r"^//! ?", re.MULTILINE), ".lua": re.compile(r"^-- ?", re.MULTILINE)}


def render(page: str) -> str:
    """Return the page with its file map renewed."""
    return _SECTION.sub(lambda match: f"{match[1]}\n{file_map()}\n{match[2]}", page)


def file_map() -> str:
    """Return one list for each directory, with a line for each file."""
    parts: list[str] = []
    for directory in directories():
        lines = [entry(path) for path in sorted(directory.iterdir()) if path.suffix in SUFFIXES]
        parts.append(f"`{directory.relative_to(ROOT).as_posix()}/`\n\n" + "\n".join(lines) + "\n")
    return "\n".join(parts)


def directories() -> Iterator[Path]:
    """All directories with source files, parents first."""
    for root in ROOTS:
        place = ROOT / root
        for directory in [place, *sorted(path for path in place.rglob("*") if path.is_dir())]:
            if any(path.suffix in SUFFIXES for path in directory.iterdir()):
                yield directory


def entry(path: Path) -> str:
    """Return the line of one file: its name, and the first sentence of its documentation."""
    text = f"- `{path.name}`: {sentence(path)}"
    return textwrap.fill(text, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def sentence(path: Path) -> str:
    """Return the first sentence of a file's documentation. Raises ValueError if it has none."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        found = ast.get_docstring(ast.parse(text)) or ""
    else:
        block = _COMMENT[path.suffix].match(text)
        found = _MARK[path.suffix].sub("", block[0]) if block else ""
    if path.suffix == ".lua":
        found = found.removeprefix(f"{path.stem}: ")
    paragraph = " ".join(found.split("\n\n")[0].split())
    first = re.match(r".+?[.!?](?=\s|$)", paragraph)
    if first is None:
        raise ValueError(f"{path.relative_to(ROOT)} must begin with a sentence that says what the file does")
    return first[0][:1].upper() + first[0][1:]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check the page; the exit code says whether it was, or is, up to date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 if the map is stale")
    check: bool = parser.parse_args(arguments).check
    before = PAGE.read_text(encoding="utf-8")
    after = render(before)
    if check and after != before:
        print(f"{PAGE.name} has a stale file map; run: {COMMAND}", file=sys.stderr)
        return 1
    if after != before:
        PAGE.write_text(after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
