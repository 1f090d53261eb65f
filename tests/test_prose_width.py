"""`tools/prose_width.py` wraps prose, and nothing else."""

import subprocess
from pathlib import Path

import pytest

from tools.prose_width import WIDTH, findings, fixed, main

WORDS = " ".join(["word"] * 30)
FIRST, SECOND = " ".join(["word"] * 20), " ".join(["word"] * 10)


def test_a_paragraph_of_markdown_is_filled() -> None:
    text = f"# A title {WORDS}\n\nshort line\n{WORDS}\n"
    new = fixed(text, ".md")
    assert new.startswith(f"# A title {WORDS}\n\nshort line word word")
    assert max(len(line) for line in new.split("\n")[1:]) <= WIDTH
    assert new.split() == text.split()


@pytest.mark.parametrize(
    "text",
    [
        f"```text\n{WORDS}\n```",
        f"| a | b |\n|---|---|\n| {WORDS} | x |",
        f"    {WORDS}\n    {WORDS}",
        f"::: module\n    options:\n      filter: {WORDS}",
        f"[label]: https://example.com/{'x' * WIDTH}",
        f"See\n<https://example.com/{'x' * WIDTH}>",
        f"- item\n\n      {WORDS}",
    ],
    ids=["fence", "table", "indented code", "directive", "link reference", "link", "code in a list"],
)
def test_code_tables_and_links_stay(text: str) -> None:
    assert findings(text, ".md") == []
    assert fixed(text, ".md") == text


def test_list_items_hang_and_stay_apart() -> None:
    text = f"- {WORDS}\n- next\n\n1. {WORDS}\n2. next\n"
    assert fixed(text, ".md") == (
        f"- {FIRST[:94]}\n  {' '.join(['word'] * 11)}\n- next\n\n1. {FIRST[:94]}\n   {' '.join(['word'] * 11)}\n2. next\n"
    )


def test_prose_in_admonitions_is_wrapped_with_its_indentation() -> None:
    assert fixed(f"!!! note\n    {WORDS}\n", ".md") == f"!!! note\n    {FIRST[:94]}\n    {' '.join(['word'] * 11)}\n"


def test_a_code_span_is_not_broken_and_no_line_begins_with_markup() -> None:
    span = "`a b c`"
    padding = "x" * (WIDTH - 4)
    assert fixed(f"{padding} {span}", ".md") == f"{padding}\n{span}"
    padding = "x" * (WIDTH - 1)
    assert fixed(f"{padding} - and {WORDS}", ".md").split("\n")[0] == f"{padding} -"


@pytest.mark.parametrize(("suffix", "mark"), [(".rs", "///"), (".rs", "//"), (".lua", "--"), (".py", "#")])
def test_comments_are_wrapped_with_their_indentation(suffix: str, mark: str) -> None:
    code = "    pass" if suffix == ".py" else "    code()"
    text = f"if True:\n    {mark} {WORDS}\n{code}\n"
    lines = fixed(text, suffix).split("\n")
    assert (lines[0], lines[-2], len(lines)) == ("if True:", code, 5)
    assert all(line.startswith(f"    {mark} word") and len(line) <= WIDTH for line in lines[1:-2])


def test_the_head_of_a_script_keeps_its_labels_and_its_early_line_ends() -> None:
    text = f"-- name: purpose.\n--\n-- KEYS  {WORDS}\n-- ARGV  short\n--       another line\n-- {WORDS}\n"
    assert fixed(text, ".lua") == (
        f"-- name: purpose.\n--\n-- KEYS  {' '.join(['word'] * 18)}\n--       {' '.join(['word'] * 12)}\n"
        f"-- ARGV  short\n--       another line\n-- {' '.join(['word'] * 19)}\n-- {' '.join(['word'] * 11)}\n"
    )


def test_the_summary_of_a_docstring_ends_with_its_first_sentence_or_takes_two_lines() -> None:
    sentences = f'def f():\n    """A sentence. Another {WORDS}."""\n'
    assert fixed(sentences, ".py").split("\n")[1:4] == [
        '    """A sentence.',
        "",
        f"    Another {' '.join(['word'] * 17)}",
    ]
    one = f'def f():\n    """{WORDS}."""\n'
    lines = fixed(one, ".py").split("\n")
    assert [line.split('"""')[-1].strip()[:4] for line in lines[1:4]] == ["word", "word", ""]
    assert lines[3] == '    """'


def test_sections_of_a_docstring_hang_and_examples_stay() -> None:
    text = f'def f():\n    """Sum.\n\n    Args:\n        name: {WORDS}\n        other: x\n\n    Example:\n        {WORDS}\n    """\n'
    lines = fixed(text, ".py").split("\n")
    assert lines[4].startswith("        name: word")
    assert lines[5].startswith("            word")
    assert lines[6] == "        other: x"
    assert f"        {WORDS}" in lines


def test_code_strings_and_comments_behind_code_stay() -> None:
    text = f'x = "{WORDS}"  # {WORDS}\ny = """\n# {WORDS}\n"""\n'
    assert fixed(text, ".py") == text


def test_fixing_twice_changes_nothing_more() -> None:
    root = Path(__file__).parents[1]
    listing = subprocess.run(["git", "ls-files", "*.md", "*.lua"], cwd=root, capture_output=True, text=True, check=True)
    for name in listing.stdout.split():
        once = fixed((root / name).read_text(encoding="utf-8"), Path(name).suffix)
        assert fixed(once, Path(name).suffix) == once, name
        assert findings(once, Path(name).suffix) == [], name


def test_the_command_lists_what_is_too_long_and_fixes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    (tmp_path / "page.md").write_text(f"# Page\n\n{WORDS}\n", encoding="utf-8")
    assert main([], tmp_path) == 1
    assert "page.md:3\n1 paragraphs exceed 100 columns" in capsys.readouterr().out
    assert main(["--fix"], tmp_path) == 0
    assert "all prose fits" in capsys.readouterr().out
    assert main([], tmp_path) == 0
