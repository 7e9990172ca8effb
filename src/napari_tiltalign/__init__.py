"""Tilt-series alignment for cryo-electron tomography.

The names listed here are the package's public face; each is imported when it is first used, so that neither napari's
start nor ``--help`` waits for what it does not need.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_tiltalign.api import align, read, read_alignment, write, write_alignment
    from napari_tiltalign.errors import TiltAlignError
    from napari_tiltalign.external.aretomo_options import AreTomo
    from napari_tiltalign.external.imod_options import ImodFiducial, ImodPatchTracking
    from napari_tiltalign.methods.auto import Auto
    from napari_tiltalign.methods.fiducial import Fiducial
    from napari_tiltalign.methods.patch_tracking import PatchTracking
    from napari_tiltalign.methods.projection_matching import ProjectionMatching
    from napari_tiltalign.methods.slab import Slab
    from napari_tiltalign.model import Alignment, Dataset, TiltSeries, Tracks
    from napari_tiltalign.quality.comparing import Comparison, compare
    from napari_tiltalign.quality.difference import difference
    from napari_tiltalign.quality.scores import Scores, judge
    from napari_tiltalign.simulation import Simulation, simulate

__all__ = [
    "Alignment",
    "AreTomo",
    "Auto",
    "Comparison",
    "Dataset",
    "Fiducial",
    "ImodFiducial",
    "ImodPatchTracking",
    "PatchTracking",
    "ProjectionMatching",
    "Scores",
    "Simulation",
    "Slab",
    "TiltAlignError",
    "TiltSeries",
    "Tracks",
    "align",
    "compare",
    "difference",
    "judge",
    "read",
    "read_alignment",
    "simulate",
    "write",
    "write_alignment",
]

_HOME = {
    "Alignment": "model",
    "Comparison": "quality.comparing",
    "Dataset": "model",
    "AreTomo": "external.aretomo_options",
    "Auto": "methods.auto",
    "Fiducial": "methods.fiducial",
    "ImodFiducial": "external.imod_options",
    "ImodPatchTracking": "external.imod_options",
    "Scores": "quality.scores",
    "PatchTracking": "methods.patch_tracking",
    "Simulation": "simulation",
    "ProjectionMatching": "methods.projection_matching",
    "Slab": "methods.slab",
    "TiltAlignError": "errors",
    "TiltSeries": "model",
    "Tracks": "model",
    "align": "api",
    "compare": "quality.comparing",
    "difference": "quality.difference",
    "judge": "quality.scores",
    "read": "api",
    "simulate": "simulation",
    "read_alignment": "api",
    "write": "api",
    "write_alignment": "api",
}
"""Where each public name lives. None may be called like a module of this package, which would take its place."""


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("napari-tiltalign")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
