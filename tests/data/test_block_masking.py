"""Block masking of images: units, shares, and what is drawn."""

from __future__ import annotations

import numpy as np
import pytest

from hftransfer.data.block_masking import BlockMasking, mask_unit


def test_whole_units_are_masked_and_always_as_many():
    masking = BlockMasking(patches=12, unit=3, share=0.6)
    assert (masking.units, masking.masked_units) == (16, 10)  # ceil(9.6)
    for seed in range(20):
        grid = masking(np.random.default_rng(seed)).reshape(12, 12)
        by_unit = grid.reshape(4, 3, 4, 3).sum((1, 3))
        assert set(np.unique(by_unit)) == {0, 9}
        assert (by_unit == 9).sum() == 10


def test_each_unit_is_masked_as_often_as_any():
    masking = BlockMasking(patches=4, unit=1, share=0.5)
    often = np.mean([masking(np.random.default_rng(seed)) for seed in range(2000)], axis=0)
    assert np.abs(often - 0.5).max() < 5 * np.sqrt(0.25 / 2000)


@pytest.mark.parametrize(
    ("share", "expected"), [(0.6, 3), (0.5, 2), (0.25, 1), (0.01, 1), (0.75, 3)]
)  # of four units: SimMIM rounds up
def test_the_share_is_rounded_up(share, expected):
    assert BlockMasking(patches=4, unit=2, share=share).masked_units == expected


@pytest.mark.parametrize(
    ("side", "patch", "unit"),
    [(192, 4, 32), (224, 16, 32), (224, 32, 32), (224, 14, 28), (256, 4, 32), (384, 16, 32), (96, 4, 16), (32, 4, 4)],
)
def test_simmims_units_scaled_to_the_image(side, patch, unit):
    assert mask_unit(side, patch) == unit


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: BlockMasking(4, 3), "not cut into units"),
        (lambda: BlockMasking(4, 2, 0.9), "image_mask_share=0.9 of 4 units"),
        (lambda: BlockMasking(4, 2, 0.0), "image_mask_share=0"),
        (lambda: mask_unit(18, 4), "not cut into whole patches of 4"),
        (lambda: mask_unit(16, 16), "none: the image is one patch"),
        (lambda: mask_unit(16, 4, 6), "image_mask_unit=6 needs units of whole patches .4 pixels.*: 4, 8"),
        (lambda: mask_unit(16, 4, 16), "image_mask_unit=16"),
        (lambda: mask_unit(16, 4, 2), "image_mask_unit=2"),
    ],
)
def test_what_cannot_be_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
