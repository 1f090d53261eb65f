"""The lists of the repository are complete: the file map, the words of the glossary, the decisions,
the Python API.
"""

import re
from pathlib import Path

import pytest

import ardiq
from tools.file_map import COMMAND, PAGE, directories, render, sentence

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
GLOSSARY = (DOCS / "glossary.md").read_text(encoding="utf-8")
PLACES = {
    "lua/": "packages/ardiq-core/engine/lua/",
    "engine/": "packages/ardiq-core/engine/",
    "ardiq/": "packages/ardiq-client/src/ardiq/",
    "ardiq_worker/": "packages/ardiq-worker/src/ardiq_worker/",
}
HOUSE_WORDS = ("lane", "lease", "settle", "promote", "dead letter", "burst", "drain", "desk", "suspect", "mailbox")


def test_the_file_map_has_a_line_for_every_file() -> None:
    before = PAGE.read_text(encoding="utf-8").splitlines()
    after = render("\n".join(before) + "\n").splitlines()
    missing = [line for line in after if line not in before]
    stale = [line for line in before if line not in after]
    assert (missing, stale) == ([], []), f"run: {COMMAND}"
    assert before == after, f"run: {COMMAND}"


def test_the_file_map_covers_every_package() -> None:
    packages = {path.parent.parent for path in ROOT.glob("packages/*/*/*/__init__.py")}
    assert packages <= {parent for directory in directories() for parent in directory.parents}


def test_a_file_without_a_sentence_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.file_map.ROOT", tmp_path)
    (tmp_path / "silent.py").write_text("x = 1\n")
    with pytest.raises(ValueError, match=r"silent\.py must begin with a sentence"):
        sentence(tmp_path / "silent.py")


@pytest.mark.parametrize("word", HOUSE_WORDS)
def test_the_glossary_has_the_words_of_the_house(word: str) -> None:
    assert re.search(rf"^\| {word}[ ,|]", GLOSSARY, re.MULTILINE)


def test_the_glossary_has_every_script() -> None:
    scripts = {"settle", "promote", "reclaim", "fire", "scrub", "mend"}
    assert {word for word in scripts if re.search(rf"^\| {word} \| the script that", GLOSSARY, re.MULTILINE)} == scripts


def test_the_files_that_the_glossary_names_are_there() -> None:
    cells = [row.rstrip(" |").rpartition("| ")[2] for row in GLOSSARY.splitlines() if row.startswith("| ")]
    named = [path for cell in cells for path in re.findall(r"`([\w./-]+/[\w./-]*)`", cell)]
    assert len(named) > 20
    missing = [path for path in named if not (ROOT / resolved(path)).exists()]
    assert missing == []


def resolved(path: str) -> str:
    """The path from the root of the repository."""
    for short, full in PLACES.items():
        if path.startswith(short):
            return full + path.removeprefix(short)
    return path


def test_the_list_of_decisions_is_complete() -> None:
    page = (DOCS / "adr" / "README.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| (\d{4}) \| \[(.+)\]\((.+)\) \|$", page, re.MULTILINE)
    records = sorted((DOCS / "adr").glob("0*.md"))
    titles = [path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ") for path in records]
    assert [(f"{number}. {title}", file) for number, title, file in listed] == [
        (title, path.name) for title, path in zip(titles, records, strict=True)
    ]


def test_the_api_page_has_every_public_name() -> None:
    page = (DOCS / "reference" / "api.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^::: ardiq\.(\w+)$", page, re.MULTILINE)) == set(ardiq.__all__) - {"__version__"}


@pytest.mark.parametrize(
    "name", ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "examples/README.md"]
)
def test_the_links_of_a_page_outside_the_site_lead_somewhere(name: str) -> None:
    page = ROOT / name
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    places = [link.partition("#")[0] for link in links if not re.match(r"https?:|#", link)]
    assert [place for place in places if not (page.parent / place).exists()] == []
    anchors = [link[1:] for link in links if link.startswith("#")]
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    slugs = {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}
    assert set(anchors) <= slugs
