"""Hook of mkdocs that adds the generated pages to the site, and to its menu the methods and what it does not list."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).parent))

from pages import generated_pages, method_paths

METHODS = "Methods"
"""Title in the menu under which the methods are listed."""

REST = "Background"
"""Title of the part of the menu that takes every page that is listed nowhere."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """List all methods and all pages in the menu."""
    menu: dict[str, Any] = {title: entry for part in config.nav or () for title, entry in part.items()}
    listed = next(entry for entry in menu["Reference"] if METHODS in entry)
    listed[METHODS] = [listed[METHODS], *method_paths().values()]
    known = set(_paths(config.nav))
    pages = sorted(path.name for path in Path(config.docs_dir).glob("*.md"))
    menu[REST] += [page for page in pages if page not in known]
    return config


def _paths(entry: Any) -> Iterator[str]:
    """Every page of a part of the menu."""
    if isinstance(entry, str):
        yield entry
    for part in entry.values() if isinstance(entry, dict) else entry if isinstance(entry, list) else ():
        yield from _paths(part)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made from the code."""
    for path, text in generated_pages().items():
        files.append(File.generated(config, path, content=text))
    return files
