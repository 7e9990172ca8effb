"""A project written is the project read."""

from __future__ import annotations

import mrcfile
import numpy as np
import pytest

from napari_tiltalign.errors import BadInput, BadTiltSeries
from napari_tiltalign.io.project import Optics, write_relion_project
from napari_tiltalign.io.relion import read_relion
from napari_tiltalign.io.star import read_star
from napari_tiltalign.model import NOT_GIVEN, ArrayImage, Tilt, TiltSeries


def make_series(name: str = "SIM_01", **changes: object) -> TiltSeries:
    rng = np.random.default_rng(0)
    tilts = tuple(
        Tilt(
            tilt_id=f"{name}_{i + 1:03d}_{angle:.1f}",
            image=ArrayImage(rng.normal(150, 12, (40, 56)).astype(np.float32)),
            nominal_tilt_deg=angle,
            nominal_axis_deg=-4.3,
            pre_exposure_e_per_A2=3.0 * i,
            nominal_defocus_um=-3.5,
        )
        for i, angle in enumerate([0.0, 3.01, -3.0, -6.0])
    )
    return TiltSeries(name, tilts, 10.0, (40, 56)).replace(**changes)


def test_series_come_back_as_they_were(tmp_path):
    written = [make_series("SIM_01"), make_series("002", pixel_size_angst=5.37)]
    dataset = read_relion(write_relion_project(tmp_path / "new" / "project", written))
    assert [series.name for series in dataset] == ["SIM_01", "002"]
    assert not dataset.failed
    for before, after in zip(written, dataset, strict=True):
        assert after.tilt_ids == before.tilt_ids
        assert after.pixel_size_angst == before.pixel_size_angst
        assert after.image_shape_yx == before.image_shape_yx
        assert not after.flags
        for one, other in zip(before.tilts, after.tilts, strict=True):
            assert other.nominal_tilt_deg == one.nominal_tilt_deg
            assert other.nominal_axis_deg == one.nominal_axis_deg
            assert other.pre_exposure_e_per_A2 == one.pre_exposure_e_per_A2
            assert other.nominal_defocus_um == one.nominal_defocus_um
            np.testing.assert_array_equal(other.image.read(), one.image.read())


def test_it_looks_like_a_project_after_motion_correction(tmp_path):
    star = write_relion_project(tmp_path, [make_series()], optics=Optics(voltage_kv=200.0, hand=1))
    row = read_star(star)["global"].rows()[0]
    assert star == tmp_path / "tilt_series.star"
    assert row["rlnTomoTiltSeriesStarFile"] == "tilt_series/SIM_01.star"
    assert float(row["rlnVoltage"]) == 200
    assert float(row["rlnTomoHand"]) == 1
    assert float(row["rlnTomoTiltSeriesPixelSize"]) == 10
    first = read_star(tmp_path / "tilt_series" / "SIM_01.star")["SIM_01"].rows()[0]
    assert first["rlnMicrographName"] == "frames/SIM_01_001_0.0.mrc"
    assert mrcfile.validate(tmp_path / first["rlnMicrographName"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["frames", "tilt_series", "tilt_series.star"]


def test_half_precision(tmp_path):
    series = make_series()
    star = write_relion_project(tmp_path, [series], dtype="float16")
    with mrcfile.open(tmp_path / "frames" / f"{series.tilt_ids[0]}.mrc") as mrc:
        assert mrc.header.mode == 12
        assert mrc.voxel_size.x == 10
    for before, after in zip(series.tilts, read_relion(star)["SIM_01"].tilts, strict=True):
        np.testing.assert_allclose(after.image.read(), before.image.read(), rtol=1e-3)


def test_excluded_images_are_left_out_and_unknown_numbers_have_no_column(tmp_path):
    series = make_series().with_exclusions({"SIM_01_002_3.0": "dark"})
    first = series.tilts[0]
    unknown = Tilt(first.tilt_id, first.image, 0.0, NOT_GIVEN, NOT_GIVEN, NOT_GIVEN)
    series = series.replace(tilts=(unknown, *series.tilts[1:]))
    read = read_relion(write_relion_project(tmp_path, [series]))["SIM_01"]
    assert read.tilt_ids == ("SIM_01_001_0.0", "SIM_01_003_-3.0", "SIM_01_004_-6.0")
    assert np.isnan(read.tilts[1].pre_exposure_e_per_A2)
    assert not (tmp_path / "frames" / "SIM_01_002_3.0.mrc").exists()


def other_image(series: TiltSeries, tilt_id: str, value: float = 1.0) -> TiltSeries:
    image = ArrayImage(np.full(series.image_shape_yx, value, np.float32))
    return series.replace(tilts=(Tilt(tilt_id, image, 0.0), *series.tilts[1:]))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (list, BadInput, "no tilt series"),
        (lambda: [make_series(), make_series()], BadInput, "named twice: SIM_01"),
        (lambda: [make_series(), make_series().replace(name="B")], BadInput, "SIM_01 and B both have an image"),
        (lambda: [other_image(make_series(), "../x")], BadTiltSeries, "rename the image"),
        (lambda: [other_image(make_series(), "x", 1e6)], BadTiltSeries, "write it as float32"),
        (
            lambda: [make_series().with_exclusions(dict.fromkeys(make_series().tilt_ids, "dark"))],
            BadTiltSeries,
            "all images are excluded",
        ),
    ],
    ids=["nothing", "names", "images", "path", "range", "excluded"],
)
def test_what_cannot_be_written_says_so(tmp_path, make, error, message):
    with pytest.raises(error, match=message):
        write_relion_project(tmp_path / "out", make(), dtype="float16")
    assert not (tmp_path / "out" / "tilt_series.star").exists()
