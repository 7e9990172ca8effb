"""Which views and which places of the specimen decided a result, from what every observation weighed in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.model import Alignment, Flag

DETAILS_KEY = "decided_by"

LEAST_PLACES = 5.0
"""Below, a few places decide; in simulated series and a real one there are 24 to 106."""

_FAINT = 0.2
"""A view that has less than this part of its fair share hardly counts."""
_HALF = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Drivers:
    """Shares of the evidence: each sums up to 1.

    Attributes
    ----------
    by_view
        Shape (n,): of every image, in the order of the alignment.
    by_place
        Shape (p,): of every track.
    by_quarter
        Shape (2, 2): of the quarters of the field (upper, lower) x (left, right), as the view nearest to zero tilt
        shows the places.
    """

    by_view: FloatArray
    by_place: FloatArray
    by_quarter: FloatArray

    @property
    def places(self) -> float:
        """How many places with equal shares would be as many (Kish 1965)."""
        return float(1.0 / np.sum(self.by_place**2))


def drivers(alignment: Alignment) -> Drivers | None:
    """Shares of views and places; None without tracks, or where nothing weighed anything.

    An observation weighs as much as it informs: its robust weight over its variance.
    """
    tracks = alignment.tracks
    if tracks is None:
        return None
    known = tracks.used & (tracks.weight > 0) & (tracks.sd_px > 0)
    known &= np.isfinite(tracks.sd_px) & alignment.included[tracks.tilt]
    if not known.any():
        return None
    weight = tracks.weight[known] / tracks.sd_px[known] ** 2
    weight /= weight.sum()
    by_place = np.bincount(tracks.track[known], weight, tracks.n_tracks).astype(np.float64)
    by_view = np.bincount(tracks.tilt[known], weight, len(alignment)).astype(np.float64)
    flat = np.where(alignment.included, np.abs(alignment.geometry.y_tilt_deg), np.inf)
    seen_yx = alignment.geometry.take([int(np.argmin(flat))]).project(tracks.points_zyx_angst)[0]
    quarter = np.zeros((2, 2))
    np.add.at(quarter, tuple((seen_yx >= 0).astype(int).T), by_place)
    return Drivers(by_view, by_place, quarter)


def decided_by(alignment: Alignment, places: str) -> Alignment:
    """Say in an alignment which views and places decided it, and warn if a few places did.

    Parameters
    ----------
    alignment
        With tracks.
    places
        What the tracks are called.

    Returns
    -------
    Alignment
        With words in ``details["decided_by"]``, the statistic ``places_deciding`` and perhaps the flag `few_places`.
    """
    found = drivers(alignment)
    if found is None:
        return alignment
    flags = alignment.flags
    if found.places < LEAST_PLACES:
        flags = (*flags, Flag("few_places", f"as many as {found.places:.1f} {places} of equal weight"))
    return alignment.replace(
        details={**alignment.details, DETAILS_KEY: in_words(alignment, found, places)},
        statistics={**alignment.statistics, "places_deciding": found.places},
        flags=flags,
    )


def in_words(alignment: Alignment, found: Drivers, places: str) -> str:
    """One paragraph: half of the evidence, the views that hardly count, and where in the field it lies."""
    most, tilt = _half_of(found.by_view), alignment.geometry.y_tilt_deg
    taking_part = int(alignment.included.sum())
    faint = np.flatnonzero(alignment.included & (found.by_view < _FAINT / taking_part))
    words = [
        f"Half of the evidence comes from {len(most)} of {taking_part} views, at tilts from {tilt[most].min():.0f} to "
        f"{tilt[most].max():.0f} degrees, and from {len(_half_of(found.by_place))} of {np.sum(found.by_place > 0)} "
        f"{places}."
    ]
    if len(faint):
        named = ", ".join(f"{alignment.tilt_ids[k]} ({tilt[k]:.0f}°)" for k in faint[np.argsort(tilt[faint])])
        words.append(f"Less than {_FAINT:.0%} of a fair share comes from each of {named}.")
    row, column = np.unravel_index(int(np.argmax(found.by_quarter)), (2, 2))
    where = f"{('upper', 'lower')[row]} {('left', 'right')[column]}"
    words.append(f"The {where} quarter of the field tells most: {found.by_quarter[row, column]:.0%}.")
    return " ".join(words)


def _half_of(share: FloatArray) -> NDArray[np.intp]:
    """The fewest that have half of the whole."""
    order = np.argsort(-share, kind="stable")
    return order[: int(np.searchsorted(np.cumsum(share[order]), _HALF * share.sum())) + 1]
