"""The method `auto` chooses what suits the series, and says why."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_tiltalign.errors import BadTiltSeries, MethodFailed
from napari_tiltalign.geometry import ViewGeometry
from napari_tiltalign.methods import auto
from napari_tiltalign.methods.auto import AUTO, Auto, why_not_by_beads
from napari_tiltalign.methods.fiducial import FIDUCIAL, Fiducial
from napari_tiltalign.methods.gold_eraser import FoundGold
from napari_tiltalign.methods.slab import SLAB, Slab
from napari_tiltalign.model import ArrayImage, Tilt, TiltSeries
from napari_tiltalign.quality.difference import difference
from napari_tiltalign.simulation import simulate


def flag_of(alignment):
    return next(flag for flag in alignment.flags if flag.name == "method_chosen").detail


def test_with_beads_it_aligns_by_them(simulated, aligned):
    found = AUTO(simulated.series, Auto())
    np.testing.assert_array_equal(found.geometry.shift_yx_angst, aligned.geometry.shift_yx_angst)
    assert flag_of(found).startswith("fiducial: ")
    assert "gold beads per view" in flag_of(found)


def test_without_beads_it_aligns_as_a_slab(small):
    bare = simulate(small.replace(n_beads=0))
    found = AUTO(bare.series, Auto())
    assert flag_of(found).startswith("slab: 0 gold beads per view")
    assert found.details["auto"] == {"method": "slab", "why": found.details["auto"]["why"], "not_good_enough": []}
    assert difference(found, bare.truth, thickness_angst=bare.options.thickness_angst).rms_px < 0.4


def test_where_beads_fail_it_says_so_and_goes_on(simulated, monkeypatch):
    def fail(self, series, options, *, start=None, progress=None):
        raise MethodFailed("TS: beads do not fit")

    monkeypatch.setattr(type(FIDUCIAL), "__call__", fail)
    found = AUTO(simulated.series, Auto())
    assert flag_of(found) == "slab: fiducial failed (TS: beads do not fit)"
    assert found.details["auto"]["not_good_enough"] == ["fiducial failed (TS: beads do not fit)"]


def test_where_nothing_works_it_says_what_each_said():
    rng = np.random.default_rng(0)
    tilts = tuple(
        Tilt(f"v{k}", ArrayImage(rng.normal(100, 5, (128, 128)).astype(np.float32)), tilt, 0.0)
        for k, tilt in enumerate(np.arange(-50.0, 51.0, 10.0).tolist())
    )
    with pytest.raises(MethodFailed, match=r"TS: no method can align it: slab failed .*; projection-matching failed"):
        AUTO(TiltSeries("TS", tilts, 20.0, (128, 128)), Auto())


def test_beads_must_be_enough_and_spread(simulated):
    field = np.array(simulated.series.image_shape_yx)
    rng = np.random.default_rng(1)
    spread = rng.uniform(0.1, 0.9, (8, 2)) * field
    on_a_line = np.column_stack([np.full(8, 100.0) + rng.normal(0, 3.0, 8), spread[:, 1]])
    assert why_not_by_beads(FoundGold({0: spread}, 10.0), simulated.series) == ""
    assert "3 are needed" in why_not_by_beads(FoundGold({0: spread[:2]}, 10.0), simulated.series)
    assert "span only" in why_not_by_beads(FoundGold({0: on_a_line}, 10.0), simulated.series)


def test_too_few_images_and_other_options_are_refused(simulated):
    few = simulated.series.with_exclusions({tilt.tilt_id: "by hand" for tilt in simulated.series.tilts[2:]})
    with pytest.raises(BadTiltSeries, match="2 images"):
        AUTO(few, Auto())
    with pytest.raises(TypeError, match="Auto options"):
        AUTO(simulated.series, Fiducial())


def test_memory_is_that_of_the_greediest(simulated):
    needs = [FIDUCIAL.memory_bytes(simulated.series, Fiducial()), SLAB.memory_bytes(simulated.series, Slab())]
    assert AUTO.memory_bytes(simulated.series, Auto()) == max(needs)


def needle_series():
    """A thin rod along the tilt axis in vacuum, with structure in it."""
    tilts = np.arange(-60.0, 61.0, 8.0)
    rng = np.random.default_rng(4)
    geometry = ViewGeometry.nominal(tilts, 0.0).replace(shift_yx_angst=rng.uniform(-200.0, 200.0, (len(tilts), 2)))
    points = np.column_stack([rng.normal(0, 120.0, 900), rng.uniform(-6000.0, 6000.0, 900), rng.normal(0, 120.0, 900)])
    views = []
    for k, seen in enumerate(geometry.project(points) / 20.0 + 128):
        image = np.zeros((256, 256))
        inside = ((seen >= 0) & (seen < 255)).all(axis=1)
        np.add.at(image, tuple(np.round(seen[inside]).astype(int).T), -1.0)
        pixels = 100.0 + 400.0 * ndimage.gaussian_filter(image, 1.5) + rng.normal(0, 3.0, image.shape)
        views.append(Tilt(f"v{k}", ArrayImage(pixels.astype(np.float32)), float(tilts[k]), 0.0))
    return TiltSeries("needle", tuple(views), 20.0, (256, 256))


def test_a_needle_is_no_slab():
    found = SLAB(needle_series(), Slab())
    words = [flag.detail for flag in found.flags if flag.name == "no_slab"]
    assert len(words) == 1
    assert "go together in neighbouring views" in words[0]
    assert auto._as_slab_is_poor(found) == f"as a slab: {words[0]}"
