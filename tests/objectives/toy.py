"""A synthetic shift small enough to learn in a second, and a plain training loop around `JointModel`."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from cases import array
from kernel_cases import mmd
from sklearn.linear_model import LogisticRegression
from torch import nn

from hftransfer.models.feature_hook import Head
from hftransfer.objectives import build_objectives, parse_objectives
from hftransfer.trainers.step.joint_model import JointModel
from hftransfer.trainers.step.objective_set import ObjectiveSet

INPUTS, WIDTH, CLASSES = 6, 16, 3
SEEDS = [  # of what is trained: one in the quick tests, three in the slow ones
    pytest.param((1,), id="one seed"),
    pytest.param((0, 1, 2), id="three seeds", marks=pytest.mark.slow),
]


class ToyModel(nn.Module):
    """What the adapter needs of a model: an output with `logits` and a linear head that makes them."""

    def __init__(self, dropout: float = 0.1):
        super().__init__()
        first, second = nn.Linear(INPUTS, 32), nn.Linear(32, WIDTH)
        self.body = nn.Sequential(first, nn.ReLU(), nn.Dropout(dropout), second, nn.Tanh())
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=self.head(self.body(x)))


def adapter(objectives: Any, seed: int = 0, dropout: float = 0.1) -> JointModel:
    torch.manual_seed(seed)
    model, specs = ToyModel(dropout), parse_objectives(objectives)
    modules, schedules = build_objectives(specs, WIDTH, CLASSES)
    objectives = ObjectiveSet(modules, {s.name: s.weight for s in specs}, schedules)
    return JointModel(model, Head("head", WIDTH), objectives=objectives)


def joint(source: torch.Tensor, labels: torch.Tensor, target: torch.Tensor) -> dict[str, Any]:
    """A training batch as the collator makes it."""
    n, m = len(source), len(target)
    return {
        "x": torch.cat([source, target]),
        "labels": torch.cat([labels, torch.full((m,), -100)]),
        "domain": torch.cat([torch.zeros(n), -torch.ones(m)]).long(),
        "num_source": n,
    }


def draw(rows: int, target: bool, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Three blobs on a circle; the target's are turned by half a radian, moved, and moved in a nuisance direction."""
    labels = torch.randint(0, CLASSES, (rows,), generator=generator)
    angle = 2 * np.pi / CLASSES * labels + (0.5 if target else 0.0)
    x = 0.6 * torch.randn(rows, INPUTS, generator=generator)
    x[:, 0] += 2.4 * angle.cos() + 0.6 * target
    x[:, 1] += 2.4 * angle.sin() + 0.4 * target
    x[:, 2] += 2.0 * target
    return x, labels


@dataclass(frozen=True)
class Outcome:
    source_accuracy: float
    target_accuracy: float
    discrepancy: float  # MMD² of held-out features, by NumPy
    domain_accuracy: float  # of a linear classifier that tells those features' domains apart; ½ is chance
    first: float  # the objective's mean over the first 20 steps
    last: float  # and over the last 20


def fit(
    objectives: Any, seed: int, steps: int = 300, rows: int = 32, dropout: float = 0.1, draw: Any = draw
) -> tuple[JointModel, tuple, list[float]]:
    """Trains with AdamW, discriminators three times as fast; gives the adapter, rows that training has not seen (of
    the source, of the target), and the last objective's value at each step."""
    module = adapter(objectives, seed, dropout)
    g = torch.Generator().manual_seed(1000 + seed)
    (xs, ys), (xt, _) = draw(600, False, g), draw(600, True, g)
    held_out = draw(400, False, g), draw(400, True, g)
    groups = [{"params": list(module.model.parameters()), "lr": 3e-3}]
    if own := list(module.objectives.parameters()):
        groups.append({"params": own, "lr": 9e-3})
    optimizer, parts = torch.optim.AdamW(groups, fused=True), []
    for step in range(steps):
        module.progress.fill_(step / steps)
        s, t = torch.randint(0, 600, (2, rows), generator=g)
        out = module(**joint(xs[s], ys[s], xt[t]))
        optimizer.zero_grad()
        out.loss.backward()
        optimizer.step()
        parts.append(out.losses[-1].item())
    return module.eval(), held_out, parts


@torch.no_grad()
def train(objectives: Any, seed: int, **how: Any) -> Outcome:
    """Trains as `fit` does and measures on the held-out rows."""
    with torch.enable_grad():
        module, held_out, parts = fit(objectives, seed, **how)
    features = [module.model.body(x) for x, _ in held_out]
    correct = [(module(x=x).logits.argmax(-1) == y).float().mean().item() for x, y in held_out]
    apart = mmd(*(array(f[:200]) for f in features), bandwidth="median"), domain_accuracy(*features)
    return Outcome(*correct, *apart, float(np.mean(parts[:20])), float(np.mean(parts[-20:])))


def domain_accuracy(source: torch.Tensor, target: torch.Tensor) -> float:
    """Fitted on every other row, scored on the rest."""
    x = torch.cat([source, target]).numpy()
    y = np.repeat([0, 1], [len(source), len(target)])
    return float(LogisticRegression(max_iter=1000).fit(x[::2], y[::2]).score(x[1::2], y[1::2]))
