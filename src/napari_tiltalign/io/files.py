"""Writing files so that a file at its final name is complete, and names that are safe to put on a disk."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Any

MOST_FACTS_BYTES = 64 * 1024**2
"""Larger files of facts are refused unread; those of a run over 10 000 series have a few MB."""
_HARMLESS = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,99}(?<![.])")
_HARMFUL_RUN = re.compile(r"[^A-Za-z0-9_.+-]+")
_TEMPORARY_PREFIX = ".tiltalign-"
_WINDOWS_DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])([.].*)?", re.IGNORECASE)


def write_atomic(path: str | os.PathLike[str], data: str | bytes) -> None:
    """Write a file so that nobody ever sees half of it, not even after a power cut.

    The data goes into a new file in the same folder, which takes the final name only when it is safely on the disk.
    A symbolic link at the final name is replaced, never followed.

    Parameters
    ----------
    path
        Final name. Its folder must exist.
    data
        Contents; text is written as UTF-8 with the line ends it has.

    Raises
    ------
    OSError
        If it cannot be written (disk full, no permission). An older file of that name is then still intact.
    """
    target = Path(path)
    temporary = target.parent / f"{_TEMPORARY_PREFIX}{secrets.token_hex(8)}.tmp"
    try:
        _write_new(temporary, data.encode() if isinstance(data, str) else data)
        temporary.replace(target)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError) and error.filename is None:  # a full disk does not say which file was too much
            raise OSError(error.errno, error.strerror or str(error), str(target)) from error
        raise
    _sync_folder(target.parent)


def is_temporary(path: Path) -> bool:
    """Whether a file is called as those are that `write_atomic` has not finished."""
    return path.name.startswith(_TEMPORARY_PREFIX) and path.suffix == ".tmp"


def remove_leftovers(folder: Path) -> None:
    """Remove what writers that were killed have left in a folder. Nobody may be writing there meanwhile."""
    for file in folder.glob(f"{_TEMPORARY_PREFIX}*.tmp"):
        file.unlink(missing_ok=True)


def _write_new(path: Path, data: bytes) -> None:
    """Create a file that must not exist yet, not even as a link, and bring it to the disk."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(path, flags, 0o666), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Bring a rename to the disk; some systems cannot open or sync folders, and then it is up to them."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def safe_name(name: str) -> str:
    """Return a file or folder name for a series, harmless whatever the series is called.

    Letters, digits and ``_.+-`` stay as they are. Any other name (a path, ``..``, a leading dash, quotes, blanks,
    Unicode, more than 100 characters) is escaped and gets ``~`` and a digest, so that two names never share a file.
    Names that differ only by case stay different only on disks that tell them apart; reading flags such series.

    Examples
    --------
    >>> safe_name("TS_01")
    'TS_01'
    >>> safe_name("../etc/x")
    'etc_x~2215be8e0419'
    """
    if _HARMLESS.fullmatch(name) and not _WINDOWS_DEVICE.fullmatch(name):
        return name
    readable = _HARMFUL_RUN.sub("_", name).strip("._-")[:60] or "series"
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{readable}~{digest}"


def read_facts(path: Path) -> dict[str, Any]:
    """Read a JSON object, such as this program writes beside results; see `parse_facts`.

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If it holds something else, or is too large.
    """
    if (size := path.stat().st_size) > MOST_FACTS_BYTES:
        raise ValueError(f"{path} has {size} bytes, which is too much for what it should hold")
    return parse_facts(path.read_bytes())


def parse_facts(text: bytes) -> dict[str, Any]:
    """Read a JSON object, whoever may have written it.

    Raises
    ------
    ValueError
        If it is something else.
    """
    try:
        facts = json.loads(text)
    except RecursionError as error:
        raise ValueError(str(error)) from error
    if not isinstance(facts, dict):
        raise ValueError("it holds no JSON object")
    return facts


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 digest of a file's contents as hexadecimal text."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
