"""Which row of a file of Warp is which image, and whether Warp's tilts have the sign of the stage or the other one.

Warp turns the volume the other way round than IMOD, RELION and this package: by ``-Angles``. Its import therefore
changes the sign of the stage's tilts, unless told not to (``--dont_invert``), and sorts the images by the result.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.errors import BadTiltSeries
from napari_tiltalign.geometry import FloatArray
from napari_tiltalign.io.row_order import LARGEST_TILT_CHANGE_DEG, tilts_of_lines
from napari_tiltalign.io.warp_file import WarpFile, image_stem
from napari_tiltalign.model import TiltSeries

_NAME_COLUMNS = ("rlnMicrographMovieName", "rlnMicrographName")
_LEAST_NAMED = 0.5
"""Share of the images that must be found by name for names to be what decides."""
_BETTER = 0.5
"""By what factor the tilts of one order must fit better than those of another one."""
_SAME_TILT_DEG = 0.011
"""Files give tilts with two decimals: those of the stage are recognised, without an offset, while Warp has them."""


def files_of(columns: Mapping[str, str]) -> list[str]:
    """Return the files of an image that has its own, that of its movie first."""
    return [name for c in _NAME_COLUMNS if (name := columns.get(c, "")) and "@" not in name]


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """What is known of the images that rows are looked for, n of them.

    Attributes
    ----------
    series_name
        For messages.
    names
        n sets of names of an image, without folder and format.
    tilt_deg
        Shape (n,): stage tilts.
    dose_e_per_A2
        Shape (n,): dose before each, NaN if unknown.
    """

    series_name: str
    names: tuple[frozenset[str], ...]
    tilt_deg: FloatArray
    dose_e_per_A2: FloatArray  # noqa: N815 (the unit's own capital)

    @classmethod
    def of(cls, series: TiltSeries) -> Known:
        """What a series tells of its images."""
        return cls(
            series.name,
            tuple(frozenset({t.tilt_id, *(image_stem(name) for name in files_of(t.columns))}) for t in series.tilts),
            series.nominal_tilt_deg,
            np.array([t.pre_exposure_e_per_A2 for t in series.tilts], dtype=np.float64),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Where the n images of a series are in a file.

    Attributes
    ----------
    row
        Shape (n,): row of each image; -1 if the file has none for it.
    sign
        -1 if Warp's tilts are those of the stage with the sign changed, which is what Warp makes of them by default;
        +1 if they are the same, so that Warp's volumes have the other hand than those of IMOD and RELION.
    """

    row: NDArray[np.intp]
    sign: int

    @classmethod
    def in_order(cls, n: int) -> Rows:
        """Images in the order of the file, with the tilts that Warp makes by default."""
        return cls(np.arange(n), -1)

    @property
    def listed(self) -> NDArray[np.bool_]:
        """Shape (n,): whether the file has a row for the image."""
        return self.row >= 0


def rows_of(file: WarpFile, known: Known) -> Rows:
    """Find the images of a series in a file: by the names of the movies, or else by tilt, with the dose to decide.

    Raises
    ------
    BadTiltSeries
        If the file is not of this series, or it cannot be told which row is which image.
    """
    row = _by_name(file, known)
    if row is not None:
        listed = row >= 0
        apart = {s: _apart(s * file.tilt_deg[row[listed]], known.tilt_deg[listed]) for s in (-1, 1)}
        sign = min(apart, key=lambda s: float(np.abs(apart[s]).sum()))
        if np.abs(apart[sign]).max() > LARGEST_TILT_CHANGE_DEG:
            problem = f"{file.path} has images of the same names, but other tilts; is it of another series?"
            raise BadTiltSeries(known.series_name, problem)
        return Rows(row, sign)
    return _by_tilt(file, known)


def _by_name(file: WarpFile, known: Known) -> NDArray[np.intp] | None:
    """Row of every image with the same name, or None if names do not tell."""
    where = {_key(name): k for k, name in enumerate(file.image_names)}
    if not where or len(where) != len(file.image_names):
        return None
    ours = [sorted(_key(name) for name in names) for names in known.names]
    row = np.array([next((where[n] for n in names if n in where), -1) for names in ours], dtype=np.intp)
    found = row[row >= 0]
    told = found.size >= _LEAST_NAMED * row.size and np.unique(found).size == found.size
    return row if told else None


def _key(name: str) -> str:
    """A name as it is compared: RELION's motion correction writes dots in the names of movies as underscores."""
    return name.replace(".", "_")


def _by_tilt(file: WarpFile, known: Known) -> Rows:
    n = known.tilt_deg.size
    rows = np.arange(len(file)) if len(file) == n else np.flatnonzero(file.used)
    if rows.size != n:
        problem = (
            f"{file.path} lists {len(file)} images, {int(file.used.sum())} of them in use, and the series has {n}, "
            "whose names are not those of the movies"
        )
        raise BadTiltSeries(known.series_name, f"{problem}; use the series that Warp was given")
    fits = _orders_that_fit(file.tilt_deg[rows], known.tilt_deg)
    if not fits:
        problem = f"the tilt angles in {file.path} do not fit those of the series; is it of another one?"
        raise BadTiltSeries(known.series_name, problem)
    same_dose = [fit for fit in fits if _same_dose_order(file.dose_e_per_A2[rows], known.dose_e_per_A2, fit.image)]
    best, *others = sorted(same_dose or fits, key=lambda fit: (not fit.exact, fit.apart_deg))
    for other in others:
        if not (np.array_equal(best.image, other.image) or best.is_clearly_better_than(other)):
            problem = (
                f"the images in {file.path} cannot be told from the same ones the other way round: the tilts are "
                "symmetric, and names of movies and doses are not known"
            )
            raise BadTiltSeries(known.series_name, f"{problem}; give the series as a STAR file, or its .mdoc")
    row = np.empty(n, dtype=np.intp)
    row[best.image] = rows
    return Rows(row, best.sign)


@dataclass(frozen=True, slots=True, eq=False)
class _Fit:
    """An order of rows: the sign of the tilts, the image of each row, and how well the tilts fit but for an offset."""

    sign: int
    image: NDArray[np.intp]
    apart_deg: float
    exact: bool

    def is_clearly_better_than(self, other: _Fit) -> bool:
        return (self.exact and not other.exact) or self.apart_deg < _BETTER * other.apart_deg


def _orders_that_fit(tilt_deg: FloatArray, nominal_deg: FloatArray) -> list[_Fit]:
    """Every order of the rows that makes sense."""
    fits: list[_Fit] = []
    for sign in (-1, 1):
        for lines in (slice(None), slice(None, None, -1)):
            image = tilts_of_lines(sign * tilt_deg[lines], nominal_deg)
            if image is not None:
                image = image[lines]  # the same step twice is none
                apart = float(np.abs(_apart(sign * tilt_deg, nominal_deg[image])).sum())
                exact = bool(np.abs(sign * tilt_deg - nominal_deg[image]).max() <= _SAME_TILT_DEG)
                fits.append(_Fit(sign, image, apart, exact))
    return fits


def _apart(tilt_deg: FloatArray, nominal_deg: FloatArray) -> FloatArray:
    """By how much tilts differ from nominal ones, but for a common offset."""
    change = tilt_deg - nominal_deg
    apart: FloatArray = change - np.median(change)
    return apart


def _same_dose_order(dose: FloatArray, known: FloatArray, image: NDArray[np.intp]) -> bool:
    """Whether rows and their images were exposed in the same order; False if that is not known."""
    if not (np.isfinite(dose).all() and np.isfinite(known).all()):
        return False
    return bool((np.diff(known[image][np.argsort(dose, kind="stable")]) >= 0).all() and np.ptp(dose) > 0)
