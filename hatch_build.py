"""README.md as the napari hub and package indexes show it: with links that lead somewhere from there, or with none."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_IMAGE = re.compile(r"!\[([^\]]*)\]\((?!https?:)([^)\s]+)\)(\n\n\*[^*\n][^*]*\*\n)?")
"""A picture of the repository, with the caption below it."""
_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?!https?:|#)([^)\s]+)\)")


def readme_for_elsewhere(text: str, repository: str) -> str:
    """Make links into the repository absolute; while it has no address, take pictures out and leave links as text.

    Parameters
    ----------
    text
        README.md.
    repository
        Address of the repository, from ``[project.urls]``; empty if there is none.
    """
    if not repository:
        return _LINK.sub(r"\1", _IMAGE.sub("", text))
    home = repository.rstrip("/")
    text = _IMAGE.sub(lambda found: f"![{found[1]}]({home}/raw/HEAD/{found[2]}){found[3] or ''}", text)
    return _LINK.sub(lambda found: f"[{found[1]}]({home}/blob/HEAD/{found[2]})", text)


class ReadmeHook(MetadataHookInterface):
    """Put the description into the metadata of what is built."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set the field ``readme``."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        repository = metadata.get("urls", {}).get("repository", "")
        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": readme_for_elsewhere(text, repository),
        }
