"""Judge an alignment that IMOD has made, and say how far it is from another one of the same series.

python judge_imod_alignment.py TS_01.st TS_01.xf                     # .tlt and .xtilt beside it are read too
python judge_imod_alignment.py tilt_series.star TS_01.xf --other alignment.json
"""

from __future__ import annotations

import argparse
from pathlib import Path

from napari_tiltalign import difference, judge, read, read_alignment


def main() -> None:
    """Judge the alignment that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("input", type=Path, help="the stack with its angles beside it, or RELION's STAR file")
    parser.add_argument("alignment", type=Path, help=".xf file, or folder of etomo; .aln and .star will do as well")
    parser.add_argument("--series", help="name of the series; the first one without it")
    parser.add_argument("--other", type=Path, help="another alignment of the series, to compare with")
    arguments = parser.parse_args()

    dataset = read(arguments.input)
    series = dataset[arguments.series] if arguments.series else dataset.series[0]
    alignment = read_alignment(arguments.alignment, series)
    scores = judge(series, alignment)
    print(f"{series.name}: {scores.grade} (score {scores.score:.1f})")
    for reason in scores.reasons:
        print(f"  {reason}")
    for view in sorted(scores.views, key=lambda view: view.score)[:3]:
        print(f"  among the worst views: {view.tilt_id}")
    if arguments.other:
        other = read_alignment(arguments.other, series)
        apart = difference(alignment, other, thickness_angst=1500.0)
        print(f"apart from {arguments.other}: {apart.rms_px:.2f} px rms, at worst {apart.worst_view_rms_px:.2f} px "
              f"in {apart.worst_tilt_id}, tilt axis by {apart.axis_difference_deg:.2f} degrees")  # fmt: skip


if __name__ == "__main__":
    main()
