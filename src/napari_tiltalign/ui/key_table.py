"""The keyboard table as Markdown, for the documentation."""

from __future__ import annotations

from napari_tiltalign.ui.keys import IMAGE_KEYS, KEYS


def key_table() -> str:
    """Return all keys and what they do as a table in Markdown."""
    rows = [f"| `{key.key}` | {key.what} |" for key in (*KEYS, *IMAGE_KEYS)]
    return "\n".join(["| key | what it does |", "| --- | --- |", *rows])
