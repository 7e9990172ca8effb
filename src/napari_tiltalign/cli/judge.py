"""``judge INPUT ALIGNMENT``: how good an alignment is, by evidence that does not depend on how it was made."""

from __future__ import annotations

import json as json_format
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter, validators

from napari_tiltalign.cli.alignments import for_each_aligned
from napari_tiltalign.cli.inputs import InputOptions, Names
from napari_tiltalign.cli.preview import write_preview

if TYPE_CHECKING:
    from napari_tiltalign.model import Alignment, TiltSeries
    from napari_tiltalign.quality.scores import Scores

_SWITCH = Parameter(negative="", show_default=False)


def judge(
    input_path: Annotated[Path, Parameter(name="INPUT")],
    alignment: Annotated[Path, Parameter(name="ALIGNMENT")],
    /,
    *,
    only: Names = (),
    json: Annotated[bool, _SWITCH] = False,
    views: Annotated[bool, _SWITCH] = False,
    no_beads: Annotated[bool, _SWITCH] = False,
    height_nm: Annotated[float, Parameter(validator=validators.Number(gte=0, lte=1e5))] = 0.0,
    preview: Annotated[Path | None, Parameter(show_default=False)] = None,
    preview_algorithm: Literal["wbp", "sirt"] = "wbp",
    preview_level: bool = True,
    overrides: InputOptions | None = None,
) -> int:
    """Score an alignment without aligning again.

    Nothing in the score depends on the method. It compares alignments of one series; higher is better.

    Parameters
    ----------
    input_path
        The tilt series: STAR file, or a stack with its angles beside it.
    alignment
        What to judge: STAR file of RELION, .xf of IMOD with .tlt beside it, .aln of AreTomo, .xml of Warp,
        alignment.json, or a folder of results of one of these programs or of ours.
    only
        Names of the series to judge; all without it.
    json
        Print one JSON object for each series, one on a line.
    views
        List every view, not only those that stand out.
    no_beads
        Do not look for gold beads as witnesses.
    height_nm
        Height of the reconstruction, nm; 0 takes 0.4 of the shorter side of the field. It must hold the specimen, and
        be the same for alignments to be compared.
    preview
        Folder for a small tomogram of each series (NAME.mrc), to look at; made if need be.
    preview_algorithm
        How it is reconstructed: wbp, weighted back-projection, or sirt, which is smoother and takes longer.
    preview_level
        Whether the specimen is turned level in it.
    overrides
        What to use instead of what the input says.
    """
    from napari_tiltalign.quality.scores import judge as judged

    dataset = (overrides or InputOptions()).read(input_path)
    dataset = dataset.only(only) if only else dataset

    def score(series: TiltSeries, found: Alignment) -> None:
        scores = judged(series, found, use_beads=not no_beads, height_nm=height_nm)
        if preview is not None:
            told = write_preview(preview, series, found, algorithm=preview_algorithm, level=preview_level)
            print(told, file=sys.stderr)
        print(json_format.dumps(scores.to_dict()) if json else "\n".join(score_lines(scores, every_view=views)))

    return for_each_aligned(alignment, dataset, score, undone="not judged")


def score_lines(scores: Scores, *, every_view: bool = False) -> list[str]:
    """What is known of an alignment, for people."""
    rests_on = "beads found without the alignment" if scores.by_beads else "the images"
    lines = [f"{scores.series_name}: {scores.grade}, score {scores.score:.1f} (higher is better; rests on {rests_on})"]
    lines += [f"  {reason}" for reason in scores.reasons]
    shown = [view for view in scores.views if every_view or view.reasons]
    if shown:
        lines.append("  view                          tilt  score  offset px  beads px  gain %")
    for view in shown:
        offset = (view.offset_yx_px[0] ** 2 + view.offset_yx_px[1] ** 2) ** 0.5
        figures = "".join(
            f"{value:>{width}.{digits}f}" if value == value else " " * (width - 1) + "-"
            for value, width, digits in (
                (view.score, 7, 1), (offset, 11, 2), (view.bead_residual_px, 10, 2), (view.gain_percent, 8, 2)
            )
        )  # fmt: skip
        remark = "; ".join(view.reasons)
        if view.suggest_exclusion:
            remark += " (consider leaving it out)"
        lines.append(f"  {view.tilt_id:<27.27s} {view.tilt_deg:+6.1f}{figures}  {remark}".rstrip())
    return lines
