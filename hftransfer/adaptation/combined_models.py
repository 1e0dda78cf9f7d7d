"""Combined models: weights averaged over candidates, and batch norm's statistics taken from the target."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..models.interpolation import Mixture
from ..trainers.setup.batch_norm_setting import adapt_to_target

if TYPE_CHECKING:
    from .candidate_run import CandidateOutcome


def save_average(parts: Sequence[CandidateOutcome], folder: Path) -> None:
    """Average of the candidates' weights in equal shares, saved as a plain model.

    Paper: Wortsman et al., Model Soups: Averaging Weights of Multiple Fine-Tuned Models Improves Accuracy without
    Increasing Inference Time, ICML 2022.
    """
    with Mixture({f"model_{number}": str(part.folder) for number, part in enumerate(parts)}) as mixture:
        mixture.set()
        mixture.save(folder)


def save_with_target_statistics(trainer: Any, folder: Path) -> None:
    """A candidate's model with batch norm's statistics of the target, saved as a plain model.

    Paper: Li et al., Adaptive Batch Normalization for Practical Domain Adaptation, Pattern Recognition 2018.
    """
    adapt_to_target(trainer)
    trainer.save_model(str(folder), _internal_call=True)
