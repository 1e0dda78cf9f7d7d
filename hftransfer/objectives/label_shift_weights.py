"""Label shift estimation: class weights of the target over the source, from predictions alone.

For training: in torch, on the run's own predictions. `selection/class_frequencies.py` has `mlls` and `bbse` in NumPy,
for a trained model.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import nn

from ..settings import read_choice
from .base import check_count, is_positive
from .moments import class_membership
from .step_counter import StepCounter

Estimator = Literal["bbse", "mlls", "pada"]
EM_STEPS, EM_TOLERANCE = 500, 1e-8


def bbse(confusion: torch.Tensor, predicted: torch.Tensor) -> torch.Tensor:
    r"""Black-box shift estimation (BBSE): the w ≥ 0 that solves \(C w = q\) best.

    Args:
        confusion: (K, K), C_ij the mean over all source rows of "predicted i, labelled j"; sums to 1.
        predicted: (K,), q_i the mean over target rows of "predicted i".

    Returns:
        (K,) class weights \(w_j = p_T(j)/p_S(j)\).

    Paper: Lipton, Wang and Smola, Detecting and Correcting for Label Shift with Black Box Predictors, ICML 2018.
    """
    from scipy.optimize import nnls

    solution, _ = nnls(confusion.cpu().double().numpy(), predicted.cpu().double().numpy())
    return torch.from_numpy(np.asarray(solution)).to(confusion.device)


def mlls(probabilities: torch.Tensor, source_priors: torch.Tensor) -> torch.Tensor:
    r"""Maximum-likelihood label shift (MLLS) by expectation maximisation.

    \[\pi_k \leftarrow \frac1m \sum_i \frac{\pi_k\,p_{ik}/p_S(k)}{\sum_l \pi_l\,p_{il}/p_S(l)},\qquad
      w_k = \pi_k/p_S(k)\]

    Args:
        probabilities: (m, K) of a source model on target rows; the better calibrated, the better the estimate.
        source_priors: (K,) class frequencies that the model was trained on, or better, its mean prediction on rows
            of the source: the two agree if it is calibrated. A class that never occurs gets weight 1.

    Returns:
        (K,) class weights.

    Paper: Saerens, Latinne and Decaestecker, Adjusting the Outputs of a Classifier to New a Priori Probabilities,
    Neural Computation 2002; Alexandari, Kundaje and Shrikumar, ICML 2020.
    """
    p, prior = probabilities.double(), source_priors.double()
    occurs = prior > 0
    ratio = torch.where(occurs, p / prior.clamp_min(1e-12), 0.0)
    pi = prior
    for _ in range(EM_STEPS):
        joint = ratio * pi
        updated = (joint / joint.sum(1, keepdim=True).clamp_min(1e-300)).mean(0)
        done = (updated - pi).abs().amax() < EM_TOLERANCE
        pi = updated
        if done:
            break
    return torch.where(occurs, pi / prior.clamp_min(1e-12), 1.0)


class LabelShift(nn.Module):
    r"""Label shift weights \(w_k \approx p_T(k)/p_S(k)\) from the run's own predictions. State in buffers.

    They are estimated anew each time `rows` target rows have gone by.

    Until the first estimate all weights are 1. An estimate is bounded to [1/bound, bound], mixed with the one before
    (`smoothing` is the share of the new one), and scaled so that source rows count 1 on average.

    `mlls` sets target predictions against the model's own mean prediction on source rows of the same steps, not
    against class counts: what the model says too often everywhere, early in training above all, is then no shift.
    Where the task weighs its rows by w (`weighs_task`), that mean is weighted, too, and the estimate is what w still
    lacks: else every estimate would be laid on top of the one before.

    The predictions are those of training forwards. On source rows that the model has learnt by heart, `bbse`
    overrates how well classes are told apart.

    Args:
        num_classes: K.
        estimator: `"mlls"`, `"bbse"`, or `"pada"` (the mean target prediction itself, for targets that lack classes).
        rows: target rows between two estimates; all of them are kept as (rows, K) probabilities.
        smoothing: share of a new estimate, above 0 and up to 1.
        bound: largest weight, and the inverse of the smallest.
        weighs_task: the task loss of the model that predicts weighs its rows by these weights.

    Paper: des Combes et al., Domain Adaptation with Conditional Distribution Matching and Generalized Label Shift,
    NeurIPS 2020 (weights during training); Cao et al., Partial Adversarial Domain Adaptation, ECCV 2018 (`"pada"`).
    """

    weights: torch.Tensor
    confusion: torch.Tensor
    counts: torch.Tensor
    predicted: torch.Tensor

    def __init__(
        self,
        num_classes: int,
        estimator: Estimator = "mlls",
        rows: int = 1024,
        smoothing: float = 0.5,
        bound: float = 10.0,
        weighs_task: bool = False,
    ):
        super().__init__()
        read_choice("estimator", estimator, Estimator)
        check_count("rows", rows)
        if not is_positive(smoothing) or smoothing > 1:
            raise ValueError(f"smoothing={smoothing!r} must be above 0 and at most 1.")
        if not is_positive(bound) or bound < 1:
            raise ValueError(f"bound={bound!r} must be a number of at least 1.")
        self.estimator, self.rows, self.smoothing, self.bound = estimator, rows, smoothing, bound
        self.weighs_task = weighs_task
        self.register_buffer("weights", torch.ones(num_classes))
        self.register_buffer("confusion", torch.zeros(num_classes, num_classes))
        self.register_buffer("counts", torch.zeros(num_classes))
        self.register_buffer("predicted", torch.zeros(rows, num_classes))
        self.filled = StepCounter()  # rows of `predicted`

    @torch.no_grad()
    def observe(self, source_logits: torch.Tensor, source_labels: torch.Tensor, target_logits: torch.Tensor) -> None:
        """Predictions of one step: (n, K), (n,) and (m, K), the rows of all processes; labels below 0 are left out."""
        onehot = class_membership(source_labels, len(self.weights)).to(self.confusion.dtype)
        self.confusion += source_logits.to(onehot.dtype).softmax(-1).T @ onehot
        self.counts += onehot.sum(0)
        filled = self.filled.value
        batch = target_logits.to(onehot.dtype).softmax(-1)[: self.rows - filled]
        self.predicted[filled : filled + len(batch)] = batch
        self.filled.advance(len(batch))
        if self.filled.value >= self.rows:
            self._estimate()
            for sums in (self.confusion, self.counts, self.predicted):
                sums.zero_()
            self.filled.set(0)

    def _estimate(self) -> None:
        total = self.counts.sum().clamp_min(1)
        prior, mean = self.counts / total, self.predicted.mean(0)
        if self.estimator == "mlls":
            task_weights = self.weights if self.weighs_task else torch.ones_like(prior)
            # How often the model predicts each class on the source it is trained on.
            source_predicted = self.confusion @ task_weights
            source_predicted = source_predicted / source_predicted.sum().clamp_min(1e-12)
            estimate = task_weights * mlls(self.predicted, source_predicted)
        elif self.estimator == "bbse":
            estimate = bbse(self.confusion / total, mean)
        else:
            estimate = mean * len(mean)
        estimate = self._bounded(estimate.to(self.weights.dtype), prior)
        mixed = (1 - self.smoothing) * self.weights + self.smoothing * estimate
        # A new tensor: this step's backward pass still holds the old one.
        self.weights = mixed / (prior * mixed).sum().clamp_min(1e-6)

    def _bounded(self, weights: torch.Tensor, prior: torch.Tensor) -> torch.Tensor:
        weights = weights / (prior * weights).sum().clamp_min(1e-6)
        return torch.where(prior > 0, weights.clamp(1 / self.bound, self.bound), 1.0)

    def of(self, labels: torch.Tensor) -> torch.Tensor:
        """Weights of rows by their class, (n,) class ids -> (n,); 1 where a row has no label."""
        return torch.where(labels >= 0, self.weights[labels.clamp_min(0)], 1.0)
