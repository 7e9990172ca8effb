"""Random alignments, and what they are compared by."""

from __future__ import annotations

from itertools import product

import numpy as np

from napari_tiltalign.geometry import ViewGeometry
from napari_tiltalign.model import Alignment, ArrayImage, Tilt, TiltSeries

SHAPES_YX = ((4092, 5760), (511, 640), (1024, 513), (3711, 3839))
"""Even and odd, and never square."""


def dose_symmetric(n: int, step_deg: float = 3.0) -> np.ndarray:
    """Tilts in the order of a dose-symmetric scheme, n of them."""
    tilts = [0.0]
    while len(tilts) < n:
        side = (len(tilts) + 1) // 2 * step_deg
        tilts += [side, -side] if len(tilts) // 2 % 2 else [-side, side]
    return np.array(tilts[:n]) + 0.01


def make_series(nominal_deg: np.ndarray, shape_yx: tuple[int, int] = (512, 640), pixel: float = 1.7) -> TiltSeries:
    """A series with the columns RELION would have."""
    tilts = []
    for k, angle in enumerate(nominal_deg):
        name = f"TS_{k:03d}_{angle:.1f}"
        columns = {"rlnMicrographName": f"frames/{name}.mrc", "rlnTomoNominalStageTiltAngle": f"{angle:.6f}"}
        image = ArrayImage(np.zeros((2, 2), np.float32), name)
        tilts.append(Tilt(name, image, float(angle), nominal_axis_deg=85.0, columns=columns))
    return TiltSeries("TS", tuple(tilts), pixel, shape_yx, columns={"rlnTomoName": "TS"})


def random_alignment(
    seed: int,
    shape_yx: tuple[int, int],
    *,
    n: int = 21,
    pixel: float = 1.7,
    with_x_tilt: bool = False,
    with_magnification: bool = False,
    n_excluded: int = 0,
) -> tuple[Alignment, TiltSeries]:
    """An alignment with everything different in every image, and the series it is of."""
    random = np.random.default_rng(seed)
    series = make_series(dose_symmetric(n), shape_yx, pixel)
    out = random.choice(n, n_excluded, replace=False)
    series = series.with_exclusions({series.tilt_ids[i]: "dark" for i in out})
    field = np.array(shape_yx) * pixel
    geometry = ViewGeometry(
        x_tilt_deg=random.normal(0, 3, n) if with_x_tilt else np.zeros(n),
        y_tilt_deg=series.nominal_tilt_deg + random.uniform(-8, 8) + random.normal(0, 0.2, n),
        z_rot_deg=random.uniform(-180, 180) + random.normal(0, 0.3, n),
        shift_yx_angst=random.normal(0, 0.1, (n, 2)) * field,
        magnification=random.normal(1, 0.005, n) if with_magnification else np.ones(n),
    )
    reasons = tuple(tilt.reason for tilt in series.tilts)
    return Alignment("TS", series.tilt_ids, geometry, pixel, shape_yx, series.included, reasons), series


def slab(shape_yx: tuple[int, int], pixel: float, thickness_angst: float = 2000.0) -> np.ndarray:
    """Corners and centre of a slab that fills the field, (z, y, x) in Angstrom."""
    half = np.array([thickness_angst, shape_yx[0] * pixel, shape_yx[1] * pixel]) / 2
    return np.array([*product((-1, 1), repeat=3), (0, 0, 0)]) * half


def apart_px(first: Alignment, second: Alignment, *, included_only: bool = False) -> float:
    """Largest distance between what two alignments say of the slab, in pixels."""
    points = slab(first.image_shape_yx, first.pixel_size_angst)
    seen = [a.geometry.take(first.included).project(points) if included_only else a.geometry.project(points)
            for a in (first, second)]  # fmt: skip
    return float(np.linalg.norm(seen[0] - seen[1], axis=-1).max() / first.pixel_size_angst)
