"""Settings of test-time adaptation: five methods, each a set of values, and the check of what is given instead."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from ..messages import nearest
from ..setting_ranges import COUNT, FROM_ZERO, POSITIVE, SEED, Bounds
from ..settings import read_choice

Method = Literal["stable", "tent", "eata", "sar", "statistics"]
Parameters = Literal["norms", "lora"]
Statistics = Literal["running", "mixed", "batch"]
Optimizer = Literal["sgd", "adam"]

BOUNDS: dict[str, Bounds] = {
    "prior_rows": POSITIVE,
    "learning_rate": FROM_ZERO,
    "momentum": Bounds(0, 1, below=True),
    "full_step_rows": COUNT,
    "entropy_threshold": Bounds(0, 1, above=True, hint="It is a share of ln K; leave it None to take all rows."),
    "redundancy_margin": POSITIVE,
    "sharpness": FROM_ZERO,
    "anchor": FROM_ZERO,
    "fisher": FROM_ZERO,
    "largest_drift": POSITIVE,
    "restore": Bounds(0, 1, below=True, hint="At 1 nothing would ever be learned."),
    "start_share": Bounds(0, 1, below=True, hint="At 1 the adapted model would have no say."),
    "least_diversity": Bounds(0, 1, above=True),
    "reset_entropy": Bounds(0, 1, above=True, hint="It is a share of ln K."),
    "seed": SEED,
}
OPTIONAL = ("learning_rate", "entropy_threshold", "redundancy_margin", "largest_drift", "least_diversity",
            "reset_entropy")  # fmt: skip


@dataclass(frozen=True)
class StreamSettings:
    r"""Settings of test-time adaptation.

    Args:
        parameters: what adapts: `"norms"`, the weights and biases of all normalisation layers, or `"lora"`, those of
            the active PEFT adapter.
        batch_norm: statistics of batch norms: those of the training (`"running"`), of the batch (`"batch"`, as Tent),
            or \((N\mu_{\text{running}} + n\mu_{\text{batch}})/(N + n)\) for n rows (`"mixed"`; Schneider et al. 2020),
            and the same of variances.
        prior_rows: N, what the running statistics count.
        design_effect: the n rows of a batch count as n / (1 + (n - 1) ρ) in mixed statistics and in the size of a
            step, with ρ the correlation of predictions within the batches so far (Kish 1965): where classes come one
            after the other, statistics of a batch are those of its class.
        learning_rate: 1e-3, or 2.5e-4 where batch norms adapt, when `None`; 0 trains nothing.
        optimizer: `"sgd"` or `"adam"`.
        momentum: of SGD.
        full_step_rows: a step on fewer rows is smaller in proportion, and averages move more slowly.
        entropy_threshold: rows above this share of ln K are not learned from; `None` takes all rows.
        entropy_weights: a row counts \(\exp(E_0 - H)\).
        redundancy_margin: rows whose prediction has a cosine above `redundancy_margin` / √K with the moving average of
            predictions are not learned from. A certain row and an even average have 1 / √K.
        agreement: only rows of which the start weights predict the same class are learned from.
        sharpness: ρ, radius of the sharpness-aware step; 0 for a plain one.
        anchor: weight of the squared distance from the start, halved.
        fisher: weight of the same with each parameter's Fisher information; needs `fisher_batches`.
        largest_drift: largest distance from the start, as a share of the start's own norm.
        restore: chance of every entry to be set back to the start after a step (CoTTA's).
        start_share: share of the start weights' probabilities in what is predicted.
        class_mix: that share grows towards 1 where the adapted model's predictions on a batch hold fewer classes than
            n rows of K equally frequent ones would; see `class_mix`.
        least_diversity: start again when the adapted model predicts fewer classes than this share of what the start
            weights predict on the same rows, counted as exp H of the moving average.
        reset_entropy: start again when the moving average of the entropy falls below this share of ln K (SAR's).
        seed: of `restore`.

    Raises:
        ValueError: a value out of its range, or weights of rows without the threshold that they are counted from.

    Example:
        >>> StreamSettings(start_share=0.25).prior_rows
        64
    """

    parameters: Parameters = "norms"
    batch_norm: Statistics = "mixed"
    prior_rows: float = 64
    design_effect: bool = True
    learning_rate: float | None = None
    optimizer: Optimizer = "sgd"
    momentum: float = 0.9
    full_step_rows: int = 64
    entropy_threshold: float | None = 0.4
    entropy_weights: bool = True
    redundancy_margin: float | None = 1.5
    agreement: bool = True
    sharpness: float = 0.05
    anchor: float = 1.0
    fisher: float = 0.0
    largest_drift: float | None = 0.1
    restore: float = 0.0
    start_share: float = 0.5
    class_mix: bool = True
    least_diversity: float | None = 0.7
    reset_entropy: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name, choices in (("parameters", Parameters), ("batch_norm", Statistics), ("optimizer", Optimizer)):
            read_choice(name, getattr(self, name), choices)
        for name in ("design_effect", "entropy_weights", "agreement", "class_mix"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name}={getattr(self, name)!r} must be true or false.")
        for name, bounds in BOUNDS.items():
            value = getattr(self, name)
            if value is not None or name not in OPTIONAL:
                object.__setattr__(self, name, bounds.read(name, value))
        if self.entropy_weights and self.entropy_threshold is None:
            raise ValueError("entropy_weights=True needs entropy_threshold, which its weights are counted from.")

    @property
    def asks_start(self) -> bool:
        """Whether the start weights are to predict every batch too."""
        return self.agreement or self.predicts_with_start or self.least_diversity is not None

    @property
    def predicts_with_start(self) -> bool:
        """Whether the start weights have a share in what is predicted."""
        return self.start_share > 0 or self.class_mix


PLAIN: dict[str, Any] = {
    "design_effect": False,
    "entropy_threshold": None,
    "entropy_weights": False,
    "redundancy_margin": None,
    "agreement": False,
    "sharpness": 0.0,
    "anchor": 0.0,
    "largest_drift": None,
    "start_share": 0.0,
    "class_mix": False,
    "least_diversity": None,
}
METHODS: dict[str, dict[str, Any]] = {
    "stable": {},
    "tent": {**PLAIN, "batch_norm": "batch", "optimizer": "adam", "learning_rate": 1e-3},
    "eata": {**PLAIN, "batch_norm": "batch", "entropy_threshold": 0.4, "entropy_weights": True,
             "redundancy_margin": 1.5},
    "sar": {**PLAIN, "batch_norm": "batch", "entropy_threshold": 0.4, "sharpness": 0.05, "reset_entropy": 0.029},
    "statistics": {**PLAIN, "learning_rate": 0.0},
}  # fmt: skip
FISHER = 2000.0  # EATA's weight of the Fisher term


def read_settings(method: Any, given: dict[str, Any], has_fisher: bool) -> StreamSettings:
    """Settings of a method, with what is given in the place of its values.

    Args:
        method: one of `METHODS`.
        given: settings by name.
        has_fisher: there are batches to estimate the Fisher information on.

    Raises:
        ValueError: an unknown method or setting, or what `StreamSettings` refuses.
    """
    read_choice("method", method, Method)
    known = [field.name for field in dataclasses.fields(StreamSettings)]
    for name in given:
        if name not in known:
            raise ValueError(
                f"TestTimeAdapter has no setting {name!r}; it has {', '.join(known)}.{nearest(name, known)}"
            )
    values = METHODS[method] | ({"fisher": FISHER} if method == "eata" and has_fisher else {}) | given
    settings = StreamSettings(**values)
    of_mixed = [(name, "batch_norm", "mixed") for name in ("prior_rows", "design_effect")]
    for name, needed, value in (("momentum", "optimizer", "sgd"), *of_mixed):
        if name in given and getattr(settings, needed) != value:
            raise ValueError(f"{name}={given[name]!r} has no effect with {needed}={getattr(settings, needed)!r}.")
    if settings.fisher and not has_fisher:
        raise ValueError(
            f"fisher={settings.fisher:g} needs fisher_batches: unlabelled batches like those of training, which say "
            "which parameters matter there."
        )
    if has_fisher and not settings.fisher:
        raise ValueError(f"fisher_batches have no effect with method={method!r} and fisher=0: set fisher.")
    return settings
