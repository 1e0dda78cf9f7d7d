"""Co-Tuning: the source's head trained further, on the new classes as mixtures of the source's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch

from ...settings import read_choice
from ..base import Objective, Range, TeacherFacts
from ..moments import class_membership, shares
from .teacher_head import teacher_head

STRENGTHS = tuple(10.0**k for k in range(4, -5, -1))  # inverse regularisation that the calibrated variant chooses from
TEMPERATURES = torch.logspace(-1, 1, 41, dtype=torch.float64)

Relation = Literal["direct", "calibrated"]


class CoTuning(Objective):
    r"""Co-Tuning: supervision of the source's head through the relation of classes.

    The teacher's head, kept beside the model's, is taught each row's label as a mixture of the teacher's classes.

    \[-\frac1n\sum_i\sum_z p(z \mid y_i)\,\log\mathrm{softmax}\big(W_0 h_i + b_0\big)_z\]

    over the labelled rows, h their features. \(W_0, b_0\) start as the teacher's final layer, are trained with the
    model, and saved in checkpoints only. The relation of the teacher's classes z to the run's y is learned once before
    training, from the teacher's predictions on labelled rows:

    - `relation="direct"`: \(p(z\mid y)\) is the mean of \(\mathrm{softmax}(z^0)\) over the rows of class y;
    - `relation="calibrated"`: \(p(y\mid z)\) is a logistic regression on the teacher's probabilities, fitted on half
      of the rows, its regularisation and then its temperature chosen by the likelihood of the other half, and read
      off at the corners; then \(p(z\mid y) \propto p(y\mid z)\,p(z)\), with p(z) the teacher's mean prediction.

    Meant for a teacher with classes of its own that are more, or finer, than the run's. A class without rows has the
    teacher's mean prediction.

    Args:
        feature_dim, num_classes, teachers: of the run.
        relation: `"direct"` or `"calibrated"`.

    Shapes: (n, d), (n,) -> ().

    Paper: You et al., Co-Tuning for Transfer Learning, NeurIPS 2020.
    """

    relation: torch.Tensor
    paper = "You et al., Co-Tuning for Transfer Learning, NeurIPS 2020"
    at_head = True
    search: ClassVar = {"weight": Range(0.1, 10.0, log=True), "relation": ("direct", "calibrated")}

    def __init__(
        self,
        feature_dim: int,
        num_classes: int,
        teachers: Sequence[TeacherFacts] = (),
        relation: Relation = "direct",
    ):
        super().__init__()
        read_choice("relation", relation, Relation)
        self.variant = relation
        self.head = teacher_head(feature_dim, num_classes, teachers, "co_tuning")
        teacher_classes = self.head.out_features
        uniform = torch.full((num_classes, teacher_classes), 1 / teacher_classes)
        self.register_buffer("relation", uniform)  # until it is fitted

    def fit(self, teacher_logits: torch.Tensor, labels: torch.Tensor) -> None:
        """The relation of classes, fitted to (rows, K') teacher logits and (rows,) labels."""
        relation_of = direct_relation if self.variant == "direct" else calibrated_relation
        self.relation.copy_(relation_of(teacher_logits, labels, len(self.relation)))

    def forward(self, source_features: torch.Tensor, source_labels: torch.Tensor) -> torch.Tensor:
        of_class = class_membership(source_labels, len(self.relation)).to(source_features.dtype)
        teacher_targets = of_class @ self.relation.to(source_features.dtype)
        rows = -(teacher_targets * self.head(source_features).log_softmax(-1)).sum(1)
        return rows.sum() / of_class.sum().clamp_min(1)


def direct_relation(teacher_logits: torch.Tensor, labels: torch.Tensor, classes: int) -> torch.Tensor:
    """Relation of classes by mean predictions, (rows, K'), (rows,) -> (classes, K'): that of each class's rows; of a
    class without any, that of all labelled rows."""
    p = teacher_logits.double().softmax(-1)
    of_class = class_membership(labels, classes)
    class_means = shares(of_class.double()).T @ p
    return torch.where(of_class.any(0).unsqueeze(1), class_means, shares((labels >= 0).double()) @ p)


def calibrated_relation(teacher_logits: torch.Tensor, labels: torch.Tensor, classes: int) -> torch.Tensor:
    """Relation of classes by Bayes' rule from a calibrated classifier of the labels, (rows, K'), (rows,) -> (classes,
    K').

    Raises:
        ValueError: fewer than two labelled rows of some class, so that no half can be held out.
    """
    from sklearn.linear_model import LogisticRegression

    is_labelled = labels >= 0
    p, y = teacher_logits[is_labelled].double().cpu().softmax(-1), labels[is_labelled].cpu()
    counts = torch.bincount(y, minlength=classes)
    if int(counts.min()) < 2:
        raise ValueError(
            f"co_tuning: relation='calibrated' holds out half of the labelled rows of each class, and class number "
            f"{int(counts.argmin())} has {int(counts.min())}. Use relation='direct'."
        )
    rank = torch.stack([(y[: i + 1] == y[i]).sum() for i in range(len(y))])  # 1, 2, … within each class
    fit, held_out = rank % 2 == 1, rank % 2 == 0
    best: tuple[float, torch.Tensor, torch.Tensor] | None = None
    for strength in STRENGTHS:
        model = LogisticRegression(C=strength, max_iter=1000).fit(p[fit].numpy(), y[fit].numpy())
        w, b = torch.from_numpy(model.coef_), torch.from_numpy(model.intercept_)
        if len(w) == 1:  # scikit-learn keeps one row for two classes
            w, b = torch.cat([torch.zeros_like(w), w]), torch.cat([torch.zeros_like(b), b])
        loss = float(torch.nn.functional.cross_entropy(p[held_out] @ w.T + b, y[held_out]))
        if best is None or loss < best[0]:
            best = (loss, w, b)
    assert best is not None
    _, w, b = best
    logits = p[held_out] @ w.T + b
    losses = torch.stack([torch.nn.functional.cross_entropy(logits / t, y[held_out]) for t in TEMPERATURES])
    corners = ((w.T + b) / TEMPERATURES[losses.argmin()]).softmax(-1)  # (K', classes): p(y | z)
    joint = corners.T * p.mean(0)
    return joint / joint.sum(1, keepdim=True)
