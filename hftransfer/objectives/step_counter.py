"""Step counter that checkpoints keep and that the host reads without waiting for the device."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class StepCounter(nn.Module):
    """Step count that is held twice: in a buffer, which travels with checkpoints, and as `value` on the host.

    Example:
        >>> counter = StepCounter()
        >>> counter.advance(3)
        >>> counter.value, counter.stored
        (3, tensor(3))
    """

    stored: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("stored", torch.zeros((), dtype=torch.long))
        self.value = 0

    def advance(self, by: int = 1) -> None:
        self.set(self.value + by)

    def set(self, value: int) -> None:
        self.value = value
        self.stored.fill_(value)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args)
        self.value = int(self.stored)
