"""The keyboard table: as Markdown for the documentation, and as a window for the user."""

from __future__ import annotations

from html import escape

from napari_tiltalign.ui.keys import IMAGE_KEYS, KEYS


def key_table() -> str:
    """Return all keys and what they do as a table in Markdown."""
    rows = [f"| `{key.key}` | {key.what} |" for key in (*KEYS, *IMAGE_KEYS)]
    return "\n".join(["| key | what it does |", "| --- | --- |", *rows])


def key_page() -> str:
    """Return the same table as HTML, with keys as they are on the keyboard."""
    named = ((key.key.replace("Control", "Ctrl").replace("-", "+"), key.what) for key in (*KEYS, *IMAGE_KEYS))
    rows = "".join(f"<tr><td><b>{escape(key)}</b>&nbsp;&nbsp;</td><td>{escape(what)}</td></tr>" for key, what in named)
    return f"<table>{rows}</table>"
