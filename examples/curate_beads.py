"""Throw out beads that are followed badly and positions that contradict the others, and solve again.

In napari a person decides this bead by bead; here a rule does, which is good for many series of one kind.

    python curate_beads.py external/TS_01/alignment.json [curated.json] [--worst-px 2]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from napari_tiltalign import Tracks, read_alignment, write_alignment
from napari_tiltalign.methods.resolve import resolve, suspect_tracks
from napari_tiltalign.ui.edits import delete_track, remove_bead


def main() -> None:
    """Curate the alignment that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("alignment", type=Path, help="alignment.json of a series that was aligned by beads")
    parser.add_argument("curated", type=Path, nargs="?", default=Path("curated.json"), help="file to write")
    parser.add_argument("--worst-px", type=float, default=2.0, help="largest leave-out error that is believed, pixels")
    arguments = parser.parse_args()

    before = read_alignment(arguments.alignment)
    if before.tracks is None:
        parser.error(f"{arguments.alignment} has no beads")
    after = resolve(before, without_doubtful(before.tracks, arguments.worst_px))
    for title, alignment in (("before", before), ("after", after)):
        figures = alignment.statistics
        print(f"{title}: {figures['tracks']:.0f} beads, {figures['observations']:.0f} positions, "
              f"leave-out error {figures['leave_out_rms_px']:.3f} px rms")  # fmt: skip
    write_alignment(arguments.curated, after)
    print(f"written: {arguments.curated}")


def without_doubtful(tracks: Tracks, worst_px: float) -> Tracks:
    """Return the tracks without suspect beads, and without positions that the others predict far away."""
    for track_id in suspect_tracks(tracks):
        tracks = delete_track(tracks, track_id)
        print(f"bead {track_id}: out, it is followed much less exactly than the others")
    error_px = np.linalg.norm(tracks.leave_out_yx_px, axis=1)
    for row in np.flatnonzero(tracks.used & (error_px > worst_px)):  # NaN is not larger than anything
        bead, image = int(tracks.track_ids[tracks.track[row]]), tracks.tilt_ids[tracks.tilt[row]]
        print(f"bead {bead} in {image}: out, {error_px[row]:.1f} px from where the others predict it")
        tracks = remove_bead(tracks, bead, image)
    return tracks


if __name__ == "__main__":
    main()
