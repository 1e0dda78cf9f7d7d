"""Layer-wise learning rates, and the slanted triangular schedule."""

from __future__ import annotations

from dataclasses import dataclass

from .parameter_blocks import Block


@dataclass(frozen=True)
class LayerwiseRates:
    """Multipliers of the base learning rate by depth.

    The head gets `head`; a block of the backbone gets `backbone · layer_decay^depth`, where the last layer has depth
    1, the one before it 2, and what stands before all layers one more than there are (Howard & Ruder 2018; the count
    is that of BEiT, Bao et al. 2022). What stands between the layers and the head has depth 0.

    Example:
        >>> LayerwiseRates(layer_decay=0.5).of(Block("encoder.layer.1", depth=2, head=False, parameters=()))
        0.25
    """

    layer_decay: float = 1.0
    head: float = 1.0
    backbone: float = 1.0

    def of(self, block: Block) -> float:
        """The multiplier of one block."""
        return self.head if block.head else self.backbone * self.layer_decay**block.depth


def slanted_triangular(step: int, total: int, cut_frac: float = 0.1, ratio: float = 32.0) -> float:
    """Slanted triangular learning rate: the share of the peak at a step, which rises linearly over the first steps and
    falls linearly over all others.

    `cut = ⌊total · cut_frac⌋`; `p = t/cut` below the cut and `1 − (t − cut)/(total − cut)` from it on; the share is
    `(1 + p · (ratio − 1)) / ratio`, between `1/ratio` and 1 (Howard & Ruder 2018, equation 3). The paper writes
    `cut · (1/cut_frac − 1)` where `total − cut` stands here: the same number, but for rounding, with which the paper's
    rate falls below 0 in short runs. At least one step rises.

    Args:
        step: from 0.
        total: steps of the run.
        cut_frac: share of the steps that rise, between 0 and 1.
        ratio: how much smaller the lowest rate is than the peak, at least 1.
    """
    cut = min(max(1, int(total * cut_frac)), max(1, total - 1))
    p = step / cut if step < cut else 1 - (step - cut) / max(1, total - cut)
    return (1 + max(0.0, p) * (ratio - 1)) / ratio
