"""Files that the plugin keeps for a user, outside of any project."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

from napari_tiltalign.io.files import write_atomic


def state_folder() -> Path:
    """Folder for files of this user; it need not exist yet."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return base / "napari-tiltalign"


def key_of(*texts: str) -> str:
    """File name that stands for some texts."""
    return hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass")).hexdigest()[:24]


def remembered_folder(source: str) -> Path | None:
    """Folder into which the results of a dataset were saved last; None if that is not known or it is gone."""
    try:
        folder = Path(_folder_note(source).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return None
    return folder if folder.is_dir() else None


def remember_folder(source: str, folder: Path) -> None:
    """Remember into which folder the results of a dataset were saved.

    Raises
    ------
    OSError
        If it cannot be written down.
    """
    note = _folder_note(source)
    note.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(note, str(folder.absolute()))


def _folder_note(source: str) -> Path:
    return state_folder() / "results" / key_of(str(Path(source).absolute()))
