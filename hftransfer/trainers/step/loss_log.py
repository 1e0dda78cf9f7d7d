"""Loss log: means of task loss and objectives between two logs, read from the device once a log."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from accelerate.accelerator import Accelerator


VALUES = ("source features", "target features", "source logits", "target logits")


class LossLog:
    """Sums of the losses of each forward; the device is waited for once a log.

    Args:
        accelerator: averages over processes.
        value_names: of the largest values, for messages.

    Example:
        >>> running = LossLog(trainer.accelerator)
        >>> running.add(torch.tensor([0.75, 0.5]), torch.zeros(4))  # every forward
        >>> running.add(torch.tensor([0.25, 0.0]), torch.zeros(4))
        >>> running.mean(["task", "mmd"])  # every log
        {'task': 0.5, 'mmd': 0.25}
    """

    def __init__(self, accelerator: Accelerator, value_names: Sequence[str] = VALUES):
        self.accelerator, self.value_names = accelerator, tuple(value_names)
        self.was_nonzero: dict[str, bool] = {}  # whether a loss was ever anything but 0
        self.clear()

    def clear(self) -> None:
        self.count = 0
        self.total: torch.Tensor | None = None
        self.broke: torch.Tensor | None = None  # at which forward each loss was first not finite; inf if never
        # Of the forward in which the first loss broke, else of the last.
        self.largest_values: torch.Tensor | None = None

    def add(self, losses: torch.Tensor, largest_values: torch.Tensor) -> None:
        """One forward more: its losses, (losses,), and its largest values, (values,), both detached."""
        if self.largest_values is None or self.broke is None:
            self.largest_values = largest_values
        else:
            self.largest_values = torch.where(self.broke.isinf().all(), largest_values, self.largest_values)
        broke = torch.where(losses.isfinite(), math.inf, float(self.count))
        self.total = losses.clone() if self.total is None else self.total + losses
        self.broke = broke if self.broke is None else torch.minimum(self.broke, broke)
        self.count += 1

    def mean(self, names: list[str]) -> dict[str, float]:
        """Mean of each loss over forwards and processes, by name; empty before the first forward."""
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
        """Losses that were 0 in every forward so far; known once `mean` was asked for."""
        return [name for name, nonzero in self.was_nonzero.items() if not nonzero]

    @property
    def first_broken(self) -> float:
        """First forward since the last log with a loss that is not finite, on any process; infinite if none."""
        if self.broke is None:
            return math.inf
        return float(self.accelerator.gather(self.broke.unsqueeze(0)).amin())

    @property
    def model_broke(self) -> bool:
        """Whether features or predictions were not finite, on any process, when the first loss broke."""
        if self.broke is None or self.largest_values is None:
            return False
        broke = (~self.broke.isinf()).any() & ~self.largest_values.isfinite().all()
        return bool(self.accelerator.gather(broke.unsqueeze(0)).any())

    def check(self, means: dict[str, float], step: int, advice: Callable[[], str] = str) -> None:
        """Check that losses are finite; the one that broke first is named, since all break one step later.

        Args:
            means: from `mean`, on every process.
            step: of the run.
            advice: what to say after that; called on every process, only if a loss is broken.

        Raises:
            FloatingPointError: a loss is not finite.
        """
        if all(math.isfinite(value) for value in means.values()):
            return
        assert self.broke is not None
        broke = self.accelerator.gather(self.broke.unsqueeze(0)).amin(0).tolist()
        first_loss = min(zip(broke, means, strict=True), key=lambda pair: pair[0])[1]
        raise FloatingPointError(
            f"The {first_loss} loss is not finite at step {step} "
            f"({', '.join(f'{name}={value:.3g}' for name, value in means.items())} since the last log). Largest "
            f"values then: {self._largest_values()}. Lower the learning rate or its weight. {advice()}".rstrip()
        )

    def _largest_values(self) -> str:
        """Largest values of this process, in words."""
        assert self.largest_values is not None
        return ", ".join(
            f"{name} {value:.3g}" for name, value in zip(self.value_names, self.largest_values.tolist(), strict=True)
        )
