"""Atomic writing and safe names (faults 60, 63, 76, 78 and 84)."""

from __future__ import annotations

import doctest
import errno
import hashlib
import os
import stat
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_tiltalign.io import edge_centre, files
from napari_tiltalign.io.files import read_facts, safe_name, sha256_of, write_atomic


@pytest.mark.parametrize("data", ["text é\r\nkept\n", b"\x00\xff\n", ""], ids=["text", "bytes", "empty"])
def test_written_data_is_read_back_and_nothing_else_is_left(tmp_path: Path, data: str | bytes) -> None:
    path = tmp_path / "out.star"
    write_atomic(path, "old")
    write_atomic(path, data)
    assert path.read_bytes() == (data.encode() if isinstance(data, str) else data)
    assert [p.name for p in tmp_path.iterdir()] == ["out.star"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_full_disk_leaves_the_old_file_and_no_temporary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "out.star"
    write_atomic(path, "old")

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(*((os, "fsync") if call == "fsync" else (Path, "replace")), fail)
    with pytest.raises(OSError, match=r"No space left on device: .*out\.star"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["out.star"]


def test_link_at_the_final_name_is_replaced_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    link = tmp_path / "out.star"
    link.symlink_to(victim)
    write_atomic(link, "new")
    assert victim.read_text() == "untouched"
    assert not link.is_symlink()
    assert link.read_text() == "new"


def test_link_planted_at_the_temporary_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    victim = tmp_path / "victim"
    monkeypatch.setattr("napari_tiltalign.io.files.secrets.token_hex", lambda _: "guessed")
    (tmp_path / ".tiltalign-guessed.tmp").symlink_to(victim)
    with pytest.raises(FileExistsError):
        write_atomic(tmp_path / "out.star", "new")
    assert not victim.exists()


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    previous = os.umask(0o027)
    try:
        write_atomic(tmp_path / "out", "x")
    finally:
        os.umask(previous)
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o640


@pytest.mark.parametrize("name", ["TS_01", "001", "1e5", "nan", "a.b-c+d", "Position_1_2"])
def test_harmless_names_are_kept(name: str) -> None:
    assert safe_name(name) == name


DANGEROUS = (
    "../../etc/x", "/etc/x", "a/b", "a\\b", ".", "..", "", "x" * 300, "a\0b", "a\nb", "TS;rm -rf x", "$(id)", "`id`",
    "-rf", "a b", "it's", 'say "x"', "Zähler", ".hidden", "trailing.", "con", "NUL.txt", "TS~0123456789ab", "\ud800",
)  # fmt: skip


@pytest.mark.parametrize("name", DANGEROUS, ids=ascii)
def test_dangerous_names_are_escaped(tmp_path: Path, name: str) -> None:
    safe = safe_name(name)
    assert safe != name
    (tmp_path / safe).mkdir()  # raises if the name cannot exist
    assert (tmp_path / safe).resolve().parent == tmp_path.resolve()
    assert safe.isascii()
    assert not set(safe) & set(" ;$`'\"()\\/\n")
    assert not safe.startswith(("-", "."))


def test_escaped_names_do_not_collide() -> None:
    names = [*DANGEROUS, "etc_x", "a_b", "a/b ", "a:b", "A/B", "x" * 301, "u\u0308", "\u00fc"]
    assert len({safe_name(name).lower() for name in names}) == len(names)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.text(), st.text())
def test_two_names_never_share_a_file(first: str, second: str) -> None:
    assert (safe_name(first) == safe_name(second)) == (first == second)


def test_row_81_facts_that_make_no_sense_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "facts.json"
    for text in ("", "{", "[1]", "[" * 100_000, '{"a": ' * 100_000, '{"a": ' + "1" * 10_000 + "}"):
        file.write_text(text)
        with pytest.raises(ValueError, match=r"\w"):
            read_facts(file)
    file.write_text('{"a": 1}')
    assert read_facts(file) == {"a": 1}
    monkeypatch.setattr(files, "MOST_FACTS_BYTES", 7)
    with pytest.raises(ValueError, match="has 8 bytes"):
        read_facts(file)


def test_sha256_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert sha256_of(tmp_path / "x") == hashlib.sha256(b"abc").hexdigest()


@pytest.mark.parametrize("module", [files, edge_centre], ids=lambda module: module.__name__)
def test_examples_in_the_documentation(module: ModuleType) -> None:
    assert doctest.testmod(module, raise_on_error=True).attempted > 0
