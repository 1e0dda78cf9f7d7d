"""Objective set: objectives of a run with weights, schedules, feature layers and inputs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import nn

from ...models.layer_hook import HEAD
from ...objectives.base import Objective
from ...objectives.schedules import Schedule, constant
from .objective_inputs import ObjectiveInputs

STRENGTH = "strength"  # the input of objectives that apply weight and schedule themselves


class ObjectiveValue(NamedTuple):
    """Value of an objective on a batch, and its weight in the total at this point of training."""

    name: str
    value: torch.Tensor
    weight: torch.Tensor | float


class ObjectiveSet(nn.Module):
    """Objectives of a run by name.

    Args:
        modules: objectives by name.
        weights: theirs at the end of their schedules; 1 for those that it does not name.
        schedules: their shapes; constant for those that it does not name.
        feature_layers: where in the model an objective's features come from; the head's input if it is not named.

    Example:
        >>> from hftransfer.objectives.alignment.mmd import MMD
        >>> objectives = ObjectiveSet({"mmd": MMD()}, {"mmd": 0.5})
        >>> list(objectives), objectives.feature_layers
        (['mmd'], {'mmd': 'head'})
    """

    def __init__(
        self,
        modules: Mapping[str, Objective] | nn.ModuleDict | None = None,
        weights: Mapping[str, float] | None = None,
        schedules: Mapping[str, Schedule] | None = None,
        feature_layers: Mapping[str, str] | None = None,
    ):
        super().__init__()
        self.by_name = nn.ModuleDict(modules)  # type: ignore[arg-type]
        self.weights = dict.fromkeys(self.by_name, 1.0) | dict(weights or {})
        self.schedules = dict.fromkeys(self.by_name, constant) | dict(schedules or {})
        self.feature_layers = dict.fromkeys(self.by_name, HEAD) | dict(feature_layers or {})
        self.inputs = {name: _inputs_of(objective) for name, objective in self.by_name.items()}

    def ask_for(self, name: str) -> bool:
        """Whether an objective reads this input."""
        return any(name in inputs.values() for inputs in self.inputs.values())

    def evaluate(self, inputs: ObjectiveInputs, progress: torch.Tensor) -> Iterator[ObjectiveValue]:
        """Value of each objective on the rows of all processes, in fp32.

        Args:
            inputs: of this batch.
            progress: of the training, from 0 to 1.
        """
        for name, objective in self.by_name.items():
            arguments = {
                argument: inputs.get(input_name, self.feature_layers[name], name)
                for argument, input_name in self.inputs[name].items()
                if input_name != STRENGTH
            }
            weight: torch.Tensor | float = self.weights[name] * self.schedules[name](progress)
            if STRENGTH in self.inputs[name]:
                arguments[STRENGTH], weight = weight, 1.0
            yield ObjectiveValue(name, objective(**arguments), weight)

    def __getitem__(self, name: str) -> Any:
        return self.by_name[name]

    def __contains__(self, name: str) -> bool:
        return name in self.by_name

    def __iter__(self) -> Iterator[str]:
        return iter(self.by_name)

    def __len__(self) -> int:
        return len(self.by_name)

    def values(self) -> Iterable[nn.Module]:
        return self.by_name.values()


def _inputs_of(objective: Any) -> dict[str, str]:
    """Inputs of an objective by the argument of its `forward`."""
    return dict(objective.reads({}) if objective.inputs is None else objective.inputs)
