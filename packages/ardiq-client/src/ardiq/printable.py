r"""Text that may go to a terminal or into a log, whoever wrote it.

Names, ids, results and tracebacks come from Redis, and whoever can write there can put terminal escapes, line breaks and
bidirectional controls into them. Each such character becomes the escape that Python would write: `\x1b`, `\u202e`.
"""

from __future__ import annotations


def printable(text: str) -> str:
    """`text` on one line, without any character that moves the cursor, hides or reorders what is shown."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escape(char) for char in text)


def printable_lines(text: str) -> str:
    """As `printable`, but a newline stays one and a tab becomes spaces: for tracebacks."""
    return "\n".join(map(printable, text.expandtabs(4).split("\n")))


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
