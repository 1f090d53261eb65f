"""Keep prose within 100 columns: Markdown, comments and docstrings.

`prose_width.py` lists the lines that are too long; `--fix` wraps their paragraphs. Tables, code
blocks, headings, comments behind code and words without spaces, such as links, may be longer.
"""

import argparse
import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
WIDTH = 100

FENCE = re.compile(r"(```|~~~)")
ITEM = re.compile(r"([-*+]|\d+[.)]) +")
CONTAINER = re.compile(r"(!!!|\?\?\?\+?|===\+?) ")
# What is indented below one of these is not a continued paragraph.
OPENING = re.compile(r"(!!!|\?\?\?\+?|===\+?|:::) ")
NO_PARAGRAPH = re.compile(r"(\||#|<|\[[^\]]+\]: |(-{3,}|={3,}|\*{3,})$|(!!!|\?\?\?\+?|===\+?) |:::)")
SECTION = re.compile(r"(Args|Attributes|Raises|Returns|Yields|Note|Example|Examples):$")
ENTRY = re.compile(r"\*{0,2}[\w.]+( \([^)]*\))?: ")
LABEL = re.compile(r"\S+ {2,}(?=\S)")
SENTENCE = re.compile(r"(?<=[.!?]) (?=[A-Z`\"'])")
PRAGMA = re.compile(r"(noqa|type:|pyright:|fmt:|pragma|!)")
# A code span is one word.
WORD = re.compile(r"(?:`+[^`]+`+|[^\s`]|`)+")
# A line that begins with one of these would be something else in Markdown.
MARKUP = re.compile(r"([-*+>|]|\d+[.)]|#+|=+|!!!|:::)$")


@dataclass(frozen=True)
class Paragraph:
    """Lines `start` to `stop`, with what stands before the text of the first line and of the
    others.
    """

    start: int
    stop: int
    first: str
    rest: str
    text: str
    # What follows the text of a docstring's summary on the same line. None if it is not a summary.
    closing: str | None = None


@dataclass(frozen=True)
class Finding:
    """A paragraph with a line that is too long, and the lines that replace it."""

    paragraph: Paragraph
    replacement: list[str]


def wrap(text: str, first: str, rest: str) -> list[str]:
    """Fill lines with the words of `text`."""
    lines, line = list[str](), first
    is_empty = True
    for word in WORD.findall(text):
        fits = len(line) + (0 if is_empty else 1) + len(word) <= WIDTH
        if is_empty or fits or MARKUP.match(word):
            line += word if is_empty else f" {word}"
        else:
            lines.append(line)
            line = rest + word
        is_empty = False
    return [*lines, line]


def indent_of(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def markdown(lines: Sequence[str], offset: int = 0, prefix: str = "") -> Iterator[Paragraph]:
    """Yield the paragraphs of a Markdown text whose lines all begin with `prefix`."""
    levels = [0]  # columns at which the text of the enclosing list items and admonitions begins
    fence: str | None = None
    number, was_blank = 0, True
    while number < len(lines):
        line = lines[number]
        indent, text = indent_of(line), line.strip()
        opened = FENCE.match(text)
        if fence is not None or opened:
            mark = opened.group(1) if opened else ""
            fence = (None if mark == fence else fence) if fence is not None else mark
            number, was_blank = number + 1, False
            continue
        if not text:
            number, was_blank = number + 1, True
            continue
        while len(levels) > 1 and indent < levels[-1]:
            levels.pop()
        if CONTAINER.match(text):
            levels.append(indent + 4)
        is_code = was_blank and indent >= levels[-1] + 4
        if is_code or NO_PARAGRAPH.match(text):
            number, was_blank = number + 1, is_code or OPENING.match(text) is not None
            continue
        item = ITEM.match(text)
        marker = text[: item.end()] if item else "> " if text.startswith("> ") else ""
        hang = " " * indent + ("> " if marker == "> " else " " * len(marker))
        if item:
            levels.append(indent + len(marker))
        start, parts = number, [text[len(marker) :]]
        number += 1
        while number < len(lines) and not ends_with_break(lines[number - 1]):
            following = lines[number].strip()
            if marker == "> " and following.startswith("> "):
                following = following[2:]
            elif not following or ITEM.match(following) or NO_PARAGRAPH.match(following) or FENCE.match(following):
                break
            parts.append(following)
            number += 1
        first = prefix + " " * indent + marker
        yield Paragraph(offset + start, offset + number, first, prefix + hang, " ".join(parts))
        was_blank = False


def ends_with_break(line: str) -> bool:
    return line.endswith(("  ", "\\"))


def hanging(lines: Sequence[str], offset: int, prefix: str) -> Iterator[Paragraph]:
    """The paragraphs of a comment.

    A line that ends early ends a paragraph, and text may hang behind a label.
    """
    number = 0
    while number < len(lines):
        line = lines[number]
        if not line.strip() or PRAGMA.match(line.strip()):
            number += 1
            continue
        indent, text = indent_of(line), line.strip()
        marker = ITEM.match(text) or LABEL.match(text)
        column = indent + (marker.end() if marker else 0)
        if not marker and ENTRY.match(text) and number + 1 < len(lines) and indent_of(lines[number + 1]) == indent + 4:
            column = indent + 4
        start, parts = number, [text]
        number += 1
        while number < len(lines) and continues(lines[number - 1], lines[number], column, len(prefix)):
            parts.append(lines[number].strip())
            number += 1
        first = prefix + " " * indent + (text[: marker.end()] if marker else "")
        parts[0] = text[marker.end() :] if marker else text
        yield Paragraph(offset + start, offset + number, first, prefix + " " * column, " ".join(parts))


def continues(line: str, following: str, column: int, before: int) -> bool:
    """Whether the text of a line goes on in the next one: it does if the next word did not fit."""
    text = following.strip()
    if not text or ITEM.match(text) or LABEL.match(text) or PRAGMA.match(text) or indent_of(following) != column:
        return False
    return before + len(line.rstrip()) + 1 + len(text.split()[0]) > WIDTH


def comment_blocks(lines: Sequence[str], marker: re.Pattern[str]) -> Iterator[tuple[int, list[str], str]]:
    """Each run of comment lines with the same indentation: its first line, its texts, and what
    stands before them.
    """
    number = 0
    while number < len(lines):
        found = marker.match(lines[number])
        if not found:
            number += 1
            continue
        start, prefix, texts = number, found.group(0).rstrip(" "), list[str]()
        while number < len(lines) and (same := marker.match(lines[number])) and same.group(0).rstrip(" ") == prefix:
            texts.append(lines[number][len(prefix) :].removeprefix(" "))
            number += 1
        yield start, texts, f"{prefix} "


def rust(text: str) -> Iterator[Paragraph]:
    """The paragraphs of the comments in a Rust file, which are Markdown."""
    for start, texts, prefix in comment_blocks(text.split("\n"), re.compile(r" *//[/!]?(?= |$)")):
        yield from markdown(texts, start, prefix)


def lua(text: str) -> Iterator[Paragraph]:
    """The paragraphs of the comments in a Lua file."""
    for start, texts, prefix in comment_blocks(text.split("\n"), re.compile(r" *--(?= |$)")):
        yield from hanging(texts, start, prefix)


def python(text: str) -> Iterator[Paragraph]:
    """The paragraphs of the comments and docstrings in a Python file."""
    lines = text.split("\n")
    own = {
        token.start[0] - 1
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.COMMENT and not token.line[: token.start[1]].strip()
    }
    comments = [line if number in own else "" for number, line in enumerate(lines)]
    for start, texts, prefix in comment_blocks(comments, re.compile(r" *#(?= |$)")):
        yield from hanging(texts, start, prefix)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield from docstring(lines, node.lineno - 1, (node.end_lineno or node.lineno) - 1)


def docstring(lines: Sequence[str], start: int, end: int) -> Iterator[Paragraph]:
    """The paragraphs of a docstring in the Google layout."""
    opening = re.match(r' *[rR]?"""', lines[start])
    if not opening:
        return
    indent = " " * indent_of(lines[start])
    summary_end = start + 1
    while summary_end < end and lines[summary_end].strip():
        summary_end += 1
    parts = [lines[start][opening.end() :], *lines[start + 1 : summary_end]]
    closing = '"""' if start == end and parts[0].endswith('"""') else ""
    text = " ".join(part.strip() for part in parts).removesuffix(closing)
    yield Paragraph(start, summary_end, opening.group(0), indent, text, closing)
    body = [line[len(indent) :] if line.startswith(indent) else line.strip() for line in lines[summary_end:end]]
    number = 0
    while number < len(body):
        section = SECTION.match(body[number])
        stop = number + 1
        while stop < len(body) and not SECTION.match(body[stop]):
            stop += 1
        if section is None:
            yield from markdown(body[number:stop], summary_end + number, indent)
        elif not section.group(1).startswith("Example"):
            yield from entries(body[number + 1 : stop], summary_end + 1 + number, indent, section.group(1))
        number = stop


def entries(lines: Sequence[str], offset: int, prefix: str, section: str) -> Iterator[Paragraph]:
    """The paragraphs of a section of a docstring.

    Those of arguments and exceptions hang by four columns.
    """
    has_names = section in {"Args", "Attributes", "Raises"}
    number = 0
    while number < len(lines):
        start, parts = number, [lines[number].strip()]
        hang = 8 if has_names and ENTRY.match(parts[0]) else max(4, indent_of(lines[start]))
        number += 1
        while parts[0] and number < len(lines) and lines[number].strip():
            if has_names and indent_of(lines[number]) <= 4:
                break
            parts.append(lines[number].strip())
            number += 1
        if parts[0]:
            first = prefix + " " * indent_of(lines[start])
            yield Paragraph(offset + start, offset + number, first, prefix + " " * hang, " ".join(parts))


READERS: dict[str, Callable[[str], Iterator[Paragraph]]] = {
    ".md": lambda text: markdown(text.split("\n")),
    ".rs": rust,
    ".lua": lua,
    ".py": python,
    ".pyi": python,
}


def findings(text: str, suffix: str) -> list[Finding]:
    """The paragraphs of a file that have a line that is too long."""
    lines, found = text.split("\n"), list[Finding]()
    for paragraph in READERS[suffix](text):
        old = lines[paragraph.start : paragraph.stop]
        if all(len(line) <= WIDTH for line in old):
            continue
        new = summary(paragraph) if paragraph.closing is not None else rewrap(paragraph)
        if new != old and max(map(len, new)) < max(map(len, old)):
            found.append(Finding(paragraph, new))
    return found


def rewrap(paragraph: Paragraph) -> list[str]:
    return wrap(paragraph.text, paragraph.first, paragraph.rest)


def summary(paragraph: Paragraph) -> list[str]:
    """The summary of a docstring: its first sentence becomes a paragraph if it fits on the line."""
    head, *tail = SENTENCE.split(paragraph.text, maxsplit=1)
    if tail and len(paragraph.first) + len(head) <= WIDTH:
        new = [paragraph.first + head, "", *wrap(tail[0], paragraph.rest, paragraph.rest)]
    else:
        new = rewrap(paragraph)
        if len(new) == 1 and " " in paragraph.text:  # only the closing quotes are too much
            head, last = paragraph.text.rsplit(" ", 1)
            new = [paragraph.first + head, paragraph.rest + last]
    return [*new, paragraph.rest + paragraph.closing] if paragraph.closing else new


def fixed(text: str, suffix: str) -> str:
    """The text in which the paragraphs of all findings are wrapped."""
    lines = text.split("\n")
    for finding in sorted(findings(text, suffix), key=lambda one: one.paragraph.start, reverse=True):
        lines[finding.paragraph.start : finding.paragraph.stop] = finding.replacement
    return "\n".join(lines)


def prose_files(root: Path, names: Iterable[str] = ()) -> list[Path]:
    """Return every file with prose that git tracks or would track, below `names` if there are
    any.
    """
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *names],
        cwd=root,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    paths = (root / name for name in listing.split("\0") if name)
    return sorted(path for path in paths if path.suffix in READERS and path.is_file())


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """List or fix the lines; the exit code says whether any are left."""
    parser = argparse.ArgumentParser(description="Keep prose within 100 columns.")
    parser.add_argument("--fix", action="store_true", help="wrap the paragraphs that have a line that is too long")
    parser.add_argument("paths", nargs="*", help="files or directories, by default the whole repository")
    options = parser.parse_args(arguments)
    offenders = list[str]()
    for path in prose_files(root, [str(Path(name).resolve()) for name in options.paths]):
        text = path.read_text(encoding="utf-8")
        if options.fix and (new := fixed(text, path.suffix)) != text:
            path.write_text(new, encoding="utf-8")
            text = new
        found = findings(text, path.suffix)
        offenders += [f"{path.relative_to(root)}:{finding.paragraph.start + 1}" for finding in found]
    advice = f"{len(offenders)} paragraphs exceed {WIDTH} columns; run: python tools/prose_width.py --fix"
    print("\n".join([*offenders, advice]) if offenders else f"all prose fits in {WIDTH} columns")
    return 1 if offenders else 0


if __name__ == "__main__":
    sys.exit(main())
