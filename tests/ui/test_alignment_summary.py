"""The lines about an alignment say how sure it is, where that is known."""

from __future__ import annotations

import numpy as np

from napari_tiltalign.geometry import ViewGeometry
from napari_tiltalign.model import Alignment, ExpectedError, Provenance, Uncertainty
from napari_tiltalign.model.alignment import FOLLOWED_AREA_KEY
from napari_tiltalign.ui.bead_table import followed_noun
from napari_tiltalign.ui.summary import alignment_summary

TILTS_DEG = np.arange(-60.0, 61.0, 30.0)


def alignment(**changes):
    ids = tuple(f"v{tilt:g}" for tilt in TILTS_DEG)
    used = np.ones(len(ids), dtype=bool)
    return Alignment("TS", ids, ViewGeometry.nominal(TILTS_DEG, 5.0), 10.0, (64, 64), used).replace(**changes)


def test_what_is_not_known_is_not_told():
    assert alignment_summary(alignment()) == ["5 of 5 views, tilt axis 5.00°"]
    nothing = np.zeros(5)
    bars = Uncertainty(nothing, nothing, np.zeros((5, 2)), nothing)
    assert alignment_summary(alignment(uncertainty=bars)) == ["5 of 5 views, tilt axis 5.00°"]


def test_the_axis_has_its_error_bar_and_the_field_its_error():
    nothing = np.zeros(5)
    error = ExpectedError(np.array([-1.0, 1.0]), np.array([0.0]), np.array([[1.0], [4.0]]), 2.5)
    bars = Uncertainty(nothing, nothing, np.zeros((5, 2)), nothing, 0.012, error)
    first, second = alignment_summary(alignment(uncertainty=bars))
    assert first == "5 of 5 views, tilt axis 5.00° ± 0.012°"
    assert second == "expected error 0.25 px, 0.1 to 0.4 over the field"


def test_what_is_followed_is_called_by_its_name(truth):
    assert alignment_summary(truth)[0].startswith("7 beads, ")
    patches = truth.replace(provenance=Provenance(method="patch-tracking", options={"patch_size_nm": 100.0}))
    assert alignment_summary(patches)[0].startswith("7 patches, ")
    tiles = truth.replace(details={FOLLOWED_AREA_KEY: 80.0})
    assert alignment_summary(tiles)[0].startswith("7 tiles, ")
    assert [followed_noun(one) for one in (truth, patches, tiles)] == ["bead", "patch", "tile"]
