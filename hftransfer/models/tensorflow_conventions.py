"""TensorFlow's conventions for batch norm and dropout: momentum and dropout rate that torch reads as their complement.

transformers copied these settings of MobileNets and EfficientNet as they stood. A MobileNetV1 as it comes replaces all
its running statistics in one step of training and drops 99.9 % of its features.
"""

from __future__ import annotations

import logging
from collections import Counter

from torch import nn

from .batch_norm_statistics import batch_norms

logger = logging.getLogger(__name__)

FASTEST = 0.5  # a momentum above it is a decay: nobody means a batch to outweigh all that came before
USUAL = 0.1  # torch's own default
DENSEST = 0.8  # a dropout from here on is the share that is kept


def convert_tensorflow_conventions(model: nn.Module, momentum: float | None = None) -> list[str]:
    """Batch norms of momentum above 0.5 set to 0.1, dropouts of 0.8 or more to one minus it, with one logged line.

    running = (1 - momentum)·running + momentum·batch is torch's momentum; TensorFlow's is its complement. The
    complement itself (0.0003 for MobileNetV1) suits the millions of steps of pretraining: after a few hundred, a model
    that was fitted to the statistics of its batches would still be evaluated on ImageNet's.

    Args:
        model: changed in place; its config, and what is saved, are not.
        momentum: for every batch norm instead, without a word.

    Returns:
        What was mended, one entry a value.
    """
    counts: Counter[str] = Counter()
    for norm in batch_norms(model).values():
        if momentum is not None:
            norm.momentum = momentum
        elif norm.momentum is not None and norm.momentum > FASTEST:
            counts[f"batch norm of momentum {norm.momentum:g} -> {USUAL:g}"] += 1
            norm.momentum = USUAL
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd) and DENSEST <= module.p < 1:
            counts[f"dropout of {module.p:g} -> {1 - module.p:.4g}"] += 1
            module.p = round(1 - module.p, 6)
    changes = [f"{count} x {change}" for change, count in counts.items()]
    if changes:
        logger.warning(
            "%s has TensorFlow's conventions where torch has their complement; mended: %s.",
            type(model).__name__,
            ", ".join(changes),
        )
    return changes
