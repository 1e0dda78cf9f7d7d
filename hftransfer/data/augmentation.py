"""Image augmentation: random changes of a picture that leave its label alone.

On Pillow and NumPy: Pillow is what image processors need anyway, and its C code keeps ahead of a model with two worker
processes. kornia works on batches of float tensors, in the main process or on the accelerator; albumentations brings
OpenCV, a second decoder and resampler whose pixels differ from those that the saved image processor makes. torchvision
is never imported.

An operation is a function of a picture and a `numpy.random.Generator`. It draws from nothing else, so that the same
generator gives the same picture in every worker and on every process.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ..settings import read_choice

Operation = Callable[[Any, np.random.Generator], Any]
Augment = Literal["none", "weak", "strong"]
GREY = (128, 128, 128)


@dataclass(frozen=True)
class Compose:
    """Sequence of operations, one after the other."""

    operations: Sequence[Operation]

    def __call__(self, image: Any, rng: np.random.Generator) -> Any:
        for operation in self.operations:
            image = operation(image, rng)
        return image


@dataclass(frozen=True)
class RandomResizedCrop:
    """Random crop of the picture, resized at once to what the image processor asks for.

    Args:
        size: (height, width); or the length of the shorter side, which keeps the box's shape; `None` leaves the box
            as large as it is.
        scale: the least and greatest share of the picture's area.
        ratio: the least and greatest stretch of the box's shape against the picture's.
        resample: Pillow's filter; the processor's own, so that training and evaluation see the same.
    """

    size: tuple[int, int] | int | None = None
    scale: tuple[float, float] = (0.7, 1.0)
    ratio: tuple[float, float] = (0.8, 1.25)
    resample: int = 2  # bilinear

    def __call__(self, image: Any, rng: np.random.Generator) -> Any:
        area = rng.uniform(*self.scale)
        stretch = math.exp(rng.uniform(math.log(self.ratio[0]), math.log(self.ratio[1])))
        relative_width, relative_height = min(1.0, math.sqrt(area * stretch)), min(1.0, math.sqrt(area / stretch))
        width, height = max(1.0, image.width * relative_width), max(1.0, image.height * relative_height)
        left, top = rng.uniform(0, image.width - width), rng.uniform(0, image.height - height)
        return image.resize(self._output_size(width, height), self.resample, (left, top, left + width, top + height))

    def _output_size(self, width: float, height: float) -> tuple[int, int]:
        if isinstance(self.size, tuple):
            return self.size[1], self.size[0]
        factor = 1.0 if self.size is None else self.size / min(width, height)
        return max(1, round(width * factor)), max(1, round(height * factor))


@dataclass(frozen=True)
class Flip:
    """Random horizontal flip."""

    probability: float = 0.5

    def __call__(self, image: Any, rng: np.random.Generator) -> Any:
        from PIL import ImageOps

        return ImageOps.mirror(image) if rng.random() < self.probability else image


@dataclass(frozen=True)
class RandAugment:
    """RandAugment: a few operations, drawn with replacement, each at a random strength.

    Cubuk, Zoph, Shlens and Le (2020), RandAugment: practical automated data augmentation with a reduced search space.
    As there, without a learned policy; the strength is drawn, as in FixMatch, rather than fixed.

    Args:
        count: operations a picture.
        strongest: the upper end of the drawn strength, in 0 … 1.
    """

    count: int = 2
    strongest: float = 1.0

    def __call__(self, image: Any, rng: np.random.Generator) -> Any:
        for index in rng.integers(len(RAND_AUGMENT_OPERATIONS), size=self.count):
            image = RAND_AUGMENT_OPERATIONS[index](
                image, rng.uniform(0.1, 1.0) * self.strongest, 1 if rng.random() < 0.5 else -1
            )
        return image


def make_augmentation(
    augment: str, flip: bool = False, size: tuple[int, int] | int | None = None, resample: int = 2
) -> Compose | None:
    """Augmentation for a value of the setting `augment`, or `None`.

    Args:
        augment: `"none"`; `"weak"`, a random resized crop; `"strong"`, that and two operations of `RandAugment`.
        flip: mirror half of the pictures. Off unless asked for: a mirrored digit, letter or road sign is another.
        size, resample: of `RandomResizedCrop`.

    Raises:
        ValueError: an unknown kind.
    """
    if read_choice("augment", augment, Augment) == "none":
        return Compose([Flip()]) if flip else None
    operations: list[Operation] = [RandomResizedCrop(size, resample=resample)]
    operations += [Flip()] if flip else []
    operations += [RandAugment()] if augment == "strong" else []
    return Compose(operations)


# ---- the operations of RandAugment: (picture, strength in 0 … 1, sign)


def _autocontrast(image: Any, strength: float, sign: int) -> Any:
    from PIL import ImageOps

    return ImageOps.autocontrast(image)


def _equalize(image: Any, strength: float, sign: int) -> Any:
    from PIL import ImageOps

    return ImageOps.equalize(image)


def _posterize(image: Any, strength: float, sign: int) -> Any:
    from PIL import ImageOps

    return ImageOps.posterize(image, 8 - round(4 * strength))


def _solarize(image: Any, strength: float, sign: int) -> Any:
    from PIL import ImageOps

    return ImageOps.solarize(image, round(256 * (1 - strength)))


def _enhance(name: str) -> Callable[[Any, float, int], Any]:
    def apply(image: Any, strength: float, sign: int) -> Any:
        from PIL import ImageEnhance

        return getattr(ImageEnhance, name)(image).enhance(1 + sign * 0.9 * strength)

    return apply


def _rotate(image: Any, strength: float, sign: int) -> Any:
    return image.rotate(sign * 30 * strength, resample=2, fillcolor=GREY)


def _affine(make: Callable[[float, Any], tuple[float, ...]]) -> Callable[[Any, float, int], Any]:
    def apply(image: Any, strength: float, sign: int) -> Any:
        from PIL import Image

        matrix = make(sign * 0.3 * strength, image)
        return image.transform(image.size, Image.Transform.AFFINE, matrix, resample=2, fillcolor=GREY)

    return apply


RAND_AUGMENT_OPERATIONS: tuple[Callable[[Any, float, int], Any], ...] = (
    _autocontrast,
    _equalize,
    _posterize,
    _solarize,
    _enhance("Color"),
    _enhance("Contrast"),
    _enhance("Brightness"),
    _enhance("Sharpness"),
    _rotate,
    _affine(lambda s, image: (1, s, -s * image.height / 2, 0, 1, 0)),  # shear, about the middle
    _affine(lambda s, image: (1, 0, 0, s, 1, -s * image.width / 2)),
    _affine(lambda s, image: (1, 0, s * image.width, 0, 1, 0)),  # shift
    _affine(lambda s, image: (1, 0, 0, 0, 1, s * image.height)),
)
