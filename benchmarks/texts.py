"""Tells which of our scripts a call ran: the server identifies scripts by the digest of their
text.
"""

import hashlib
import re
from collections.abc import Sequence
from functools import cache

from benchmarks.contenders import ROOT

LUA = ROOT / "packages" / "ardiq-core" / "engine" / "lua"
LIST = LUA.parent / "src" / "scripts" / "mod.rs"
ROW = re.compile(r'^    [A-Z]+, "(\w+)", "([^"]*)", \[(.*)\];$', re.MULTILINE)
"""Name and flags of a script, and the files that are included in front of it."""


@cache
def names() -> dict[str, str]:
    """Return the file of each script by its digest. The text is assembled as in the engine."""

    def text(name: str) -> str:
        return (LUA / f"{name}.lua").read_text(encoding="utf-8")

    found: dict[str, str] = {}
    for name, flags, parts in ROW.findall(LIST.read_text(encoding="utf-8")):
        files = ["prelude", *re.findall(r"\w+", parts), name]
        found[hashlib.sha1(f"#!lua{flags}\n{''.join(map(text, files))}".encode()).hexdigest()] = name
    return found


def name_of(command: Sequence[bytes]) -> str:
    """Return a short name of a command: the file of a script, or the command's own name."""
    name = command[0].decode().lower()
    if name == "script":
        return b" ".join(command[:2]).decode().lower()
    if name != "evalsha":
        return name
    digest = command[1].decode()
    return names().get(digest, f"script {digest[:8]}")
