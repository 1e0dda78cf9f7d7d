"""Adversarial discriminative domain adaptation (ADDA): the source's encoder stays what it is."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..adversarial import SEARCH, Discriminator, DomainGame, normalized_weights, reverse_gradient
from ..anchoring.teacher_head import check_single_teacher
from ..base import TeacherFacts
from ..moments import row_weights


class ADDA(DomainGame):
    r"""Adversarial discriminative domain adaptation.

    A discriminator tells source features of a frozen encoder from target features of the one that moves, and the
    latter gets its gradient reversed.

    \[\min_D\;\tfrac12\left(\mathrm{BCE}(D(f_0(s)), 1) + \mathrm{BCE}(D(f(t)), 0)\right),\qquad
      f\text{: } -\lambda(p)\,\nabla\]

    \(f_0\) is the teacher, by default the model as training found it, which must have learnt the source already. The
    source's features cannot move, so the target's have to come to them, where the head knows the way. It is meant for
    a run with `task_weight` 0, which leaves the head alone; beside the task, the two encoders are one.

    The paper's encoder maximises the discriminator's error on the target with inverted labels, \(-\log D(f(t))\); here
    the gradient is reversed as in all adversarial objectives, of which \(-\log(1 - D(f(t)))\) is the target's part. A
    discriminator that cannot tell has log 2 = 0.693. The mean over the source is weighted by `source_weights`.

    Args:
        feature_dim: width of the features.
        teachers: the frozen encoder, of the same width.
        hidden, depth: of the discriminator.

    Shapes: [(n, d)], (m, d), (n,) -> ().

    Paper: Tzeng et al., Adversarial Discriminative Domain Adaptation, CVPR 2017.
    """

    paper = "Tzeng et al., Adversarial Discriminative Domain Adaptation, CVPR 2017"
    default_weight = 0.1
    default_schedule = "warm_start"
    search = SEARCH

    def __init__(self, feature_dim: int, teachers: Sequence[TeacherFacts] = (), hidden: int = 256, depth: int = 2):
        super().__init__()
        check_single_teacher(teachers, "adda")
        for teacher in teachers:
            if teacher.feature_dim != feature_dim:
                raise ValueError(
                    f"adda brings target features to those of {teacher.name}, which are {teacher.feature_dim} wide, "
                    f"and the model's are {feature_dim}. Leave `teacher` out: the model's own start serves."
                )
        self.discriminator = Discriminator(feature_dim, hidden, depth)

    def forward(
        self,
        teacher_source_features: list[torch.Tensor],
        target_features: torch.Tensor,
        source_weights: torch.Tensor | None = None,
        strength: torch.Tensor | float = 1.0,
    ) -> torch.Tensor:
        source_weights = row_weights(teacher_source_features[0], source_weights)
        source = self.discriminator(teacher_source_features[0])
        target = self.discriminator(reverse_gradient(target_features, strength))
        return self.domain_loss(source, target, normalized_weights(source_weights))
