"""``preview INPUT ALIGNMENT --output DIR``: a small tomogram of every series, to look at."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter, validators

from napari_tiltalign.cli.alignments import for_each_aligned
from napari_tiltalign.cli.inputs import InputOptions, Names
from napari_tiltalign.cli.running import Output

if TYPE_CHECKING:
    from napari_tiltalign.model import Alignment, TiltSeries
    from napari_tiltalign.quality.preview import Algorithm


def preview(
    input_path: Annotated[Path, Parameter(name="INPUT")],
    alignment: Annotated[Path, Parameter(name="ALIGNMENT")],
    /,
    *,
    output: Output,
    only: Names = (),
    size: Annotated[int, Parameter(validator=validators.Number(gte=32, lte=2048))] = 448,
    thickness_nm: Annotated[float, Parameter(validator=validators.Number(gte=0, lte=1e5))] = 0.0,
    algorithm: Literal["wbp", "sirt"] = "wbp",
    level: bool = True,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    overrides: InputOptions | None = None,
) -> int:
    """Reconstruct a small tomogram of each aligned series, to look at.

    Parameters
    ----------
    input_path
        The tilt series: STAR file, or a stack with its angles beside it.
    alignment
        How they are aligned: any file or folder that judge takes.
    output
        Folder for the tomograms, NAME.mrc; made if need be.
    only
        Names of the series; all without it.
    size
        Voxels along the longer side of the field; no more than the images have.
    thickness_nm
        Height of the tomogram, nm; 0 takes 1.5 times the thickness of the specimen as it is found.
    algorithm
        wbp, weighted back-projection, or sirt, which is smoother and takes longer.
    level
        Whether the specimen is turned level.
    device
        cuda reconstructs on a GPU, and ends if there is none; auto works on the CPU, as cpu does.
    overrides
        What to use instead of what the input says.
    """
    from napari_tiltalign.images.compute import check_device, use_device

    check_device(device)
    dataset = (overrides or InputOptions()).read(input_path)
    dataset = dataset.only(only) if only else dataset

    def reconstruct(series: TiltSeries, found: Alignment) -> None:
        print(
            write_preview(
                output, series, found, size_px=size, thickness_nm=thickness_nm, algorithm=algorithm, level=level
            )
        )

    with use_device(device):
        return for_each_aligned(alignment, dataset, reconstruct, undone="no tomogram")


def write_preview(
    folder: Path,
    series: TiltSeries,
    alignment: Alignment,
    *,
    size_px: int = 448,
    thickness_nm: float = 0.0,
    algorithm: Algorithm = "wbp",
    level: bool = True,
) -> str:
    """Write NAME.mrc into a folder; return a line about it.

    Raises
    ------
    BadInput, BadTiltSeries
        If the alignment is of other images, or too few can be used.
    OSError
        If it cannot be written.
    """
    from napari_tiltalign.io.files import safe_name
    from napari_tiltalign.io.volume import write_volume
    from napari_tiltalign.quality.preview import preview as reconstruct

    tomogram = reconstruct(
        series, alignment, size_px=size_px, thickness_nm=thickness_nm, algorithm=algorithm, level=level
    )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{safe_name(series.name)}.mrc"
    write_volume(path, tomogram.volume, tomogram.grid.voxel_angst)
    how = "level" if tomogram.levelled else "as aligned"
    slab = tomogram.slab
    seen = f"no slab is seen ({slab.doubt})" if slab.doubt else f"specimen {slab.thickness_in_words} thick"
    return f"{path}: {tomogram.algorithm}, {how}, {seen}, {tomogram.grid.voxel_angst:.1f} Angstrom a voxel"
