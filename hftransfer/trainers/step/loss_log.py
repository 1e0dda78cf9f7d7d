"""Loss log: task loss and objectives between two logs, averaged on the device and read once a log."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch


class LossLog:
    """Adds up the losses of each forward without waiting for the device.

    Args:
        accelerator: averages over processes.

    Example:
        >>> running = LossLog(trainer.accelerator)
        >>> running.add(torch.tensor([0.75, 0.5]), torch.zeros(4))  # every forward
        >>> running.add(torch.tensor([0.25, 0.0]), torch.zeros(4))
        >>> running.mean(["task", "mmd"])  # every log
        {'task': 0.5, 'mmd': 0.25}
    """

    def __init__(self, accelerator: Any):
        self.accelerator = accelerator
        self.was_nonzero: dict[str, bool] = {}  # whether a loss was ever anything but 0
        self.clear()

    def clear(self) -> None:
        self.count = 0
        self.total: torch.Tensor | None = None
        self.broke: torch.Tensor | None = None  # at which forward each loss was first not finite; inf if never
        self.extent: torch.Tensor | None = None  # of the forward in which the first loss broke, else of the last

    def add(self, losses: torch.Tensor, extent: torch.Tensor) -> None:
        """Takes the (losses,) and (4,) detached values of one forward."""
        if self.extent is None or self.broke is None:
            self.extent = extent
        else:
            self.extent = torch.where(self.broke.isinf().all(), extent, self.extent)
        broke = torch.where(losses.isfinite(), math.inf, float(self.count))
        self.total = losses.clone() if self.total is None else self.total + losses
        self.broke = broke if self.broke is None else torch.minimum(self.broke, broke)
        self.count += 1

    def mean(self, names: list[str]) -> dict[str, float]:
        """Every loss by name, averaged over forwards and processes; nothing where nothing was added."""
        if self.total is None:
            return {}
        mean = self.total / self.count
        if self.accelerator.num_processes > 1:
            mean = self.accelerator.reduce(mean, "mean")
        means = dict(zip(names, mean.tolist(), strict=True))
        self.was_nonzero = {name: self.was_nonzero.get(name, False) or value != 0 for name, value in means.items()}
        return means

    @property
    def always_zero(self) -> list[str]:
        """Losses that were 0 in every forward so far, of those that have been averaged."""
        return [name for name, nonzero in self.was_nonzero.items() if not nonzero]

    @property
    def first_broken(self) -> float:
        """At which forward since the last log a loss was first not finite, on any process; infinite if at none."""
        if self.broke is None:
            return math.inf
        return float(self.accelerator.gather(self.broke.unsqueeze(0)).amin())

    @property
    def model_broke(self) -> bool:
        """Whether features or predictions were not finite, on any process, when the first loss broke."""
        if self.broke is None or self.extent is None:
            return False
        broke = (~self.broke.isinf()).any() & ~self.extent.isfinite().all()
        return bool(self.accelerator.gather(broke.unsqueeze(0)).any())

    def check(self, means: dict[str, float], step: int, advice: Callable[[], str] = str) -> None:
        """Names the loss that broke first: one step later, all of them are broken.

        Args:
            means: from `mean`, on every process.
            step: of the run.
            advice: what to say after that; called on every process, only if a loss is broken.

        Raises:
            FloatingPointError: a loss of `means` (from `mean`, on every process) is not finite.
        """
        if all(math.isfinite(value) for value in means.values()):
            return
        assert self.broke is not None
        broke = self.accelerator.gather(self.broke.unsqueeze(0)).amin(0).tolist()
        first = min(zip(broke, means, strict=True), key=lambda pair: pair[0])[1]
        raise FloatingPointError(
            f"The {first} loss is not finite at step {step} "
            f"({', '.join(f'{name}={value:.3g}' for name, value in means.items())} since the last log). Largest "
            f"values then: {self._extent()}. Lower the learning rate or its weight. {advice()}".rstrip()
        )

    def _extent(self) -> str:
        """Of this process."""
        assert self.extent is not None
        names = ("source features", "target features", "source logits", "target logits")
        return ", ".join(f"{name} {value:.3g}" for name, value in zip(names, self.extent.tolist(), strict=True))
