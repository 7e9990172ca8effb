"""What IMOD's tiltalign says, in the wording of several versions."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_tiltalign.errors import BadInput
from napari_tiltalign.io.align_log import AlignLog, parse_align_log, read_align_log


def test_real_log(shared_data: Path) -> None:
    log = read_align_log(shared_data / "formats" / "imod_align_log" / "align.log")
    assert log == AlignLog(
        angle_offset_deg=9.02,
        total_tilt_change_deg=10.02,
        x_axis_tilt_deg=-4.46,
        residual_mean_nm=0.360,
        residual_sd_nm=0.457,
        residual_weighted_mean_nm=0.289,
        leave_out_nm=0.4656,  # the robust one
        measured_to_unknown=10.11,
    )
    assert log.statistics()["imod_leave_out_nm"] == 0.4656


@pytest.mark.parametrize(
    ("text", "pixel_size_nm", "expected"),
    [
        ("Global leave-out error (7 pts):  0.5 nm", 0.0, AlignLog(leave_out_nm=0.5)),
        ("Global non-robust leave-out error (7 pts): 0.5 nm", 0.0, AlignLog(leave_out_nm=0.5)),
        (" Residual error mean and sd:     0.360   0.457\n", 0.0, AlignLog()),
        (
            " Residual error mean and sd:  0.360  0.457 pixels",
            2.0,
            AlignLog(residual_mean_nm=0.72, residual_sd_nm=0.914),
        ),
        ("AngleOffset = 1\nAngleOffset = -2.5\n", 0.0, AlignLog(angle_offset_deg=-2.5)),
        ("AngleOffset\t0\n", 0.0, AlignLog(angle_offset_deg=0.0)),
        ("nothing of interest, error 7 pts", 0.0, AlignLog()),
    ],
)
def test_wordings(text: str, pixel_size_nm: float, expected: AlignLog) -> None:
    """A value that is not there is missing, not 0, and the last one counts."""
    assert parse_align_log(text, pixel_size_nm) == expected


def test_log_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"cannot read .*align.log"):
        read_align_log(tmp_path / "align.log")
