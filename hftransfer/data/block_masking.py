"""Block masking of images: square units of patches drawn at random, the same number in each image (Xie et al. 2022).

A masked patch that stands among visible ones can be guessed from its neighbours; a whole unit cannot.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

USUAL_UNIT = 32  # pixels: SimMIM's, for images of 192 and 224 pixels
UNITS_A_SIDE = 6  # of SimMIM's images of 192 pixels; smaller images keep that
USUAL_SHARE = 0.6


@dataclass(frozen=True)
class BlockMasking:
    r"""Block masking of square images.

    An image of \(g \times g\) patches is cut into \(n = (g/u)^2\) units of \(u \times u\) patches, of which
    \(\lceil s n \rceil\) are masked, drawn without replacement (SimMIM: Xie et al., CVPR 2022; BEiT, Bao et al. 2022,
    draws rectangles instead).

    Args:
        patches: \(g\), along a side of the image.
        unit: \(u\), patches along a side of a unit.
        share: \(s\), of the units.

    Raises:
        ValueError: a unit that does not divide the image, or a share that hides all units.

    Example:
        >>> masking = BlockMasking(patches=4, unit=2, share=0.5)
        >>> masking(np.random.default_rng(0)).reshape(4, 4).astype(int)
        array([[1, 1, 0, 0],
               [1, 1, 0, 0],
               [1, 1, 0, 0],
               [1, 1, 0, 0]])
    """

    patches: int
    unit: int
    share: float = USUAL_SHARE

    def __post_init__(self) -> None:
        if self.unit < 1 or self.patches % self.unit:
            raise ValueError(f"{self.patches} patches a side are not cut into units of {self.unit}.")
        if not 0 < self.share < 1 or self.masked_units >= self.units:
            raise ValueError(
                f"image_mask_share={self.share:g} of {self.units} units of an image hides all or none of them. Lower "
                "it, or make units smaller with image_mask_unit."
            )

    @property
    def units(self) -> int:
        """Units of an image."""
        return (self.patches // self.unit) ** 2

    @property
    def masked_units(self) -> int:
        """Units of an image that are masked."""
        return math.ceil(self.share * self.units - 1e-9)

    def __call__(self, rng: np.random.Generator) -> np.ndarray:
        """(patches²,) whether each patch is masked, row by row; the same state of `rng`, the same patches."""
        side = self.patches // self.unit
        units = np.zeros(self.units, dtype=bool)
        units[rng.permutation(self.units)[: self.masked_units]] = True
        return np.kron(units.reshape(side, side), np.ones((self.unit, self.unit), dtype=bool)).ravel()


def mask_unit(side: int, patch: int, wanted: int | None = None) -> int:
    """Side of a unit of masking in pixels: the one that is wanted, or SimMIM's scaled to the image.

    SimMIM's units have 32 pixels, in images of 192: six a side. Units of smaller images are a sixth of a side, as
    nearly as whole patches allow; those of larger ones stay at 32 pixels.

    Args:
        side: of the image, in pixels.
        patch: of the model, in pixels.
        wanted: by the user; checked.

    Raises:
        ValueError: the image is not cut into such patches, or into such units.

    Example:
        >>> mask_unit(192, 4), mask_unit(224, 16), mask_unit(32, 4), mask_unit(16, 8)
        (32, 32, 4, 8)
    """
    if side % patch:
        raise ValueError(
            f"Images of {side} x {side} pixels are not cut into whole patches of {patch} x {patch}. Take a model "
            "whose image_size is a multiple of its patch_size."
        )
    fitting = [unit for unit in range(patch, side, patch) if side % unit == 0]
    if wanted is None and fitting:
        aim = min(USUAL_UNIT, side / UNITS_A_SIDE)
        return min(fitting, key=lambda unit: abs(math.log(unit / aim)))
    if wanted not in fitting:
        units = ", ".join(map(str, fitting)) or "none: the image is one patch"
        setting = "Masking" if wanted is None else f"image_mask_unit={wanted}"
        raise ValueError(
            f"{setting} needs units of whole patches ({patch} pixels) that divide an image of {side} pixels and are "
            f"smaller than it: {units}."
        )
    return wanted
