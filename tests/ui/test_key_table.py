"""The documentation shows the keys that there are."""

from __future__ import annotations

from pathlib import Path

from napari_tiltalign.ui.key_table import key_table

DOCS = Path(__file__).parents[2] / "docs"


def test_the_documentation_shows_the_table_of_keys():
    text = (DOCS / "napari.md").read_text(encoding="utf-8")
    begin, end = "<!-- keys: made by napari_tiltalign.ui.key_table -->\n", "\n<!-- end of keys -->"
    shown = text[text.index(begin) + len(begin) : text.index(end)]
    assert shown == key_table(), "write the output of key_table() into docs/napari.md"
