"""RELION's logfile.pdf."""

from __future__ import annotations

import base64
import dataclasses
import re
import zlib
from pathlib import Path

import numpy as np
import pytest

from napari_tiltalign.io.relion_logfile import SeriesCurves, write_logfile


def curves(name: str, n: int = 5) -> SeriesCurves:
    tilts = np.linspace(-20, 20, n)
    return SeriesCurves(name, tilts, tilts + 2, np.column_stack([3 * tilts, -tilts]))


def texts(path: Path) -> str:
    """What is written on the pages."""
    data = path.read_bytes()
    assert data.rstrip().endswith(b"%%EOF")
    pages = re.findall(rb"stream\n(.*?)endstream", data, re.DOTALL)
    return b"\n".join(zlib.decompress(base64.a85decode(page.strip().removesuffix(b"~>"))) for page in pages).decode(
        "latin-1"
    )


@pytest.mark.parametrize(("n_series", "histograms"), [(1, 0), (3, 0), (4, 1), (40, 1)])
def test_plots_of_every_series_and_of_the_set(tmp_path: Path, n_series: int, histograms: int) -> None:
    names = [f"TS_{k:02d}" for k in range(n_series)]
    figures = {"rlnIMODLeaveOutError": [0.1 * k for k in range(n_series)], "tiltalignUnknown": [np.nan] * n_series}
    write_logfile(tmp_path / "logfile.pdf", [curves(name) for name in names], figures)
    text = texts(tmp_path / "logfile.pdf")
    for name in names:
        assert f"{name}: tilts \\(degrees\\)" in text
        assert f"{name}: shifts \\(Angstrom\\)" in text
    assert "rlnIMODLeaveOutError of every series" in text
    assert text.count("number of series in") == histograms
    assert "tiltalignUnknown" not in text


def test_defocus_where_it_was_measured(tmp_path: Path) -> None:
    plain, measured = curves("TS_01"), curves("TS_02")
    defocus = np.column_stack([np.linspace(30000, 31000, 5), np.linspace(29000, 30000, 5)])
    measured = dataclasses.replace(measured, defocus_uv_angst=defocus, ctf_score=np.linspace(0.1, 0.2, 5))
    write_logfile(tmp_path / "logfile.pdf", [plain, measured], {})
    text = texts(tmp_path / "logfile.pdf")
    assert "TS_02: defocus \\(Angstrom\\)" in text
    assert "TS_02: score of the CTF" in text
    assert "TS_01: defocus" not in text
    assert "TS_01: score" not in text


def test_equal_contents_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a.pdf", "b.pdf"):
        write_logfile(tmp_path / name, [curves("TS_01")], {"x": [1.0]})
    assert (tmp_path / "a.pdf").read_bytes() == (tmp_path / "b.pdf").read_bytes()


@pytest.mark.parametrize("name", ["束 Å (1) \\ <b>", "x" * 500, "a\nb", ""])
def test_odd_names_and_values(tmp_path: Path, name: str) -> None:
    flat = SeriesCurves(name, np.zeros(1), np.zeros(1), np.zeros((1, 2)))
    write_logfile(tmp_path / "logfile.pdf", [flat], {"x": [np.nan]})
    assert "degrees" in texts(tmp_path / "logfile.pdf") or len(name) > 100
