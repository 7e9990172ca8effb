"""Digests that tell whether an input, or what is to be done with it, is still the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from napari_tiltalign.io.mrc import MrcImage
from napari_tiltalign.io.tiff import TiffImage
from napari_tiltalign.model import ImageSource, TiltSeries


def input_fingerprint(series: TiltSeries) -> str:
    """Digest of what is known of a series before it is aligned: identities, angles, doses, pixel size, exclusions.

    Neither pixels nor the place on the disk enter, so copies of a series have the same digest.
    """
    return _digest(_contents(series))


def work_fingerprint(series: TiltSeries, work: Mapping[str, Any]) -> str:
    """Digest of a series as it lies on the disk, together with what is to be done with it.

    Files of images are told apart by size and time of change; to read them all would take as long as the work.

    Parameters
    ----------
    series
        The input.
    work
        Method, options, version: plain values.
    """
    files = {str(path): _file_facts(path) for path in image_files(series)}
    return _digest({"series": _contents(series), "files": files, "work": dict(work)})


def image_files(series: TiltSeries) -> list[Path]:
    """Files that the images of a series lie in, each once, in order; images in memory have none."""
    paths = (image_file(tilt.image) for tilt in series.tilts)
    return list(dict.fromkeys(path for path in paths if path is not None))


def image_file(image: ImageSource) -> Path | None:
    """File that an image lies in; None for one in memory."""
    return image.path if isinstance(image, (MrcImage, TiffImage)) else None


def _file_facts(path: Path) -> list[int]:
    """Size and time of change; nothing for a file that is not there."""
    try:
        status = path.stat()
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns]


def _contents(series: TiltSeries) -> dict[str, Any]:
    return {
        "name": series.name,
        "pixel_size_angst": series.pixel_size_angst,
        "image_shape_yx": list(series.image_shape_yx),
        "tilts": [
            [t.tilt_id, t.nominal_tilt_deg, t.nominal_axis_deg, t.pre_exposure_e_per_A2, t.included, t.reason]
            for t in series.tilts
        ],
    }


def _digest(facts: Mapping[str, Any]) -> str:
    """SHA-256 of plain values; numbers enter with all their digits."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
