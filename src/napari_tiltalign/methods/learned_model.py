"""What a method learned about a series, kept with its alignment so that edited tracks can be solved again at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_tiltalign.geometry import FloatArray, frozen_array
from napari_tiltalign.methods.priors import GaussianProcessPrior, ViewPriors, default_priors
from napari_tiltalign.model import Alignment

DETAILS_KEY = "learned_model"
_PARAMETERS = ("rotation_deg", "tilt_deg", "log_magnification")
_UNKNOWN_NOISE = 0.3
_UNKNOWN_HEIGHT_SD = 0.12
_HYPER = ("common_sd", "independent_sd", "smooth_sd", "length_tilt_steps")


@dataclass(frozen=True, slots=True, eq=False)
class LearnedModel:
    """Priors and noise of a series of n images, in raw pixels.

    Attributes
    ----------
    priors
        Of rotation, tilt and magnification of the n images.
    noise_px
        Shape (n,): standard deviation of a coordinate of a typical observation.
    height_mean_px, height_sd_px
        Of the points' z.
    """

    priors: ViewPriors
    noise_px: FloatArray
    height_mean_px: float
    height_sd_px: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "noise_px", frozen_array(self.noise_px))

    def turned(self, tilt_offset_deg: float, height_mean_px: float) -> LearnedModel:
        """Return the model for a specimen turned about the tilt axis: other tilts, heights about another mean."""
        tilt = self.priors.tilt_deg
        priors = ViewPriors(
            self.priors.rotation_deg,
            dataclasses.replace(tilt, mean=tilt.mean + tilt_offset_deg),
            self.priors.log_magnification,
        )
        return LearnedModel(priors, self.noise_px, height_mean_px, self.height_sd_px)

    def to_details(self) -> dict[str, Any]:
        """Return the model as plain JSON values."""
        hyper = {
            name: dict(zip(_HYPER, (p.common_sd, p.independent_sd, p.smooth_sd, p.length), strict=True))
            for name, p in zip(_PARAMETERS, self.priors, strict=True)
        }
        return {
            "nominal_tilt_deg": self.priors.tilt_deg.mean.tolist(),
            "nominal_axis_deg": float(self.priors.rotation_deg.mean[0]),
            "priors": hyper,
            "noise_px": self.noise_px.tolist(),
            "height_mean_px": self.height_mean_px,
            "height_sd_px": self.height_sd_px,
        }


def model_of(alignment: Alignment) -> LearnedModel:
    """The model an alignment was solved with; a typical one around its geometry if it does not say."""
    details = alignment.details.get(DETAILS_KEY)
    if details is None:
        geometry = alignment.geometry
        return LearnedModel(
            default_priors(geometry.y_tilt_deg, alignment.axis_deg),
            np.full(len(alignment), _UNKNOWN_NOISE),
            0.0,
            _UNKNOWN_HEIGHT_SD * max(alignment.image_shape_yx),
        )
    return _from_details(details)


def _from_details(details: Mapping[str, Any]) -> LearnedModel:
    start = default_priors(np.array(details["nominal_tilt_deg"]), float(details["nominal_axis_deg"]))
    priors = [
        _with_hyper(prior, details["priors"][name]) for name, prior in zip(_PARAMETERS, start, strict=True)
    ]  # fmt: skip
    return LearnedModel(
        ViewPriors(*priors),
        np.array(details["noise_px"]),
        float(details["height_mean_px"]),
        float(details["height_sd_px"]),
    )


def _with_hyper(prior: GaussianProcessPrior, hyper: Mapping[str, float]) -> GaussianProcessPrior:
    common, independent, smooth, length = (float(hyper[name]) for name in _HYPER)
    return GaussianProcessPrior(
        prior.mean, prior.position, common, independent, smooth, length, prior.lower, prior.upper, prior.typical
    )
