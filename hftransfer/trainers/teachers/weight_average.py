"""Moving average of the weights that train: a mean teacher's weights, in buffers, and the model with them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from accelerate.utils import parse_flag_from_env
from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.func import functional_call

from ...objectives.specification import ObjectiveSpec
from ...objectives.step_counter import StepCounter
from ..config import AdaptationConfig

INPUT = "averaged_target_logits"
DECAY = 0.99
SHARDED = (
    "mean_teacher runs the model with the average of its weights, which is no part of FSDP's or DeepSpeed's shards. "
    "Run it under DDP, or on one process."
)


class WeightAverage(nn.Module):
    r"""Moving average of a model's trainable weights over updates, in single precision.

    \(\theta'_t = \alpha_t\,\theta'_{t-1} + (1-\alpha_t)\,\theta_t\) with \(\alpha_t = \min(1 - 1/t, \alpha)\): after
    the first update it is the model itself. What does not train is shared with the model, and so are buffers.

    It takes the memory of one more copy of the trainable weights, 4 bytes each, and is in checkpoints, never in a
    saved model.

    Args:
        model: plain or PEFT-wrapped.
        decay: α.
        keeps_teacher: the model is evaluated with these weights, and they are what is saved at the end.
    """

    def __init__(self, model: nn.Module, decay: float = DECAY, keeps_teacher: bool = False):
        super().__init__()
        self.decay, self.keeps_teacher = decay, keeps_teacher
        self.updates = StepCounter()
        trained = (name for name, parameter in model.named_parameters() if parameter.requires_grad)
        self.names = {f"mean-{name.replace('.', '-')}": name for name in trained}
        for buffer, name in self.names.items():
            self.register_buffer(buffer, model.get_parameter(name).detach().float().clone())

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Average after one more update of the model."""
        self.updates.advance()
        share = 1 - min(1 - 1 / self.updates.value, self.decay)
        for buffer, name in self.names.items():
            average = self.get_buffer(buffer)
            average.lerp_(model.get_parameter(name).detach().to(average), share)

    def run(self, model: nn.Module, inputs: dict[str, Any]) -> Any:
        """Output of the model with these weights. Raises a `ValueError` if the model is sharded by FSDP2."""
        if any(isinstance(module, FSDPModule) for module in model.modules()):
            raise ValueError(SHARDED)
        weights = {
            name: self.get_buffer(buffer).to(model.get_parameter(name).dtype) for buffer, name in self.names.items()
        }
        return functional_call(model, weights, (), inputs)

    @torch.no_grad()
    def write_to(self, model: nn.Module) -> None:
        """These weights, written over the model's."""
        for buffer, name in self.names.items():
            model.get_parameter(name).copy_(self.get_buffer(buffer))


def build_weight_average(
    model: nn.Module, args: AdaptationConfig, specs: Iterable[ObjectiveSpec]
) -> WeightAverage | None:
    """Average of the weights that objectives follow; `None` if none does.

    Raises:
        ValueError: objectives want different averages, or the weights are sharded.
    """
    reading = [spec for spec in specs if spec.weight and INPUT in spec.reads().values()]
    if not reading:
        return None
    if args.fsdp or args.deepspeed or parse_flag_from_env("ACCELERATE_USE_FSDP"):
        raise ValueError(SHARDED)
    decay, keep = _agreed(reading, "decay", DECAY), _agreed(reading, "keep", "student")
    return WeightAverage(model, decay, keep == "teacher")


def _agreed(specs: Sequence[ObjectiveSpec], setting: str, otherwise: Any) -> Any:
    """The value of a setting in all of these objectives, given or by default."""
    values = {}
    for spec in specs:
        parameter = spec.cls.settings().get(setting)
        default = otherwise if parameter is None or parameter.default is parameter.empty else parameter.default
        values[spec.name] = spec.settings.get(setting, default)
    first = specs[0].name
    for name, value in values.items():
        if value != values[first]:
            raise ValueError(
                f"{first} and {name} follow one average of the weights: give both the same {setting}, not "
                f"{values[first]!r} and {value!r}."
            )
    return values[first]
