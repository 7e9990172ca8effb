"""How well an alignment tells where points of a specimen that moves in itself are seen."""

from __future__ import annotations

import numpy as np

from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.model import Alignment
from napari_tiltalign.quality.difference import difference
from napari_tiltalign.simulation import SimulatedSeries


def seen_px(alignment: Alignment, points_zyx_angst: FloatArray) -> FloatArray:
    """Where an alignment sees points, shape (n, p, 2), pixels."""
    seen = alignment.geometry.project(points_zyx_angst)
    if (motion := alignment.local_motion) is not None:
        seen += np.stack([motion.displacement_yx_angst(points_zyx_angst, i) for i in range(len(alignment))])
    return seen / alignment.pixel_size_angst


def blur_px(alignment: Alignment, sample: SimulatedSeries) -> float:
    """How far an alignment misses points that move, each of which may be anywhere at first, rms in pixels."""
    options, deformation = sample.options, sample.deformation
    assert deformation is not None
    rng = np.random.default_rng(3)
    height, size = options.thickness_angst, np.array(options.field_yx_angst)
    points = np.column_stack([rng.uniform(-height / 2, height / 2, 60), rng.uniform(-0.4, 0.4, (60, 2)) * size])
    truth = np.stack([
        sample.truth.geometry.take([i]).project(points + deformation.displacement_zyx_angst(points, dose))[0]
        for i, dose in enumerate(tilt.pre_exposure_e_per_A2 for tilt in sample.series.tilts)
    ]) / options.pixel_size_angst  # fmt: skip
    rows = (alignment.geometry.rotations()[:, :2] * alignment.geometry.magnification[:, None, None])[:, ::-1, ::-1]
    pull = np.linalg.pinv(rows.reshape(-1, 3))
    points = difference(alignment, sample.truth, thickness_angst=height).motion.apply(points)
    for _ in range(6):
        missed = (truth - seen_px(alignment, points)).transpose(1, 0, 2).reshape(len(points), -1)
        points = points + missed @ pull.T * alignment.pixel_size_angst
    return float(np.sqrt((np.linalg.norm(truth - seen_px(alignment, points), axis=2) ** 2).mean()))
