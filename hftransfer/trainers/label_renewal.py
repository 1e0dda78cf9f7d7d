"""Label renewal: soft labels of all target rows, made anew from the model's own predictions at each epoch's start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn
from transformers import TrainerCallback

from ..data.soft_label_column import SoftlyLabelled
from ..embeddings.centroid_labels import ROUNDS, centroid_labels
from ..selection.model_predictions import softmax
from .prediction_pass import predict_rows
from .trainer_access import joint_model_of


class LabelRule(Protocol):
    """Rule that makes the soft labels of an epoch.

    Its arguments are the labels of the epoch before, (m, K), those of the target's column in the first; the model's
    logits (m, K) and features (m, d) on the target, in evaluation; and the number of the epoch, from 0.
    """

    def __call__(
        self, labels: np.ndarray, logits: np.ndarray, features: np.ndarray, epoch: int
    ) -> np.ndarray: ...  # (m, K)


@dataclass(frozen=True)
class CentroidRule:
    """Labels of the nearest class centroid, as in SHOT; see `centroid_labels`.

    Args:
        rounds: of `centroid_labels`.

    Example:
        >>> logits, features = np.array([[3.0, 0.0], [0.0, 3.0]]), np.array([[1.0, 0.0], [0.0, 1.0]])
        >>> CentroidRule()(np.full((2, 2), 0.5), logits, features, epoch=0)
        array([[1., 0.],
               [0., 1.]])
    """

    rounds: int = ROUNDS

    def __call__(self, labels: np.ndarray, logits: np.ndarray, features: np.ndarray, epoch: int) -> np.ndarray:
        return np.eye(logits.shape[1])[centroid_labels(features, softmax(logits), self.rounds)]


@dataclass(frozen=True)
class AverageRule:
    r"""Moving average of given labels and predictions, as in DINE: \(q \leftarrow \gamma q + (1-\gamma)p\).

    The first epoch has the given labels as they are.

    Args:
        kept: γ, between 0 and 1; 1 keeps the given labels throughout.

    Paper: Liang et al., DINE: Domain Adaptation from Single and Multiple Black-box Predictors, CVPR 2022.

    Example:
        >>> given, logits = np.array([[1.0, 0.0]]), np.array([[0.0, 0.0]])
        >>> AverageRule(0.6)(given, logits, logits, epoch=1)
        array([[0.8, 0.2]])
    """

    kept: float = 0.6

    def __call__(self, labels: np.ndarray, logits: np.ndarray, features: np.ndarray, epoch: int) -> np.ndarray:
        return labels if epoch == 0 else self.kept * labels + (1 - self.kept) * softmax(logits)


class RenewedLabels(nn.Module):
    """Soft labels of an epoch as buffers, so that checkpoints hold them and a resumed epoch goes on with its own.

    Args:
        labels: (m, K), of the target's column.
    """

    labels: torch.Tensor
    epochs: torch.Tensor

    def __init__(self, labels: np.ndarray):
        super().__init__()
        self.register_buffer("labels", torch.as_tensor(labels, dtype=torch.float32))
        self.register_buffer("epochs", torch.zeros((), dtype=torch.long))  # of how many labels were made


class RenewLabels(TrainerCallback):
    """Renewal of the target's soft labels when an epoch begins.

    Args:
        trainer: an `AdaptationTrainer` whose target has soft labels, and whose joint model has `renewed_labels`.
        target: its encoded target.
        rule: makes the labels.
    """

    def __init__(self, trainer: Any, target: SoftlyLabelled, rule: LabelRule):
        self.trainer, self.target, self.rule = trainer, target, rule

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        epoch = state.global_step // self.trainer.pair_sampler.updates
        kept: Any = joint_model_of(self.trainer).renewed_labels
        if int(kept.epochs) <= epoch:  # not those of an epoch that is resumed in its midst
            width = self.trainer.prepared.head.in_features
            seen = predict_rows(self.trainer, self.target.rows, features=width)
            features: Any = seen.features
            labels = self.rule(kept.labels.double().cpu().numpy(), seen.logits, features, epoch)
            kept.labels.copy_(torch.as_tensor(labels, dtype=torch.float32))
            kept.epochs.fill_(epoch + 1)
        self.target.replace_labels(kept.labels.cpu().numpy())
