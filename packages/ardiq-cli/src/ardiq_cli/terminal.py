"""Standard output: a terminal or a pipe, in any encoding."""

import io
import sys
from typing import Any, cast


def take_any_text() -> None:
    """Make standard output escape characters that its encoding lacks, instead of failing."""
    out: object = sys.stdout
    if isinstance(out, io.TextIOWrapper):
        cast(Any, out).reconfigure(errors="backslashreplace")
