"""What the objectives' tests share: batches with every input an objective can ask for, and float64 NumPy pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import nn

from hftransfer.objectives import Objective, build_objectives, parse_objectives
from hftransfer.objectives.base import LayerPair, MaskedTokens
from hftransfer.trainers.teachers.initial_weights import MovedProduct, MovedWeight

WIDTH, CLASSES = 6, 3
LEAST: dict[str, dict[str, Any]] = {"constraint": {"proportions": {"0": [0.6, 0.9]}}}  # what a kind cannot do without
MULTIPLIERS = {1: [1], 2: [1, 0.5], 3: [2, 1, 0.5], 4: [2, 1, 0.5, 0.25], 5: [4, 2, 1, 0.5, 0.25]}


def make(kind: str, width: int = WIDTH, classes: int = CLASSES, **settings: Any) -> Objective:
    """An objective as the registry builds it, from a fixed seed."""
    torch.manual_seed(0)
    modules, _ = build_objectives(parse_objectives({kind: {**LEAST.get(kind, {}), **settings}}), width, classes)
    return modules[kind]


class FakePerturbedForward:
    """A linear model over the mean of a row's tokens, of which there are 2 to 4, padded on the right."""

    def __init__(self, m: int, width: int, classes: int, seed: int = 0, dtype: torch.dtype = torch.float32):
        g = torch.Generator().manual_seed(100 + seed)
        self.inputs = torch.randn(m, 4, width, generator=g, dtype=torch.float64).to(dtype)
        self.mask = (torch.arange(4) < 2 + torch.arange(m).unsqueeze(1) % 3).long()
        self.weight = torch.randn(width, classes, generator=g, dtype=torch.float64).to(dtype).requires_grad_()

    def __call__(self, shift: torch.Tensor | None) -> torch.Tensor:
        x = self.inputs if shift is None else self.inputs + shift
        real = self.mask.to(x.dtype).unsqueeze(-1)
        return (x * real).sum(1) / real.sum(1).clamp_min(1) @ self.weight


class FakeMaskedForward:
    """A linear model of a row's one masked token; which token of the row it is depends on the number."""

    def __init__(self, m: int, width: int, seed: int = 0, dtype: torch.dtype = torch.float32):
        g = torch.Generator().manual_seed(200 + seed)
        self.inputs = torch.randn(m, 2, width, generator=g, dtype=torch.float64).to(dtype)
        self.mask = torch.ones(m, 2, dtype=torch.long)
        self.weight, self.embeddings = (
            torch.randn(width, width, generator=g, dtype=torch.float64).to(dtype).requires_grad_() for _ in range(2)
        )

    def __call__(self, number: int, probability: float) -> MaskedTokens:
        x = self.inputs[:, number % 2]
        count = torch.tensor(float(len(x)), dtype=x.dtype)
        return MaskedTokens(x @ self.weight, self.inputs[:, 0].argmax(-1), self.embeddings, count)


def batch(
    n: int = 7,
    m: int = 5,
    width: int = WIDTH,
    classes: int = CLASSES,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> dict[str, Any]:
    """A batch of two different domains; features and logits want a gradient."""
    g = torch.Generator().manual_seed(seed)

    def draw(rows: int, columns: int, shift: float = 0.0) -> torch.Tensor:
        return (torch.randn(rows, columns, generator=g, dtype=torch.float64) + shift).to(dtype).requires_grad_()

    return {
        "source_features": draw(n, width),
        "target_features": draw(m, width, shift=0.7),
        "source_logits": draw(n, classes),
        "target_logits": draw(m, classes),
        "source_labels": torch.randint(0, classes, (n,), generator=g),
        "source_weights": torch.ones(n, dtype=dtype),
        "source_domains": torch.zeros(n, dtype=torch.long),
        "target_view_features": draw(m, width, shift=0.7),
        "perturbed_target_forward": FakePerturbedForward(m, width, classes, seed, dtype),
        "masked_target_forward": FakeMaskedForward(m, width, seed, dtype),
        "strength": torch.tensor(0.8, dtype=dtype),
        **anchors(n, m, width, classes, g, dtype),
        "target_soft_labels": draw(m, classes).detach().softmax(-1),
        "target_view_logits": draw(m, classes),
        "averaged_target_logits": draw(m, classes).detach(),
    }


def anchors(n: int, m: int, width: int, classes: int, g: torch.Generator, dtype: torch.dtype) -> dict[str, Any]:
    """What comes of one teacher, of weights that moved, and of the head."""

    def draw(*shape: int, leaf: bool = False) -> torch.Tensor:
        return torch.randn(shape, generator=g, dtype=torch.float64).to(dtype).requires_grad_(leaf)

    mask = torch.arange(4) < 2 + torch.arange(n + m).unsqueeze(1) % 3
    share = mask.to(dtype) / mask.sum(1, keepdim=True)
    attention = [draw(n + m, 4, 2, 4).softmax(-1) for _ in range(2)]
    given: dict[str, Any] = {
        "teacher_features": [draw(n + m, width)],
        "teacher_logits": [draw(n + m, classes)],
        "layer_pairs": [LayerPair(draw(n + m, 4, width, leaf=True), draw(n + m, 4, width), share) for _ in range(2)],
        "attention_pairs": [LayerPair(attention[0].requires_grad_(), attention[1], share)],
        "trained_weights": [
            MovedWeight(draw(5, 3, leaf=True), draw(5, 3), fresh=False),
            MovedWeight(draw(3, leaf=True), draw(3), fresh=True),
            MovedProduct(draw(2, 4, leaf=True), draw(5, 2, leaf=True), draw(2, 4), draw(5, 2), scale=0.5),
        ],
        "class_vectors": draw(classes, width, leaf=True),
    }
    for what in ("features", "logits"):
        (rows,) = given[f"teacher_{what}"]
        given |= {f"teacher_source_{what}": [rows[:n]], f"teacher_target_{what}": [rows[n:]]}
    return given


def asked(objective: Objective, inputs: dict[str, Any]) -> dict[str, Any]:
    """What the objective asks for, by argument. Of all rows are the source's, then the target's, if not given."""
    found = {}
    for argument, name in (objective.inputs or objective.reads({})).items():
        value = inputs.get(name)
        if name in ("features", "logits") and value is None:
            value = torch.cat([inputs[f"source_{name}"], inputs[f"target_{name}"]])
        found[argument] = value
    rows = [len(x) for k, x in found.items() if k in ("features", "logits")]
    for name in (name for name in found if name.startswith("teacher_") and rows):
        found[name] = [x[: rows[0]] for x in found[name]]
    return found


def call(objective: Objective, inputs: dict[str, Any], **replaced: Any) -> torch.Tensor:
    """The objective on what it asks for."""
    return objective(**asked(objective, {**inputs, **replaced}))


def leaves(value: Any) -> list[torch.Tensor]:
    """The tensors in an input that want a gradient."""
    if isinstance(value, torch.Tensor):
        return [value] if value.requires_grad else []
    if isinstance(value, list):
        return [x for item in value for x in leaves(item)]
    return [x for x in vars(value).values() if isinstance(x, torch.Tensor) and x.requires_grad]


def array(x: torch.Tensor) -> np.ndarray:
    return x.detach().numpy().astype(np.float64)


def domains(inputs: dict[str, Any], what: str = "features") -> tuple[np.ndarray, np.ndarray]:
    return array(inputs[f"source_{what}"]), array(inputs[f"target_{what}"])


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def certain(labels: torch.Tensor, classes: int = CLASSES) -> torch.Tensor:
    """Logits that are sure of these labels."""
    return 30.0 * torch.nn.functional.one_hot(labels, classes).float()


def descend(value: Callable[[], torch.Tensor], moved: Iterable[torch.Tensor], steps: int, lr: float) -> list[float]:
    """The value before each step of Adam."""
    optimizer, values = torch.optim.Adam(list(moved), lr=lr), []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = value()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    return values


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def mlp(module: nn.Module, x: np.ndarray) -> np.ndarray:
    """Linear layers with ReLU between them."""
    linears = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
    for i, layer in enumerate(linears):
        x = x @ array(layer.weight).T + array(layer.bias)
        x = np.maximum(x, 0) if i + 1 < len(linears) else x
    return x


def domain_entropy(source: np.ndarray, target: np.ndarray, s: Any = 1.0, t: Any = 1.0) -> float:
    """½(mean of s·BCE(source, 1) + mean of t·BCE(target, 0)) on logits."""
    return 0.5 * float((s * np.logaddexp(0, -source)).mean() + (t * np.logaddexp(0, target)).mean())


def distances(z: np.ndarray) -> np.ndarray:
    """All squared distances."""
    return ((z[:, None] - z[None]) ** 2).sum(-1)
