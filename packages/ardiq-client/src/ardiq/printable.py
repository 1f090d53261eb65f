r"""Makes untrusted text safe for a terminal or a log.

Names, ids, results and tracebacks come from Redis. Any Redis user can put terminal escapes, line
breaks and bidirectional controls into them. Each such character becomes the escape that Python
would write: `\x1b`, `\u202e`.
"""

from __future__ import annotations


def printable(text: str) -> str:
    """Return `text` on one line, without characters that move the cursor or hide or reorder
    text.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escape(char) for char in text)


def printable_lines(text: str) -> str:
    """Like `printable`, but keeps newlines and expands tabs, for tracebacks."""
    return "\n".join(map(printable, text.expandtabs(4).split("\n")))


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
