"""Relational knowledge distillation (RKD): distances and angles between rows, not rows themselves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F

from ..base import Objective, Range, check_count
from ..kernels import squared_distances, squared_norms
from .row_selection import Rows, check_rows, inputs_of_rows


class RKD(Objective):
    r"""Relational knowledge distillation: rows lie to each other as they do in the teacher's features, whatever the
    widths.

    \[\lambda_D\operatorname{mean}_{i\ne j} \ell\big(\psi^D_{ij}, \psi^{D,T}_{ij}\big)
      + \lambda_A\operatorname{mean}_{ijk} \ell\big(\psi^A_{ijk}, \psi^{A,T}_{ijk}\big)\]

    \[\psi^D_{ij} = \frac{\lVert h_i - h_j\rVert}{\operatorname{mean}_{i\ne j}\lVert h_i - h_j\rVert},\qquad
      \psi^A_{ijk} = \Big\langle\frac{h_i-h_j}{\lVert h_i-h_j\rVert}, \frac{h_k-h_j}{\lVert h_k-h_j\rVert}\Big\rangle\]

    \(\ell\) is the Huber loss (squared to 1, linear beyond, halved), T marks the teacher, each side is divided by its
    own mean distance. Nothing compares a feature with a feature, so student and teacher may be of any two widths,
    architectures or modalities. With several teachers, the mean over them.

    Args:
        distance: λ_D.
        angle: λ_A.
        angle_rows: angles are taken among at most so many rows, as they grow with the cube: rows evenly spaced in the
            order of the first teacher's first feature, the same ones on whichever process they are.
        rows: `"all"`, `"source"` or `"target"`.

    Shapes: (r, d), [(r, d')] -> ().

    Paper: Park et al., Relational Knowledge Distillation, CVPR 2019.
    """

    paper = "Park et al., Relational Knowledge Distillation, CVPR 2019"
    search: ClassVar = {
        "weight": Range(0.1, 50.0, log=True),
        "distance": (0.0, 1.0),
        "angle": (0.0, 1.0, 2.0),
    }

    def __init__(self, distance: float = 1.0, angle: float = 2.0, angle_rows: int = 64, rows: Rows = "all"):
        super().__init__()
        for name, value in (("distance", distance), ("angle", angle)):
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
                raise ValueError(f"{name}={value!r} must be a number of at least 0.")
        if not distance and not angle:
            raise ValueError("rkd compares nothing: distance and angle are both 0.")
        check_count("angle_rows", angle_rows, least=3)
        check_rows(rows)
        self.distance, self.angle, self.angle_rows = distance, angle, angle_rows

    @classmethod
    def reads(cls, settings: Mapping[str, Any]) -> dict[str, str]:
        return inputs_of_rows(cls, settings, cls.needs())

    def forward(self, features: torch.Tensor, teacher_features: list[torch.Tensor]) -> torch.Tensor:
        total = features.new_zeros(())
        if self.distance:
            student = relative_distances(features)
            gaps = [F.smooth_l1_loss(student, relative_distances(h), reduction="sum") for h in teacher_features]
            pairs = max(1, len(features) * (len(features) - 1))
            total = total + self.distance * torch.stack(gaps).mean() / pairs
        if self.angle:
            rows = self._rows(teacher_features[0])
            student = angles(features[rows])
            gaps = [F.smooth_l1_loss(student, angles(h[rows])) for h in teacher_features]
            total = total + self.angle * torch.stack(gaps).mean()
        return total

    def _rows(self, teacher: torch.Tensor) -> torch.Tensor:
        """Indices of the rows whose angles are taken, (k,)."""
        k = min(self.angle_rows, len(teacher))
        spaced = torch.arange(k, device=teacher.device) * len(teacher) // k
        return teacher[:, 0].argsort(stable=True)[spaced]


def relative_distances(x: torch.Tensor) -> torch.Tensor:
    """Relative distances between rows, (r, d) -> (r, r), in units of their mean over i ≠ j. Rows that coincide have
    distance 0, and no gradient: it would have no direction."""
    x = x - x.detach().mean(0)
    n2 = squared_norms(x)
    squared = squared_distances(x, x, n2, n2).fill_diagonal_(0)
    apart = squared > torch.finfo(x.dtype).eps * n2.detach().amax().clamp_min(torch.finfo(x.dtype).tiny)
    d = torch.where(apart, squared, 1.0).sqrt() * apart
    mean = d.sum() / max(1, len(x) * (len(x) - 1))
    return d / torch.where(mean > 0, mean, 1.0)


def angles(x: torch.Tensor) -> torch.Tensor:
    """Cosines of the angles at j between rows i and k, (r, d) -> (r, r, r) by [j, i, k]; 0 where two rows coincide."""
    difference = x.unsqueeze(0) - x.unsqueeze(1)
    squared = difference.square().sum(-1, keepdim=True)
    apart = squared > torch.finfo(x.dtype).tiny
    e = difference * torch.where(apart, squared, 1.0).rsqrt() * apart
    return e @ e.transpose(1, 2)
