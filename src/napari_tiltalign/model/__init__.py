"""What things are: tilt series, tracks and alignments as frozen data."""

from napari_tiltalign.model import frozen as _frozen  # noqa: F401 (makes read-only mappings picklable)
from napari_tiltalign.model.alignment import Alignment, ExpectedError, Provenance, Uncertainty
from napari_tiltalign.model.flags import FLAG_MEANINGS, Flag
from napari_tiltalign.model.local_motion import LocalMotion
from napari_tiltalign.model.table import Table
from napari_tiltalign.model.tilt_series import NOT_GIVEN, ArrayImage, Dataset, ImageSource, Tilt, TiltSeries
from napari_tiltalign.model.tracks import REJECTION_REASONS, State, Tracks

__all__ = [
    "FLAG_MEANINGS",
    "NOT_GIVEN",
    "REJECTION_REASONS",
    "Alignment",
    "ArrayImage",
    "Dataset",
    "ExpectedError",
    "Flag",
    "ImageSource",
    "LocalMotion",
    "Provenance",
    "State",
    "Table",
    "Tilt",
    "TiltSeries",
    "Tracks",
    "Uncertainty",
]
