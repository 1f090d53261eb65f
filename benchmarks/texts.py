"""Which of our scripts a call was: the server names them by the digest of their text."""

import hashlib
from collections.abc import Sequence
from functools import cache

from benchmarks.contenders import ROOT

LUA = ROOT / "packages" / "ardiq-core" / "engine" / "lua"
FLAGS = ("", " flags=allow-oom", " flags=no-writes")
"""What the engine may put into the first line of a script."""


@cache
def names() -> dict[str, str]:
    """By digest: the file of each script, in all forms in which the engine may send it."""
    prelude = (LUA / "prelude.lua").read_text(encoding="utf-8")
    return {
        hashlib.sha1(f"#!lua{flags}\n{prelude}{file.read_text(encoding='utf-8')}".encode()).hexdigest(): file.stem
        for file in LUA.glob("*.lua")
        for flags in FLAGS
    }


def name_of(command: Sequence[bytes]) -> str:
    """A command in a word or two: the script by its file, others by their own name."""
    name = command[0].decode().lower()
    if name == "script":
        return b" ".join(command[:2]).decode().lower()
    if name != "evalsha":
        return name
    digest = command[1].decode()
    return names().get(digest, f"script {digest[:8]}")
