"""The public face: what `import napari_tiltalign` offers, and reading, aligning and writing through it."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

import napari_tiltalign
from fake_method import Nudge, NudgeMethod
from napari_tiltalign import Fiducial, align, read, read_alignment, write
from napari_tiltalign.api import method_of
from napari_tiltalign.errors import BadInput
from napari_tiltalign.methods.base import MethodOptions


@pytest.mark.parametrize("name", napari_tiltalign.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(napari_tiltalign, name).__name__ == name
    assert name in dir(napari_tiltalign)


def test_no_public_name_hides_behind_a_module() -> None:
    modules = {module.name for module in pkgutil.iter_modules(napari_tiltalign.__path__)}
    assert not modules & set(napari_tiltalign.__all__)


def test_version_is_that_of_the_distribution() -> None:
    assert napari_tiltalign.__version__ == version("napari-tiltalign")


def test_unknown_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'aline'"):
        napari_tiltalign.aline  # noqa: B018


def test_public_names_are_imported_when_used() -> None:
    code = (
        "import sys, napari_tiltalign; before = set(sys.modules); napari_tiltalign.TiltSeries;"
        "print('numpy' in before, 'numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


def test_read_align_write(nudge: NudgeMethod, write_project: Callable[..., Path]) -> None:
    star = write_project("TS_01", "TS_02")
    dataset = read(star)
    alignments = {series.name: align(series, Nudge(amount_nm=2.5)) for series in dataset}
    write(dataset, alignments, star.parent / "out")
    found = read_alignment(star.parent / "out/aligned_tilt_series.star", dataset["TS_02"])
    assert found.geometry.shift_yx_angst[0].tolist() == [25.0, 25.0]


def test_alignment_says_how_it_was_made(nudge: NudgeMethod, write_project: Callable[..., Path]) -> None:
    series = read(write_project("TS_01")).series[0]
    options = Nudge(amount_nm=2.5, with_tracks=False)
    made = align(series, options).provenance
    assert (made.method, made.version) == ("nudge", version("napari-tiltalign"))
    assert made.options == options.model_dump()
    assert (made.options["amount_nm"], made.options["with_tracks"]) == (2.5, False)
    changed = series.with_exclusions({series.tilt_ids[0]: "dark"})
    fingerprints = {align(s, Nudge()).provenance.input_fingerprint for s in (series, series, changed)}
    assert len(fingerprints) == 2
    assert made.input_fingerprint in fingerprints


def test_options_choose_the_method() -> None:
    assert method_of(Fiducial()).name == "fiducial"


def test_options_of_no_method_are_refused() -> None:
    class Odd(MethodOptions):
        """Options that belong to nothing."""

    with pytest.raises(BadInput, match=r"class Odd; there are .*Fiducial"):
        method_of(Odd())
