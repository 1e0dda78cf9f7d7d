"""Constraint transfer: rules on the predictions, as a penalty or by an augmented Lagrangian."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch

from ...messages import nearest
from ..base import Objective, Range, check_count, is_positive
from ..imported_function import resolved_function
from .row_selection import Rows, check_rows, inputs_of_rows

SEVERAL = "multi-label-classification"
Rule = Callable[[torch.Tensor], torch.Tensor]


class Constraint(Objective):
    r"""Constraints on predictions: differentiable rules \(g_j(p) \le 0\), or \(= 0\), on the predicted probabilities p
    of a batch.

    - `implies`: pairs (a, b) of classes, or of lists of classes: where a is predicted, so is b.
      \(g = \frac1r\sum_i \max(0, p_{ia} - p_{ib}) \le\) `tolerance`, Łukasiewicz' implication. A list's probability is
      the sum of its classes', or with several labels a row \(1 - \prod(1 - p)\).
    - `proportions`: a class → its share's bounds, \(\text{low} - \bar p_k \le 0\) and \(\bar p_k - \text{high} \le
      0\), with \(\bar p\) the batch's mean. The bounds are yours: no target label is read.
    - `function`: yours: (r, classes) probabilities → a scalar or (`outputs`,) values that should be 0
      (`sense="zero"`) or at most 0 (`"at_most"`). A Python callable, or `"module:name"` where only text goes.

    By penalty, the value is \(\frac\rho2\sum_j \max(0, g_j)^2\) (of rules that should be 0, \(g_j^2\)): never exact,
    the more so the smaller ρ. By augmented Lagrangian, with multipliers μ kept in a buffer,

    \[\sum_j \frac{\max(0, \mu_j + \rho g_j)^2 - \mu_j^2}{2\rho}\quad\Big(\text{or }\mu_j g_j + \tfrac\rho2 g_j^2\Big),
      \qquad \mu_j \leftarrow \max(0, \mu_j + \rho_\mu\, g_j)\quad(\text{or without the max})\]

    after each forward in training: multipliers grow until the rule holds. \(\rho_\mu\) is `step`, smaller than ρ
    because a batch's g is noisy.

    Args:
        class_names, task: of the run.
        implies, proportions, function: the rules; at least one.
        outputs: how many values the function gives.
        sense: what the function's values should be.
        tolerance: how much of a broken implication is allowed.
        method: `"penalty"` or `"lagrangian"`.
        rho: ρ.
        step: how fast multipliers grow.
        rows: `"target"`, `"source"` or `"all"`.

    Shapes: (r, classes) -> ().

    Paper: augmented Lagrangian: Hestenes, Multiplier and Gradient Methods, 1969; rules on predictions: Ganchev et al.,
    Posterior Regularization for Structured Latent Variable Models, JMLR 2010.
    """

    multipliers: torch.Tensor
    paper = "Ganchev et al., Posterior Regularization for Structured Latent Variable Models, JMLR 2010"
    several_labels = True
    imports: ClassVar = ("function",)
    search: ClassVar = {
        "weight": Range(0.1, 10.0, log=True),
        "rho": Range(0.1, 100.0, log=True),
        "method": ("penalty", "lagrangian"),
    }

    def __init__(
        self,
        class_names: Sequence[str],
        task: str = "sequence-classification",
        implies: Sequence[Any] = (),
        proportions: Mapping[str, Sequence[float]] | None = None,
        function: Rule | str | None = None,
        outputs: int = 1,
        sense: Literal["zero", "at_most"] = "zero",
        tolerance: float = 0.0,
        method: Literal["penalty", "lagrangian"] = "penalty",
        rho: float = 1.0,
        step: float = 0.1,
        rows: Rows = "target",
    ):
        super().__init__()
        for name, value, choices in (
            ("sense", sense, ("zero", "at_most")),
            ("method", method, ("penalty", "lagrangian")),
        ):
            if value not in choices:
                raise ValueError(f"{name}={value!r} must be {' or '.join(map(repr, choices))}.")
        for name, number in (("rho", rho), ("step", step)):
            if not is_positive(number):
                raise ValueError(f"{name}={number!r} must be a positive number.")
        if tolerance != 0 and not is_positive(tolerance):
            raise ValueError(f"tolerance={tolerance!r} must be a number of at least 0.")
        if task == "regression":
            raise ValueError("constraint reads class probabilities, and regression has none.")
        check_count("outputs", outputs)
        check_rows(rows)
        self.names, self.several = tuple(class_names), task == SEVERAL
        self.rules: list[Rule] = []
        equal: list[bool] = []
        for pair in implies:
            self.rules.append(self._implication(pair, tolerance))
            equal.append(False)
        for name, bounds in (proportions or {}).items():
            self.rules.append(self._proportion(str(name), bounds))
            equal += [False, False]
        self.function = None if function is None else resolved_function(function)
        self.outputs = outputs
        if self.function is not None:
            self.rules.append(self._of_function)
            equal += [sense == "zero"] * outputs
        if not self.rules:
            raise ValueError("constraint has no rule: give implies, proportions or function.")
        self.method, self.rho, self.step = method, rho, step
        self.register_buffer("equal", torch.tensor(equal), persistent=False)
        self.register_buffer("multipliers", torch.zeros(len(equal)))

    equal: torch.Tensor

    @classmethod
    def reads(cls, settings: Mapping[str, Any]) -> dict[str, str]:
        return inputs_of_rows(cls, settings, cls.needs())

    def values(self, logits: torch.Tensor) -> torch.Tensor:
        """Values g of the rules on a batch, (rules,): what is above 0, or for rules that should be 0 what is not 0,
        breaks a rule."""
        p = logits.sigmoid() if self.several else logits.softmax(-1)
        return torch.cat([rule(p) for rule in self.rules])

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        g, rho = self.values(logits), self.rho
        mu = self.multipliers.to(g.dtype).clone()
        if self.method == "penalty":
            return rho / 2 * torch.where(self.equal, g, g.clamp_min(0)).square().sum()
        bound = ((mu + rho * g).clamp_min(0).square() - mu.square()) / (2 * rho)
        value = torch.where(self.equal, mu * g + rho / 2 * g.square(), bound).sum()
        if self.training:
            updated = mu + self.step * g.detach()
            self.multipliers.copy_(torch.where(self.equal, updated, updated.clamp_min(0)))
        return value

    def _implication(self, pair: Any, tolerance: float) -> Rule:
        if isinstance(pair, str) or not isinstance(pair, Sequence) or len(pair) != 2:
            raise ValueError(f"implies takes pairs of classes, such as [['cat', 'animal']], not {pair!r}.")
        a, b = (self._group(side) for side in pair)
        return lambda p: (self._either(p, a) - self._either(p, b)).clamp_min(0).mean().reshape(1) - tolerance

    def _proportion(self, name: str, bounds: Any) -> Rule:
        (k,) = self._group(name)
        limits = list(bounds) if isinstance(bounds, Sequence) and not isinstance(bounds, str) else []
        if len(limits) != 2 or not all(_is_share(x) for x in limits) or limits[0] > limits[1]:
            raise ValueError(f"proportions: {name!r} needs [low, high] with 0 <= low <= high <= 1, not {bounds!r}.")
        low, high = limits
        return lambda p: torch.stack([low - p[:, k].mean(), p[:, k].mean() - high])

    def _of_function(self, p: torch.Tensor) -> torch.Tensor:
        assert self.function is not None
        values = self.function(p)
        if not isinstance(values, torch.Tensor) or values.numel() != self.outputs:
            returned = f"shape {tuple(values.shape)}" if isinstance(values, torch.Tensor) else type(values).__name__
            raise ValueError(
                f"constraint: the function gives {returned}, where outputs={self.outputs} says {self.outputs} "
                "value(s)."
            )
        return values.reshape(self.outputs)

    def _group(self, classes: Any) -> list[int]:
        if isinstance(classes, str) or not isinstance(classes, Sequence):
            classes = [str(classes)]
        names = list(classes)
        for name in names:
            if name not in self.names:
                suggestion = nearest(str(name), self.names)
                raise ValueError(f"constraint names class {name!r}; there is {', '.join(self.names)}.{suggestion}")
        return [self.names.index(name) for name in names]

    def _either(self, p: torch.Tensor, group: list[int]) -> torch.Tensor:
        """Probability that a row is of one of the classes, (r,)."""
        chosen = p[:, group]
        return 1 - (1 - chosen).prod(1) if self.several else chosen.sum(1)


def _is_share(x: Any) -> bool:
    return isinstance(x, (int, float)) and not isinstance(x, bool) and math.isfinite(x) and 0 <= x <= 1
