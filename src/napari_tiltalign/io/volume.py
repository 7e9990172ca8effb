"""Writing a small tomogram as MRC."""

from __future__ import annotations

import tempfile
from pathlib import Path

import mrcfile
import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.io.files import write_atomic


def write_volume(path: Path, volume: NDArray[np.float32], voxel_angst: float) -> None:
    """Write a volume as MRC, mode 2, shape (z, y, x); mrcfile needs a file, so it gets one that nobody sees.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    with tempfile.TemporaryDirectory() as folder:
        unseen = Path(folder) / "volume.mrc"
        with mrcfile.new(unseen, data=np.ascontiguousarray(volume, np.float32)) as mrc:
            mrc.voxel_size = voxel_angst
            mrc.set_volume()
        write_atomic(path, unseen.read_bytes())
