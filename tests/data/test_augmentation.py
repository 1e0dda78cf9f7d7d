"""Augmentation: a pure function of its generator, within its bounds, and nothing when nothing is asked for."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from PIL import Image

from hftransfer.data.augmentation import (
    RAND_AUGMENT_OPERATIONS,
    Augment,
    Compose,
    Flip,
    RandAugment,
    RandomResizedCrop,
    make_augmentation,
)

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8))
LADDER = Image.fromarray(
    np.tile(np.arange(100, dtype=np.uint8)[None, :, None], (100, 1, 3))
)  # its column is its value


def run(operation, seed: int, image=PICTURE) -> np.ndarray:
    return np.asarray(operation(image, np.random.default_rng(seed)))


@pytest.mark.parametrize("kind", ["weak", "strong"])
@pytest.mark.parametrize("flip", [False, True])
def test_the_same_generator_gives_the_same_picture(kind, flip):
    operation = make_augmentation(kind, flip, (16, 16))
    np.random.seed(1)
    first = [run(operation, seed) for seed in range(12)]
    np.random.seed(2)
    again = [run(make_augmentation(kind, flip, (16, 16)), seed) for seed in range(12)]
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert len({a.tobytes() for a in first}) == 12
    assert all(a.shape == (16, 16, 3) and a.dtype == np.uint8 for a in first)


def test_nothing_is_nothing_and_a_flip_alone_is_a_flip():
    assert make_augmentation("none") is None
    plain, mirrored = np.asarray(PICTURE), np.asarray(PICTURE)[:, ::-1]
    seen = [run(make_augmentation("none", flip=True), seed) for seed in range(400)]
    flipped = [np.array_equal(a, mirrored) for a in seen]
    assert all(f or np.array_equal(a, plain) for f, a in zip(flipped, seen, strict=True))
    assert 160 < sum(flipped) < 240


def test_what_mirrors_is_asked_for():
    kinds = {kind: make_augmentation(kind) for kind in get_args(Augment) if kind != "none"}
    assert not [k for k, c in kinds.items() if any(isinstance(o, Flip) for o in c.operations)]
    assert all(any(isinstance(o, Flip) for o in make_augmentation(k, True).operations) for k in kinds)


def test_a_crop_covers_the_share_of_the_picture_that_it_says():
    crop = RandomResizedCrop((100, 100), scale=(0.5, 0.8), ratio=(1.0, 1.0))
    for seed in range(40):
        row = run(crop, seed, LADDER)[50, :, 0].astype(float)
        share = ((row[-1] - row[0]) / 99) ** 2
        assert 0.45 < share < 0.85
        assert (np.diff(row) >= 0).all()  # never mirrored


@pytest.mark.parametrize(("size", "shape"), [((20, 10), (20, 10)), (12, None), (None, None)])
def test_a_crop_comes_in_the_size_that_the_processor_asks_for(size, shape):
    for seed in range(20):
        found = run(RandomResizedCrop(size), seed).shape[:2]
        if shape:
            assert found == shape
        elif size:
            assert min(found) == size
        else:
            assert found[0] <= 40
            assert found[1] <= 30


def test_a_picture_of_one_pixel_can_be_cropped():
    assert run(RandomResizedCrop((4, 4)), 0, Image.new("RGB", (1, 1), (9, 8, 7))).tolist() == [[[9, 8, 7]] * 4] * 4


@pytest.mark.parametrize("which", range(len(RAND_AUGMENT_OPERATIONS)))
@pytest.mark.parametrize("sign", [-1, 1])
def test_every_strong_operation_keeps_the_size_and_changes_something(which, sign):
    low_contrast = Image.fromarray((np.asarray(PICTURE) // 2 + 40).astype(np.uint8))
    found = RAND_AUGMENT_OPERATIONS[which](low_contrast, 1.0, sign)
    assert found.size == PICTURE.size
    assert found.mode == "RGB"
    assert not np.array_equal(np.asarray(found), np.asarray(low_contrast))


def test_strong_changes_more_than_weak():
    smooth = Image.fromarray(np.tile(np.linspace(0, 255, 30)[None, :, None], (40, 1, 3)).astype(np.uint8))

    def distance(kind):
        operation = make_augmentation(kind, size=(40, 30))
        return np.mean(
            [np.abs(run(operation, s, smooth).astype(float) - np.asarray(smooth)).mean() for s in range(60)]
        )

    assert distance("strong") > 1.5 * distance("weak") > 0


def test_operations_compose_in_order():
    calls: list[str] = []
    add = lambda name: lambda image, rng: calls.append(name) or image  # noqa: E731
    Compose([add("a"), add("b")])(PICTURE, np.random.default_rng(0))
    assert calls == ["a", "b"]
    assert not np.array_equal(run(RandAugment(count=3), 1), np.asarray(PICTURE))


def test_an_unknown_kind_is_refused():
    with pytest.raises(
        ValueError, match="augment='strnog' must be one of 'none', 'weak' or 'strong'. Did you mean 'strong'"
    ):
        make_augmentation("strnog")
