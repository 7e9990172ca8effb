"""Hook of mkdocs that adds the generated pages to the site and the methods to its menu."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).parent))

from pages import generated_pages, method_paths

METHODS = "Methods"
"""Title in the menu under which the methods are listed."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """List all methods in the menu."""
    reference: list[dict[str, Any]] = next(part["Reference"] for part in config.nav or () if "Reference" in part)
    listed = next(entry for entry in reference if METHODS in entry)
    listed[METHODS] = [listed[METHODS], *method_paths().values()]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made from the code."""
    for path, text in generated_pages().items():
        files.append(File.generated(config, path, content=text))
    return files
