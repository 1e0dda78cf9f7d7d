"""Stochastic normalisation: each channel of a batch norm trains on the batch's statistics or on its running ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from .batch_norm_statistics import BatchNorm, batch_norms

MIX = 0.5  # chance of a channel to use its running statistics in a step


def check_stochastic_norm(batch_norm: BatchNorm, mix: float, recomputes_activations: bool) -> None:
    """Check of the settings that stochastic normalisation goes with. Raises a `ValueError`.

    Args:
        batch_norm, mix: the settings `batch_norm` and `batch_norm_mix`.
        recomputes_activations: gradient checkpointing is on.

    Raises:
        ValueError: a mix for another kind of batch norm, or layers that run a second time.
    """
    if mix != MIX and batch_norm != "stochastic":
        raise ValueError(f"batch_norm_mix={mix} has no effect without batch_norm='stochastic'.")
    if batch_norm == "stochastic" and recomputes_activations:
        raise ValueError(
            "batch_norm='stochastic' does not go with gradient checkpointing, which runs layers a second time "
            "when their running statistics have moved on. Leave one of them out."
        )


class ChannelMix(nn.Module):
    r"""Random choice, at every training forward, of the channels whose batch norms use their running statistics.

    \[z_c = \gamma_c \frac{x_c - \mu_c}{\sqrt{\sigma_c^2 + \epsilon}} + \beta_c, \qquad
    (\mu_c, \sigma_c^2) = \begin{cases}\text{the running ones} & \text{with probability } p\\
    \text{those of the batch} & \text{otherwise}\end{cases}\]

    for each channel by itself, all rows of a forward alike. The running statistics are those of before the forward,
    constants to the gradient; every channel's are updated by the batch as ever, whichever it used. In evaluation
    nothing changes. The layers stay the batch norms they are, and what is saved knows nothing of this.

    Choices are a function of the seed and of the number of the forward, a buffer: every process chooses the same
    channels, and so does a resumed run. No other random number is used up.

    Args:
        share: p, above 0 and at most 1. (One minus the p of the authors' code, where p goes with the batch.)
        seed: of the run.

    Paper: Kou et al., Stochastic Normalization, NeurIPS 2020.
    """

    step: torch.Tensor

    def __init__(self, share: float = 0.5, seed: int = 0):
        super().__init__()
        if not 0 < share <= 1:
            raise ValueError(f"share={share!r} must be above 0 and at most 1.")
        self.share, self.seed = share, seed
        self.register_buffer("step", torch.zeros((), dtype=torch.long))
        self.count = 0  # the same number on the host, so that seeding needs no sync

    @contextmanager
    def mixing(self, model: nn.Module) -> Iterator[None]:
        """Mixed statistics inside a `with` block, for the batch norms of `model` that train. Those in eval mode are
        left alone."""
        norms = [m for m in batch_norms(model).values() if m.training and m.track_running_stats]
        hooks = []
        for module, chosen in zip(norms, self._choose([m.num_features for m in norms]), strict=True):
            assert module.running_mean is not None
            assert module.running_var is not None
            past = module.running_mean.clone(), module.running_var.clone()
            hooks.append(module.register_forward_hook(partial(_mix, chosen.to(past[0].device), *past)))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    @torch.compiler.disable  # a counter on the host would recompile at every step
    def _choose(self, widths: list[int]) -> tuple[torch.Tensor, ...]:
        """(channels,) bool for each width, new with every call; drawn on the host, so that devices agree."""
        drawn = np.random.default_rng((self.seed, 5, self.count)).random(sum(widths)) < self.share
        self.count += 1
        self.step.fill_(self.count)
        return torch.from_numpy(drawn).to(self.step.device, non_blocking=True).split(widths)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args)
        self.count = int(self.step)


def _mix(
    chosen: torch.Tensor,
    mean: torch.Tensor,
    variance: torch.Tensor,
    module: Any,
    args: tuple[torch.Tensor, ...],
    of_batch: torch.Tensor,
) -> torch.Tensor:
    """A forward hook: the layer's output, with the chosen channels' normalised by `mean` and `variance` instead."""
    x = args[0]
    of_past = F.batch_norm(x, mean, variance, module.weight, module.bias, False, 0.0, module.eps)
    return torch.where(chosen.view(1, -1, *[1] * (x.ndim - 2)), of_past, of_batch)
