"""Decoder of masked image models in all families that transformers has, and the loss at masked patches."""

from __future__ import annotations

import masked_images
import numpy as np
import pytest
import torch
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_IMAGE_MODELING_MAPPING_NAMES

from hftransfer.models.image_decoder import find_decoder, reconstruction_loss


def test_the_families_are_those_of_transformers():
    assert set(masked_images.CONFIGS) == set(MODEL_FOR_MASKED_IMAGE_MODELING_MAPPING_NAMES)


@pytest.mark.parametrize("family", masked_images.CONFIGS)
def test_the_loss_is_simmims_in_every_family(family):
    model = masked_images.painter(family).eval()
    side, patch = model.config.image_size, model.config.patch_size
    pixels = torch.randn(3, 3, side, side)
    masked = torch.rand(3, (side // patch) ** 2) < 0.6
    with torch.no_grad():
        outputs = model(pixels, bool_masked_pos=masked)
    painted = outputs.reconstruction
    ours = float(reconstruction_loss(pixels, painted, masked) / masked.sum())
    assert ours == pytest.approx(float(outputs.loss), rel=1e-4)
    x, y = (t.double().numpy() for t in (pixels, painted))
    grid = masked.numpy().reshape(3, side // patch, side // patch)
    hidden = np.kron(grid, np.ones((1, patch, patch)))[:, None]
    expected = (np.abs(x - y) * hidden).sum() / (3 * hidden.sum())
    assert ours == pytest.approx(expected, rel=1e-5)
    assert find_decoder(model, pixels, masked).name == "decoder.0"
    assert not any("mask_token" in name for name in find_decoder(model, pixels, masked).idle)


def test_visible_patches_count_nothing():
    pixels, masked = torch.zeros(1, 3, 8, 8), torch.tensor([[False, True, False, False]])
    painted = torch.full((1, 3, 8, 8), 7.0)
    painted[:, :, :4, 4:] = 0.25  # the second patch of the first row
    assert float(reconstruction_loss(pixels, painted, masked)) == 0.25
