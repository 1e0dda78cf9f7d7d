"""Projections of image and text features into one space, where cosines say what belongs together."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch.nn.functional import normalize

from .image_text_pairs import ImageTextPairs

BIAS = -10.0  # SigLIP's start: with SCALE, what belongs together begins at a cosine of 0.5
SCALE, LARGEST_SCALE = 20.0, 100.0  # inverse temperature at the start, and at most (CLIP's limit)


class Projections(torch.nn.Module):
    r"""Two linear maps without bias into one space, as `VisionTextDualEncoderModel` has them.

    Args:
        image_width, text_width: of the features.
        width: of the common space.

    Attributes:
        visual, text: `nn.Linear`.
        logit_scale: () logarithm of the inverse temperature.
        logit_bias: () of SigLIP; a constant, so it ranks nothing.

    Example:
        >>> projections = Projections(4, 3, 2)
        >>> projections.images(torch.ones(5, 4)).shape
        torch.Size([5, 2])
    """

    def __init__(self, image_width: int, text_width: int, width: int):
        super().__init__()
        self.visual = torch.nn.Linear(image_width, width, bias=False)
        self.text = torch.nn.Linear(text_width, width, bias=False)
        self.logit_scale = torch.nn.Parameter(torch.tensor(math.log(SCALE)))
        self.logit_bias = torch.nn.Parameter(torch.tensor(BIAS))

    @property
    def width(self) -> int:
        return self.visual.out_features

    def images(self, features: torch.Tensor) -> torch.Tensor:
        """(n, image_width) -> (n, width) of length 1."""
        return normalize(self.visual(features), dim=-1)

    def texts(self, features: torch.Tensor) -> torch.Tensor:
        """(n, text_width) -> (n, width) of length 1."""
        return normalize(self.text(features), dim=-1)

    def scale(self) -> torch.Tensor:
        """Inverse temperature, 100 at most."""
        return self.logit_scale.exp().clamp(max=LARGEST_SCALE)


def ridge_projections(pairs: ImageTextPairs, width: int = 0, ridge: float = 1.0) -> Projections:
    r"""Projections in closed form: image features mapped onto those of their texts, by ridge regression.

    \[M = \Big(\sum_i w_i \tilde x_i \tilde x_i^\top + \rho\,\tfrac{t}{d}\, I\Big)^{-1} \sum_i w_i \tilde x_i
    \tilde y_i^\top\]

    with \(t\) the trace of the sum. \(\tilde x\) and \(\tilde y\) are features without their mean direction, \(x -
    m\,m^\top x\), images by their mean length and texts of length 1. Frozen features point nearly one way, and a map
    without bias cannot subtract a mean, but it can take a direction out. The text side is the identity, or the first
    `width` principal directions of the texts.

    Args:
        pairs: all of them count by their weights.
        width: of the common space; that of the text features when 0.
        ridge: \(\rho\); larger ones follow the texts' order of things more, and the images less.

    Raises:
        ValueError: a width beyond that of the text features, or a ridge that is not positive.
    """
    image_width, text_width = pairs.images.shape[1], pairs.texts.shape[1]
    if not 0 <= width <= text_width:
        raise ValueError(f"width={width!r} must be at most that of the text features, {text_width}; 0 takes theirs.")
    if not ridge > 0:
        raise ValueError(f"ridge={ridge!r} must be positive.")
    assert pairs.weights is not None
    weights = np.asarray(pairs.weights, dtype=np.float64) / pairs.weights.sum()
    images = pairs.images.astype(np.float64)
    without_image = _without(weights @ images)
    texts = pairs.texts.astype(np.float64)
    without_text = _without(pairs.text_targets().T @ weights)
    x = images @ without_image
    unit = 1 / max(float(weights @ np.linalg.norm(x, axis=1)), 1e-12)
    plain = ImageTextPairs(pairs.images, pairs.image_groups, texts @ without_text, pairs.text_groups, pairs.weights)
    y = plain.text_targets()
    x = x * unit
    gram = (x.T * weights) @ x
    penalty = max(ridge * float(np.trace(gram)) / image_width, 1e-12)
    solution = np.linalg.solve(gram + penalty * np.eye(image_width), (x.T * weights) @ y)
    directions = np.eye(text_width)
    if 0 < width < text_width:
        _, _, right = np.linalg.svd(plain.texts - plain.texts.mean(0), full_matrices=True)
        directions = right[:width]
    projections = Projections(image_width, text_width, len(directions))
    visual = directions @ solution.T @ without_image * unit
    projections.visual.weight.data = torch.from_numpy(_rows_of_length_one(visual)).float()
    projections.text.weight.data = torch.from_numpy(_rows_of_length_one(directions @ without_text)).float()
    return projections


def _without(direction: np.ndarray) -> np.ndarray:
    """Projection that takes a direction out."""
    length = float(np.linalg.norm(direction))
    unit = direction / length if length > 0 else direction
    return np.eye(len(direction)) - np.outer(unit, unit)


def _rows_of_length_one(weight: np.ndarray) -> np.ndarray:
    """Matrix by the root of its mean squared row: a size that an optimizer's steps suit. Cosines do not change."""
    return np.asarray(weight / max(float(np.sqrt((weight**2).sum(1).mean())), 1e-12))
