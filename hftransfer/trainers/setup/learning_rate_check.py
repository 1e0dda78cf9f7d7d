"""Learning rates of a config by layer and part, and the optimizers that support them."""

from __future__ import annotations

from typing import Any

from ...models.layerwise_rates import LayerwiseRates
from .learning_rate_schedule import SLANTED

# These step inside the backward pass, parameter by parameter, with one rate for all.
ONE_RATE = ("lomo", "adalomo", "layerwise")


def rates_of(args: Any) -> LayerwiseRates:
    """Learning-rate multipliers of a config."""
    return LayerwiseRates(args.layer_decay, args.head_lr_multiplier, args.backbone_lr_multiplier)


def check_rates(args: Any) -> None:
    """Check that the optimizer can follow the rates; raises `ValueError`."""
    optim = str(getattr(args.optim, "value", args.optim))
    differ = rates_of(args) != LayerwiseRates() or args.unfreeze or args.lp_epochs or args.lr_scheduler_type == SLANTED
    if differ and any(optimizer_name in optim for optimizer_name in ONE_RATE):
        raise ValueError(
            f"optim={optim!r} updates each parameter in the backward pass, at one rate for all: layer_decay, "
            "head_lr_multiplier, backbone_lr_multiplier, unfreeze, lp_epochs and slanted_triangular need another, "
            "such as adamw_torch."
        )
