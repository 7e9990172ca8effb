"""Contrast that follows the view, until the user sets it."""

from __future__ import annotations

import numpy as np
import pytest
from napari.layers import Image

from napari_tiltalign.ui.contrast import FollowingContrast
from napari_tiltalign.ui.lazy_stack import LazyStack


@pytest.fixture
def layer() -> Image:
    """Images whose grey values are around 10, 20 and 30."""
    noise = np.random.default_rng(0).normal(0.0, 1.0, (64, 64))
    stack = LazyStack(lambda view: 10.0 * (view + 1) + noise, 3, (64, 64))
    return Image(stack, contrast_limits=(7.0, 13.0))


def test_every_view_is_seen(layer):
    contrast = FollowingContrast()
    for view, grey in ((0, 10.0), (2, 30.0), (1, 20.0)):
        contrast.follow(layer, view)
        low, high = layer.contrast_limits
        assert low < grey < high
        assert high - low < 10.0


def test_what_nobody_sees_is_not_drawn_again(layer):
    contrast = FollowingContrast()
    contrast.follow(layer, 1)
    before, changes = list(layer.contrast_limits), []
    layer.events.contrast_limits.connect(changes.append)
    image = layer.data.image(1)
    layer.data = LazyStack(lambda view: image + 0.002 * view, 5, (64, 64))
    for view in range(5):
        contrast.follow(layer, view)
    assert list(layer.contrast_limits) == before
    assert not changes


def test_contrast_does_not_depend_on_what_was_looked_at_before(layer):
    seen = {}
    for views in ((0, 1, 2), (2, 0, 1), (1, 0, 2)):
        contrast = FollowingContrast()
        for view in views:
            contrast.follow(layer, view)
            assert seen.setdefault(view, tuple(layer.contrast_limits)) == tuple(layer.contrast_limits)


def test_what_the_user_sets_stays(layer):
    contrast = FollowingContrast()
    contrast.follow(layer, 1)
    layer.contrast_limits = (15.0, 40.0)
    contrast.follow(layer, 2)
    assert list(layer.contrast_limits) == [15.0, 40.0]


def test_other_layers_are_left_alone():
    plain = Image(np.zeros((3, 8, 8)), contrast_limits=(0.0, 1.0))
    FollowingContrast().follow(plain, 1)
    FollowingContrast().follow(None, 1)
    assert list(plain.contrast_limits) == [0.0, 1.0]
