"""docs/protocol.md shows the complete protocol that the core exports."""

from pathlib import Path

import pytest

import ardiq_core
from tools import protocol_tables

HEADS = Path(__file__).parents[1] / "engine" / "lua"


def page() -> str:
    return protocol_tables.PAGE.read_text(encoding="utf-8")


def test_the_page_is_up_to_date() -> None:
    stale = protocol_tables.render(page(), ardiq_core.protocol()) != page()
    assert not stale, f"docs/protocol.md is stale; run: {protocol_tables.COMMAND}"


def test_the_page_has_every_table_once() -> None:
    tables = ardiq_core.protocol()
    assert sorted(protocol_tables.sections_in(page())) == sorted(protocol_tables.sections_of(tables))


def test_a_changed_protocol_makes_the_page_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    changed = ardiq_core.protocol()
    changed["keys"][0]["meaning"] = "something else"
    monkeypatch.setattr(protocol_tables, "protocol", lambda: changed)
    before = page()
    assert protocol_tables.main(["--check"]) == 1
    assert page() == before, "--check changed the page"


def test_every_script_file_is_exported_and_no_other() -> None:
    exported = {row["name"] for row in ardiq_core.protocol()["scripts"]}
    texts = {path.stem: path.read_text(encoding="utf-8") for path in HEADS.glob("*.lua")}
    # The other files hold functions that stand in front of scripts.
    assert exported == {name for name, text in texts.items() if text.startswith(f"-- {name}: ")}


@pytest.mark.parametrize("row", ardiq_core.protocol()["scripts"], ids=lambda row: row["name"])
def test_a_signature_is_the_words_of_the_file(row: dict[str, str]) -> None:
    text = (HEADS / f"{row['name']}.lua").read_text(encoding="utf-8")
    for part in ("purpose", "keys", "arguments", "out", "remarks"):
        for line in row[part].splitlines():
            assert line in text, part
    assert row["purpose"]
    assert row["out"]


def test_the_export_is_a_fresh_copy_of_plain_text() -> None:
    first, second = ardiq_core.protocol(), ardiq_core.protocol()
    first["keys"].clear()
    assert second["keys"]
    cells = [cell for rows in second.values() for row in rows for pair in row.items() for cell in pair]
    assert all(isinstance(cell, str) for cell in cells)
