"""Base class of objectives: a module whose `forward` names what it needs and returns a scalar."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import nn

from ..former_names import OBJECTIVE_INPUTS, no_such

# What `JointModel` can hand to an objective, by argument name. Rows are those of all processes, in fp32:
INPUTS = {
    "source_features": "(n, d) what the final classifier sees, source rows",
    "target_features": "(m, d) the same, target rows",
    "source_logits": "(n, classes)",
    "target_logits": "(m, classes)",
    "target_soft_labels": "(m, classes) distributions from a column of the target; see `add_soft_labels`",
    "source_labels": "(n,) class ids; -100 where a row has none",
    "source_weights": "(n,) what each source row counts: by its class, by its source; a 1 expanded where all count 1",
    "source_domains": "(n,) which source each row is of, from 0",
    "target_view_features": "(m, d) the target rows again: a second view, under another dropout mask at least",
    "target_view_logits": "(m, classes) of the same",
    "averaged_target_logits": "(m, classes) of the mean of past weights, without gradient; see `MeanTeacher`",
    "perturbed_target_forward": "a function: runs this process' target rows again, perturbed; see `PerturbedForward`",
    "masked_target_forward": "a function: runs this process' target rows again, words masked; see `MaskedForward`",
    "strength": "() weight x schedule; an objective that takes it applies it itself and is added as it is",
    # Of all rows of the batch, source rows and, where there is a target, target rows:
    "features": "(r, d)",
    "logits": "(r, classes)",
    # Of the teachers, a list with one tensor each, without gradient; class columns stand in the run's order:
    "teacher_features": "[(r, d')] all rows",
    "teacher_source_features": "[(n, d')]",
    "teacher_target_features": "[(m, d')]",
    "teacher_logits": "[(r, classes')] all rows",
    "teacher_source_logits": "[(n, classes')]",
    "teacher_target_logits": "[(m, classes')]",
    # Of this process' rows, for what is a mean over rows; of the weights:
    "layer_pairs": "a list of `LayerPair`: maps of layers, the model's and the first teacher's",
    "attention_pairs": "a list of `LayerPair`: attention, the model's and each teacher's, last layers",
    "trained_weights": "a list of `TrainedWeight`: the weights that train, each beside its initial value",
    "class_vectors": "(classes, d) the final layer's weight",
}

# Constructor arguments that are not settings:
FILLED_IN = ("feature_dim", "num_classes", "num_sources", "class_names", "task", "teachers", "vocabulary")


# What `fit` can ask for, of labelled rows before training:
FIT_INPUTS = {
    "labels": "(rows,) class ids",
    "teacher_logits": "(rows, classes') of the first teacher",
    "teacher_layers": "[(rows, channels)] layers of the first teacher, each the mean over a row's positions",
}


@dataclass(frozen=True)
class Range:
    """Search range of a number: between `low` and `high`, evenly or in the logarithm."""

    low: float
    high: float
    log: bool = False


class PerturbedForward(Protocol):
    """Another forward of this process' target rows, without dropout, batch norm on its running statistics.

    `inputs` (m, positions, e), detached, are the rows where the model first has them as real numbers: the embeddings
    of tokens, or what it is given if that is real numbers already. `mask` (m, positions) is 1 on what is no padding.
    Called with a shift of the inputs' shape, or with nothing for `None`, it gives (m, classes) logits; in tagging,
    those of as many words for each row.
    """

    inputs: torch.Tensor
    mask: torch.Tensor

    def __call__(self, shift: torch.Tensor | None) -> torch.Tensor: ...


@dataclass(frozen=True)
class VocabularyFacts:
    """Facts of a model's vocabulary that an objective is built with.

    Args:
        size: rows of the matrix of word embeddings.
        width: its columns.
        state_width: of the last hidden states.
    """

    size: int
    width: int
    state_width: int


@dataclass(frozen=True)
class MaskedTokens:
    """Masked tokens of this process' target rows.

    Args:
        states: (k, d) the last hidden states at the masked tokens, with gradient.
        labels: (k,) the ids that stood there.
        embeddings: (V, e) the model's word embeddings, with gradient where they train.
        count: () masked tokens of all processes, over the number of processes; at least one token in all.
    """

    states: torch.Tensor
    labels: torch.Tensor
    embeddings: torch.Tensor
    count: torch.Tensor


class MaskedForward(Protocol):
    """Another forward of this process' target rows, under dropout, with a share of their words masked.

    Which words is a function of the number and of each row's tokens, whatever stands beside it.
    """

    def __call__(self, number: int, probability: float) -> MaskedTokens: ...


class TrainedWeight(Protocol):
    """A weight that trains, beside its initial value."""

    fresh: bool  # belongs to the head, or was drawn for this run: its initial value means nothing

    def squared_distance(self) -> torch.Tensor:
        """() squared distance from the initial value."""

    def squared_norm(self) -> torch.Tensor:
        """() squared norm."""


@dataclass(frozen=True)
class LayerPair:
    """Outputs of a layer of the model and of one of the teacher, on this process' rows.

    Args:
        current: (rows, positions, channels) with gradient; of attention, (rows, positions, heads, positions).
        teacher: the same of the teacher, without.
        share: (rows, positions) sums to 1 over the positions of a row; 0 on padding.
    """

    current: torch.Tensor
    teacher: torch.Tensor
    share: torch.Tensor


@dataclass(frozen=True)
class TeacherFacts:
    """Facts of a teacher that an objective is built with.

    Args:
        name: what messages call it.
        feature_dim: width of its features, from the layer that the objective reads.
        labels: its class names, in the order of its logits.
        same_labels: they are the run's; its logits then come in the run's order.
        head: (classes, width) weight and (classes,) bias, if any, of its final layer.
        layer_widths: of the teacher's stack.
    """

    name: str
    feature_dim: int
    labels: tuple[str, ...]
    same_labels: bool
    head: tuple[torch.Tensor, torch.Tensor | None] | None = None
    layer_widths: tuple[int, ...] = ()


class Objective(nn.Module):
    """One extra term of the training loss.

    Subclasses implement `forward` with keyword arguments from `INPUTS` and return a scalar tensor. They may hold
    parameters (a discriminator), which join the optimizer with the objectives' learning-rate multiplier, and
    buffers (a queue, a random projection), which travel with checkpoints. Constructor arguments named in `FILLED_IN`
    are filled in; all others are the objective's settings. `search` says where a sweep may look for them: a `Range`,
    or a tuple of choices.

    What is added to the loss is the value times the weight times the schedule, a shape that ends at 1, so that the
    weight is what counts at the end. A name without a weight asks for `default_weight`, one without a schedule for
    `default_schedule`. An objective whose `forward` takes `strength`, to reverse a gradient by it, is handed weight
    times schedule instead, and its value is added in full.

    An objective that is to be fitted to the labelled rows before training has a method `fit` with arguments from
    `FIT_INPUTS`; it keeps the result in buffers.

    Example:
        >>> class MeanGap(Objective):
        ...     def forward(self, source_features, target_features):
        ...         return (source_features.mean(0) - target_features.mean(0)).square().sum()
        >>> MeanGap()(torch.ones(3, 2), torch.zeros(5, 2))
        tensor(2.)
    """

    paper: ClassVar[str] = ""  # shown in the model card
    default_weight: ClassVar[float] = 1.0
    default_schedule: ClassVar[str | dict[str, Any]] = "constant"
    search: ClassVar[dict[str, Range | tuple[Any, ...]]] = {}
    several_labels: ClassVar[bool] = False  # reads logits of tasks with several labels a row, too
    imports: ClassVar[tuple[str, ...]] = ()  # settings whose text names code to import
    at_head: ClassVar[bool] = False  # features from anywhere but the head would be meaningless

    forward: Callable[..., torch.Tensor]
    # () of the last forward, where a discriminator plays: share of rows whose domain it tells, mean of both domains
    domain_accuracy: torch.Tensor | None = None
    inputs: Mapping[str, str] | None = None  # what `reads` says for this one's settings, once it is built by name

    @classmethod
    def needs(cls) -> tuple[str, ...]:
        """Names of the inputs that `forward` asks for.

        Raises:
            TypeError: a name that is not in `INPUTS`, or `*` or `**`, which name nothing.
        """
        parameters = {n: p for n, p in inspect.signature(cls.forward).parameters.items() if n != "self"}
        starred = [str(p) for p in parameters.values() if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        if starred:
            raise TypeError(f"{cls.__name__}.forward takes {starred[0]}: let it name each input that it needs.")
        names = tuple(parameters)
        unknown = [name for name in names if name not in INPUTS]
        if unknown:
            if unknown[0] in OBJECTIVE_INPUTS:
                raise TypeError(no_such(f"{cls.__name__}.forward asks for", unknown[0], INPUTS, OBJECTIVE_INPUTS))
            raise TypeError(f"{cls.__name__}.forward asks for {unknown[0]!r}; there is only {', '.join(INPUTS)}.")
        return names

    @classmethod
    def reads(cls, settings: Mapping[str, Any]) -> dict[str, str]:
        """Map from arguments of `forward` to inputs: each the one it names, unless settings choose among rows."""
        return {name: name for name in cls.needs()}

    @classmethod
    def without_source(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The settings in a run without source rows: what was left open may follow the target's instead."""
        return dict(settings)

    @classmethod
    def layer_indices(cls, settings: Mapping[str, Any], total: int) -> list[int]:
        """Indices of the layers that `layer_pairs` is to hold, in a stack of `total`."""
        return []

    @classmethod
    def search_ranges(cls, settings: Mapping[str, Any]) -> dict[str, Range | tuple[Any, ...]]:
        """`search`, without what cannot stand beside these settings."""
        return dict(cls.search)

    @classmethod
    def second_view(cls, settings: Mapping[str, Any]) -> Any:
        """`SecondView` that says how second views are to be made; `None` takes those that there are."""
        return None

    @classmethod
    def fit_inputs(cls, settings: Mapping[str, Any]) -> tuple[str, ...]:
        """Names from `FIT_INPUTS` that `fit` asks for; nothing if there is nothing to fit before training."""
        fit = getattr(cls, "fit", None)
        return () if fit is None else tuple(n for n in inspect.signature(fit).parameters if n != "self")

    @classmethod
    def settings(cls) -> dict[str, inspect.Parameter]:
        """The constructor's own settings, by name."""
        parameters = inspect.signature(cls.__init__).parameters
        starred = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)  # of a class without a constructor
        return {n: p for n, p in parameters.items() if n not in ("self", *FILLED_IN) and p.kind not in starred}


def check_count(name: str, value: Any, least: int = 1) -> None:
    """Check that a setting is a whole number of at least `least`. Raises a `ValueError`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name}={value!r} must be a whole number of at least {least}.")


def is_positive(value: Any) -> bool:
    """Whether a setting is a finite number above 0."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf
