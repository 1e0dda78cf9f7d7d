"""Digits corpus: scikit-learn's 8 x 8 scans of handwriting and three made shifts of them, as four domains.

The scans are real (Alpaydin and Kaynak 1998, Optical Recognition of Handwritten Digits, UCI; CC BY 4.0; 1,797 of them
come with scikit-learn). The shifts are made here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .image_decoding import require_pillow

SIDE = 32  # pixels: eight of the scan's, enlarged fourfold, so that there is something to blur and rotate
SPLITS = {"train": 0.7, "validation": 0.1, "test": 0.2}
SOURCE_SHARE = 0.55
DOMAINS = ("scanned", "inverted", "textured", "blurred_rotated")


def load_digits_corpus(seed: int = 0) -> Any:
    """Digits as scanned, and three shifts of them, as a `DatasetDict`.

    Splits are `{domain}_{train, validation, test}` with the domains `scanned` (the source), `inverted` (black on
    white), `textured` (on a coloured random texture) and `blurred_rotated` (by 15 to 45 degrees either way); columns
    `image` (32 x 32, RGB) and `label`. A scan is in one split of the source or in one split of the shifts, never in
    both, so nothing that a model is tested on was trained on in any disguise; the three shifts show the same scans.

    Args:
        seed: of the cut and of the shifts.

    Raises:
        ImportError: Pillow is not installed.

    Example:
        >>> load_digits_corpus()["textured_test"].column_names
        ['image', 'label']
    """
    require_pillow()
    from datasets import ClassLabel, Dataset, DatasetDict, Features, Image
    from sklearn.datasets import load_digits

    scans, labels = load_digits(return_X_y=True)
    features = Features(image=Image(), label=ClassLabel(names=[str(digit) for digit in range(10)]))
    splits = {}
    for domain in DOMAINS:
        for split, indices in _split_indices(len(scans), seed, source=domain == "scanned").items():
            images = [SHIFTS[domain](_enlarged(scans[i]), np.random.default_rng((seed, 1, i))) for i in indices]
            columns = {"image": images, "label": labels[indices].tolist()}
            splits[f"{domain}_{split}"] = Dataset.from_dict(columns, features=features)
    return DatasetDict(splits)


def _split_indices(count: int, seed: int, source: bool) -> dict[str, np.ndarray]:
    """Indices of scans by split, the source's or the shifts'."""
    order = np.random.default_rng((seed, 0)).permutation(count)
    middle = round(SOURCE_SHARE * count)
    indices = order[:middle] if source else order[middle:]
    ends = np.round(np.cumsum(list(SPLITS.values())) * len(indices)).astype(int)
    return dict(zip(SPLITS, np.split(indices, ends[:-1]), strict=True))


def _enlarged(scan: np.ndarray) -> Any:
    from PIL import Image

    image = Image.fromarray(np.rint(scan.reshape(8, 8) * 255 / 16).astype(np.uint8))
    return image.resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def _scanned(image: Any, rng: np.random.Generator) -> Any:
    return image.convert("RGB")


def _inverted(image: Any, rng: np.random.Generator) -> Any:
    from PIL import ImageOps

    return ImageOps.invert(image).convert("RGB")


def _textured(image: Any, rng: np.random.Generator) -> Any:
    """Difference of the digit and a texture, as MNIST-M is made (Ganin et al. 2016) from photographs."""
    from PIL import Image, ImageChops

    coarse = Image.fromarray(rng.integers(0, 140, (6, 6, 3), dtype=np.uint8))  # darker than ink is bright
    return ImageChops.difference(image.convert("RGB"), coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def _blurred_rotated(image: Any, rng: np.random.Generator) -> Any:
    from PIL import Image, ImageFilter

    angle = rng.choice([-1, 1]) * rng.uniform(15, 45)
    rotated = image.rotate(angle, resample=Image.Resampling.BICUBIC)
    return rotated.filter(ImageFilter.GaussianBlur(2.5)).convert("RGB")


SHIFTS: dict[str, Callable[[Any, np.random.Generator], Any]] = {
    "scanned": _scanned,
    "inverted": _inverted,
    "textured": _textured,
    "blurred_rotated": _blurred_rotated,
}
