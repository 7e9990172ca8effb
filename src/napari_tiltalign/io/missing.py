"""What is told of a file that is not there: most often its name is misspelt, or its folder."""

from __future__ import annotations

import os
from difflib import get_close_matches
from pathlib import Path

from napari_tiltalign.errors import BadInput
from napari_tiltalign.io.images import ImageName


def check_is_there(path: str | os.PathLike[str]) -> None:
    """Make sure that a file or folder exists.

    Parameters
    ----------
    path
        It may be followed by its format, as a name of RELION's (``TS_01.img:mrcs``).

    Raises
    ------
    BadInput
        If it does not. The message names what lies there under a similar name, or says from where on the path is wrong.
    """
    where = Path(path)
    if where.exists() or Path(ImageName.parse(where.as_posix()).path).exists():
        return
    if not where.parent.is_dir():
        there = next((parent for parent in where.parents if parent.exists()), Path())
        raise BadInput(f"{path} does not exist: there is no {where.parent}, only {there.absolute()}; correct the path")
    similar = get_close_matches(where.name, _names_in(where.parent), n=3)
    meant = f"did you mean {' or '.join(similar)}?" if similar else "correct the path"
    raise BadInput(f"{path} does not exist in {where.parent.absolute()}; {meant}")


def _names_in(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.iterdir())
    except OSError:
        return []  # what may not be listed cannot be suggested
