"""Gold is erased where there is gold, and nothing else is touched."""

from __future__ import annotations

import numpy as np
import pytest

from napari_tiltalign.methods.gold_eraser import LEAST_PER_VIEW, erase_discs, find_gold
from napari_tiltalign.simulation import simulate


def textured(shape, seed):
    rng = np.random.default_rng(seed)
    y, x = np.indices(shape)
    return (100.0 + 0.1 * y - 0.05 * x + rng.normal(0, 2.0, shape)).astype(np.float32)


def test_discs_are_replaced_by_level_and_texture_of_their_surroundings():
    clean = textured((120, 140), 1)
    image = clean.copy()
    centres = np.array([[40.0, 50.0], [80.3, 100.6], [3.0, 70.0], [44.0, 62.0]])
    y, x = np.indices(image.shape)
    inside = np.zeros(image.shape, dtype=bool)
    for centre in centres:
        disc = np.hypot(y - centre[0], x - centre[1]) <= 6.0
        image[disc] -= 60.0
        inside |= disc
    erased = erase_discs(image, centres, 12.0, np.random.default_rng(0))
    np.testing.assert_array_equal(erased[~inside], image[~inside])
    level = 100.0 + 0.1 * y - 0.05 * x
    off = (erased - level)[inside]
    assert abs(off.mean()) < 0.6
    assert off.std() == pytest.approx(2.0, rel=0.25)
    np.testing.assert_array_equal(image[~inside], clean[~inside])


def test_beads_are_gone_after_erasing(simulated):
    gold = find_gold(simulated.series, 10.0)
    tracks = simulated.truth.tracks
    assert gold.per_view >= 8
    before, after = [], []
    for index in (0, 7, 15):
        image = simulated.series.tilts[index].image.load()[0]
        erased = gold.erase(index, image)
        level = np.median(image)
        for y, x in np.round(tracks.position_yx_px[tracks.tilt == index]).astype(int):
            if 4 <= y < image.shape[0] - 4 and 4 <= x < image.shape[1] - 4:
                window = slice(y - 1, y + 2), slice(x - 1, x + 2)
                before.append(image[window].mean() / level)
                after.append(erased[window].mean() / level)
    assert np.median(before) < 0.6
    assert np.median(after) == pytest.approx(1.0, abs=0.1)
    assert np.mean(np.array(after) < 0.75) < 0.1


@pytest.mark.parametrize("texture", ["particles", "cytoplasm"])
def test_no_gold_is_found_where_there_is_none(small, texture):
    bare = simulate(small.replace(n_beads=0, texture=texture, tilt_step_deg=20))
    gold = find_gold(bare.series, 10.0)
    assert gold.per_view < LEAST_PER_VIEW
    image = bare.series.tilts[0].image.load()[0]
    assert gold.erase(0, image) is image
