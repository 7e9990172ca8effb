"""Are the error bars right? The part of true values that lie within one standard deviation; 68 % is right.

    python -m benchmarks.calibration [METHOD ...] [--scenarios easy sparse] [--seeds 101 202 303] [--size-px 384]

What no image can tell (displacements of the specimen, a turn about the tilt axis, its size) is taken out of the errors,
as it is out of the error bars. `axis` is one number per series, `whole` the error over the specimen (rms) over what was
expected.
"""

from __future__ import annotations

import argparse

import numpy as np

from napari_tiltalign import Alignment, align, difference
from napari_tiltalign.errors import TiltAlignError
from napari_tiltalign.geometry import FloatArray, RigidMotion, ViewGeometry, wrap_deg
from napari_tiltalign.methods.base import method
from napari_tiltalign.methods.certainty import common_motion_basis
from napari_tiltalign.methods.projection import view_matrices, views_from_geometry
from napari_tiltalign.simulation import SCENARIOS, SimulatedSeries, simulate

KINDS = ("rotation", "tilt", "magnification", "shift", "axis", "whole")


def about_the_same_centre(true: ViewGeometry, motion: RigidMotion) -> ViewGeometry:
    """The truth with its specimen displaced so that views turn about the point that they turn about in the alignment.

    No image tells where that point is, so the two may lie hundreds of Angstrom apart. A view that is turned by too much
    is displaced by that times the distance, and its shift would seem wrong.
    """
    centre = motion.inverse().apply(np.zeros((1, 3)))[0]
    return true.compose(RigidMotion(np.eye(3), centre))


def errors_over_sd(alignment: Alignment, sample: SimulatedSeries) -> dict[str, FloatArray]:
    """Errors of all views over their standard deviations, by kind; without values that were not estimated."""
    sd = alignment.uncertainty
    if sd is None:
        return {kind: np.zeros(0) for kind in KINDS}
    apart = difference(alignment, sample.truth, thickness_angst=sample.options.thickness_angst)
    found, true = alignment.geometry, about_the_same_centre(sample.truth.geometry, apart.motion)
    used = alignment.included & sample.truth.included
    turn = wrap_deg(found.z_rot_deg - true.z_rot_deg)
    size = np.log(found.magnification / true.magnification)
    tilt, shift = found.y_tilt_deg - true.y_tilt_deg, found.shift_yx_angst - true.shift_yx_angst
    changes = np.column_stack([turn, tilt, size, shift])
    basis = common_motion_basis(view_matrices(views_from_geometry(true, 1.0), true.x_tilt_deg)[used])
    flat = changes[used].ravel()
    error = (flat - basis @ (basis.T @ flat)).reshape(-1, 5)
    expected = sd.expected_error
    errors = {
        "rotation": error[:, 0] / sd.z_rot_deg[used],
        "tilt": error[:, 1] / sd.y_tilt_deg[used],
        "magnification": error[:, 2] / sd.magnification[used],
        "shift": (error[:, 3:] / sd.shift_yx_angst[used]).ravel(),
        "axis": np.array([turn[used].mean() / sd.axis_deg]),
        "whole": np.array([np.nan if expected is None else 10.0 * apart.rms_nm / expected.overall_angst]),
    }
    return {kind: values[np.isfinite(values)] for kind, values in errors.items()}


def within(values: FloatArray) -> str:
    """Percent of errors within one and within two standard deviations (68 and 95), and their root mean square."""
    if not values.size:
        return "not estimated"
    one, two = (100.0 * (np.abs(values) < times).mean() for times in (1.0, 2.0))
    return f"{one:3.0f} {two:3.0f} % (rms {np.sqrt((values**2).mean()):.2f})"


def main() -> None:
    """Align all and print the percentages."""
    parser = argparse.ArgumentParser()
    parser.add_argument("methods", nargs="*", default=["fiducial"])
    parser.add_argument("--scenarios", nargs="+", default=["easy", "sparse", "low-dose"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[101, 202, 303])
    parser.add_argument("--size-px", type=int, default=384)
    asked = parser.parse_args()
    for name in asked.methods:
        everything: dict[str, list[FloatArray]] = {kind: [] for kind in KINDS}
        for scenario in asked.scenarios:
            for seed in asked.seeds:
                size = {"image_rows_px": asked.size_px, "image_columns_px": asked.size_px}
                sample = simulate(SCENARIOS[scenario].replace(seed=seed, **size))
                try:
                    alignment = align(sample.series, method(name).Options())
                except TiltAlignError as error:
                    print(f"{name} {scenario} {seed}: {error}", flush=True)
                    continue
                found = errors_over_sd(alignment, sample)
                told = "  ".join(f"{kind} {within(values)}" for kind, values in found.items())
                print(f"{name} {scenario} {seed}: {told}", flush=True)
                for kind, values in found.items():
                    everything[kind].append(values)
        told = "  ".join(
            f"{kind} {within(np.concatenate(values or [np.zeros(0)]))}" for kind, values in everything.items()
        )
        print(f"ALL {name}: {told}", flush=True)


if __name__ == "__main__":
    main()
