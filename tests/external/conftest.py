"""Fake programs for every test here."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from fake_programs import LOG, Programs

from napari_tiltalign.external import aretomo_install


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    """Fake programs; none is installed yet, and none that this machine may have is found."""
    for name in ("RELION_BATCHTOMO_EXECUTABLE", "RELION_ARETOMO_EXECUTABLE", "IMOD_DIR"):
        monkeypatch.delenv(name, raising=False)
    fakes = Programs(tmp_path / "programs", monkeypatch)
    fakes.results.mkdir(parents=True)
    (fakes.results / "align.log").write_text(LOG)
    monkeypatch.setenv("FAKE_RESULTS", str(fakes.results))
    monkeypatch.setenv("FAKE_RECORD", str(fakes.record))
    monkeypatch.setenv("PATH", os.pathsep.join([str(fakes.bin), "/usr/bin", "/bin"]))
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    aretomo_install._asked.cache_clear()
    return fakes
