"""Observations that can be solved together, and those that cannot."""

from __future__ import annotations

import numpy as np
import pytest

from napari_tiltalign.methods.ties import tied_together


def kept(links, least_per_view=2, least_per_point=2):
    """Links (view, point) that are kept, of a list of them."""
    view, point = np.array(links, dtype=np.int64).reshape(-1, 2).T
    mask = tied_together(view, point, least_per_view=least_per_view, least_per_point=least_per_point)
    return [link for link, stays in zip(links, mask, strict=True) if stays]


SQUARE = [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_what_hangs_together_is_kept():
    assert kept(SQUARE) == SQUARE


def test_what_is_seen_too_rarely_goes_and_what_rested_on_it_too():
    """Point 2 is seen twice, but one of the two views sees nothing else."""
    assert kept([*SQUARE, (1, 2), (2, 2)]) == SQUARE
    assert kept([*SQUARE, (1, 2), (2, 2)], least_per_view=1) == [*SQUARE, (1, 2), (2, 2)]


def test_of_two_groups_the_larger_is_kept():
    other = [(view + 5, point + 7) for view in range(3) for point in range(2)]
    assert kept([*SQUARE, *other]) == other


def test_a_single_common_point_ties_two_groups():
    other = [(view + 5, point + 7) for view in range(3) for point in range(2)]
    bridge = [(0, 7)]
    assert kept([*SQUARE, *other, *bridge]) == [*SQUARE, *other, *bridge]


@pytest.mark.parametrize("links", [[], [(0, 0)], [(0, 0), (1, 1), (2, 2)]], ids=["none", "one", "apart"])
def test_nothing_may_be_left(links):
    assert kept(links) == []


def test_a_chain_of_views_holds():
    chain = [(view, point) for view in range(30) for point in (view, view + 1)]
    assert kept(chain, least_per_point=1) == chain
