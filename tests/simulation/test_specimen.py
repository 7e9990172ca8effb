"""What the beam meets: beads on the faces, structure through the slab and beyond the field of view."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import KDTree

from napari_tiltalign.simulation import SCENARIOS, Simulation
from napari_tiltalign.simulation.acquisition import acquire
from napari_tiltalign.simulation.balls import box_in_view
from napari_tiltalign.simulation.deformation import draw_deformation
from napari_tiltalign.simulation.specimen import draw_specimen


def specimen_of(options: Simulation):
    return draw_specimen(options, acquire(options))


def in_field(points_zyx_angst, options: Simulation):
    return np.all(np.abs(points_zyx_angst[:, 1:]) < options.field_yx_angst / 2, axis=1)


def test_the_box_holds_what_every_image_sees():
    options = Simulation(pretilt_deg=8, axis_deg=40)
    geometry = acquire(options).geometry
    box = box_in_view(geometry, options.field_yx_angst, options.thickness_angst)
    pixels = np.random.default_rng(0).uniform(-2560, 2560, (50, 2))
    for view in range(len(geometry)):
        for height in (-600.0, 0.0, 600.0):
            seen = geometry.unproject(view, pixels, height)
            assert (seen >= box.low_zyx_angst - 1e-6).all()
            assert (seen <= box.high_zyx_angst + 1e-6).all()


def test_beads_lie_on_both_faces_and_beyond_the_field():
    options = Simulation()
    beads = specimen_of(options).beads
    assert set(beads.centre_zyx_angst[:, 0]) == {-600.0, 600.0}
    assert in_field(beads.centre_zyx_angst, options).sum() == 20
    assert len(beads) > 30
    np.testing.assert_allclose(beads.diameter_angst, 100, rtol=0.11)
    assert beads.diameter_angst.std() > 2
    assert KDTree(beads.centre_zyx_angst[:, 1:]).query(beads.centre_zyx_angst[:, 1:], 2)[0][:, 1].min() > 120


def test_two_kinds_of_beads():
    diameters = specimen_of(Simulation(second_bead_diameter_nm=20)).beads.diameter_angst
    assert np.count_nonzero(np.abs(diameters - 100) < 12) == pytest.approx(len(diameters) / 2, abs=len(diameters) / 5)
    assert np.count_nonzero(np.abs(diameters - 200) < 24) == pytest.approx(len(diameters) / 2, abs=len(diameters) / 5)


def test_clusters_and_dirt():
    options = SCENARIOS["crowded"]
    specimen = specimen_of(options)
    beads = specimen.beads
    nearest = KDTree(beads.centre_zyx_angst[:, 1:]).query(beads.centre_zyx_angst[:, 1:], 2)[0][:, 1]
    inside = in_field(beads.centre_zyx_angst, options)
    assert 0.2 < beads.in_cluster[inside].mean() < 0.6
    assert inside.sum() == pytest.approx(48, abs=10)
    assert (nearest[inside & beads.in_cluster] <= 1.6 * 100).all()
    assert (nearest > 1.05 * 100).all()  # they nearly touch, but are not in one another
    assert (nearest[~beads.in_cluster] > 1.4 * 100).all()
    assert len(specimen.gold) > len(beads) + 4 * options.n_dirt


def test_no_gold_and_nothing_at_all():
    specimen = specimen_of(Simulation(n_beads=0, texture="none"))
    assert len(specimen.beads) == len(specimen.gold) == len(specimen.protein) == 0


@pytest.mark.parametrize("texture", ["cell", "cytoplasm", "particles"])
def test_structure_fills_the_thickness_and_goes_on_outside(texture):
    options = Simulation(texture=texture, n_beads=0)
    protein = specimen_of(options).protein
    heights = protein.centre_zyx_angst[:, 0]
    assert len(protein) > 5000
    assert heights.std() == pytest.approx(options.thickness_angst / np.sqrt(12), rel=0.2)
    assert 0.2 < in_field(protein.centre_zyx_angst, options).mean() < 0.7


def test_a_cell_has_edges():
    options = Simulation(texture="cell", n_beads=0)
    protein = specimen_of(options).protein
    counts = np.histogram2d(*protein.centre_zyx_angst[in_field(protein.centre_zyx_angst, options), 1:].T, bins=8)[0]
    assert np.quantile(counts, 0.9) > 4 * np.quantile(counts, 0.1)


def test_the_deformation_is_smooth_grows_and_starts_at_nothing():
    options = Simulation(deformation_percent=2)
    deformation = draw_deformation(options, 123.0)
    y, x = np.meshgrid(*[np.linspace(-2560, 2560, 41)] * 2, indexing="ij")
    points = np.column_stack([np.zeros(y.size), y.ravel(), x.ravel()])
    sizes = [
        np.linalg.norm(deformation.displacement_zyx_angst(points, dose), axis=1).max()
        for dose in (0.0, 10.0, 60.0, 123.0)
    ]
    assert sizes[0] == 0
    assert sizes == sorted(sizes)
    assert sizes[-1] == pytest.approx(0.02 * 5120, rel=0.02)
    final = deformation.displacement_zyx_angst(points, 123.0)
    assert np.abs(final.mean(axis=0)).max() < 0.05 * sizes[-1]
    steps = np.diff(final.reshape(41, 41, 3), axis=1)
    assert np.abs(steps).max() < 0.2 * sizes[-1]  # over 128 Angstrom


def test_a_rigid_specimen_does_not_move():
    specimen = specimen_of(Simulation())
    assert specimen.deformation is None
    points = specimen.beads.centre_zyx_angst
    np.testing.assert_array_equal(specimen.moved(points, 100.0), points)


def test_a_needle_is_an_isolated_body_along_the_tilt_axis():
    options = SCENARIOS["needle"]
    specimen = specimen_of(options)
    z, y, x = specimen.protein.centre_zyx_angst.T
    assert specimen.ice.thickness_angst == 0.0
    assert np.hypot(x, z).max() < 0.4 * options.field_yx_angst[1]
    ends = np.sort(np.abs([y.min(), y.max()])) / options.field_yx_angst[0]
    assert ends[0] < 0.5 < ends[1]  # the tip within the field, the base not
    tips = [np.ptp(x[np.abs(y - end) < 300]) for end in (y.min(), y.max())]
    assert min(tips) < 0.7 * max(tips)
