"""Standard output as it is: a terminal or a pipe, in whatever encoding."""

import io
import sys
from typing import Any, cast


def take_any_text() -> None:
    """Let standard output escape what its encoding lacks instead of failing half-way."""
    out: object = sys.stdout
    if isinstance(out, io.TextIOWrapper):
        cast(Any, out).reconfigure(errors="backslashreplace")
