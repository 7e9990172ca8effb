"""Searching a series for beads: their diameter, images that cannot be read, series without gold."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from napari_tiltalign.errors import BadInput, BadTiltSeries, MethodFailed
from napari_tiltalign.methods.base import silent
from napari_tiltalign.methods.bead_search import estimate_diameter_px, search
from napari_tiltalign.simulation import SCENARIOS, Simulation, simulate

SMALL = Simulation(image_rows_px=320, image_columns_px=320, tilt_step_deg=20.0, n_beads=12)


@pytest.mark.parametrize("diameter_nm", [8.0, 14.0])
def test_diameter_is_estimated_from_the_images(diameter_nm):
    series = simulate(SMALL.replace(bead_diameter_nm=diameter_nm)).series
    estimated_nm = estimate_diameter_px(series, bright=False) * series.pixel_size_angst / 10.0
    assert estimated_nm == pytest.approx(diameter_nm, rel=0.2)


def test_groups_of_beads_are_not_taken_for_large_ones():
    """In a crowd the strongest response to a sphere as large as a group can exceed that to one of a bead."""
    crowd = SCENARIOS["crowded"].replace(seed=202, tilt_step_deg=20.0)
    series = simulate(crowd).series
    estimated_nm = estimate_diameter_px(series, bright=False) * series.pixel_size_angst / 10.0
    assert estimated_nm == pytest.approx(crowd.bead_diameter_nm, rel=0.2)


def test_the_diameter_cannot_be_estimated_in_images_that_are_too_small():
    series = simulate(SMALL).series
    small = series.replace(image_shape_yx=(60, 320))  # refused before they are read
    with pytest.raises(MethodFailed, match="images of 60 px are too small"):
        estimate_diameter_px(small, bright=False)


def test_series_without_gold_is_refused_with_counts_and_a_suggestion():
    series = simulate(SMALL.replace(n_beads=0)).series
    with pytest.raises(MethodFailed, match=r"no gold beads of 10 nm: of \d+ candidates .* align without beads"):
        search(series, (10.0,), bright=False, progress=silent)


class Unreadable:
    """An image whose file has gone."""

    name = "gone.mrc"

    def load(self):
        """Fail as a file does that has gone."""
        raise BadInput("gone.mrc does not exist")

    read = load


def with_unreadable(series, indices):
    tilts = [dataclasses.replace(t, image=Unreadable()) if i in indices else t for i, t in enumerate(series.tilts)]
    return series.replace(tilts=tuple(tilts))


def test_row_36_unreadable_image_is_left_out_with_a_reason():
    series = with_unreadable(simulate(SMALL).series, {3})
    found = search(series, (10.0,), bright=False, progress=silent)
    view = int(np.flatnonzero(found.order == 3)[0])
    assert found.bad == {view: "unreadable"}
    assert found.views[view] is None


def test_row_36_series_with_too_few_readable_images_is_refused():
    series = with_unreadable(simulate(SMALL).series, {1, 3})
    with pytest.raises(BadTiltSeries, match=r"2 of 7 images cannot be read; first: gone.mrc does not exist"):
        search(series, (10.0,), bright=False, progress=silent)


def test_row_44_filled_pixels_are_counted():
    series = simulate(SMALL).series
    pixels = series.tilts[2].image.read().copy()
    pixels[5, 5:9] = np.nan
    image = dataclasses.replace(series.tilts[2].image, pixels=pixels)
    tilts = [dataclasses.replace(t, image=image) if i == 2 else t for i, t in enumerate(series.tilts)]
    found = search(series.replace(tilts=tuple(tilts)), (10.0,), bright=False, progress=silent)
    assert found.filled_pixels == {series.tilt_ids[2]: 4}
