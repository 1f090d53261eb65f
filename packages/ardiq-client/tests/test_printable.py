"""Which text may be written to a terminal or a log."""

import sys

import pytest

from ardiq import Ardiq, Job
from ardiq.printable import printable, printable_lines


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("shop.tasks:welcome 'it' \\n [red]", "shop.tasks:welcome 'it' \\n [red]"),
        ("größe 名前 é", "größe 名前 é"),
        ("\x1b[31mred\x1b]0;title\x07", "\\x1b[31mred\\x1b]0;title\\x07"),
        ("\x9b2J\x7f\x00\r\n\t", "\\x9b2J\\x7f\\x00\\r\\n\\t"),
        ("\u202etxt.exe\u2066\u200f", "\\u202etxt.exe\\u2066\\u200f"),
        ("\u2028\u2029\x85\x0b\x0c\x1c", "\\u2028\\u2029\\x85\\x0b\\x0c\\x1c"),
        ("\ud800\udfff", "\\ud800\\udfff"),
        ("\U000e0001\ufeff\u200b", "\\U000e0001\\ufeff\\u200b"),
    ],
)
def test_what_a_terminal_would_act_upon_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable_lines(f"a\n\tb {text.replace(chr(10), '').replace(chr(9), '')}").count("\n") == 1


def test_every_character_becomes_one_that_is_printable_and_has_an_encoding() -> None:
    for start in range(0, sys.maxunicode, 4096):
        shown = printable("".join(map(chr, range(start, min(start + 4096, sys.maxunicode + 1)))))
        assert shown.isprintable()
        assert len(shown.splitlines()) == 1
        shown.encode()


def test_handle_of_a_job_shows_its_id_with_escapes() -> None:
    assert repr(Job(Ardiq(), "evil\x1b[2J")) == "<Job evil\\x1b[2J>"


def test_text_with_nothing_to_escape_is_the_same_object() -> None:
    text = "plain text"
    assert printable(text) is text
