"""Perturbed forward: the target rows once more, with a small change of their embeddings or pixels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from accelerate.utils import parse_flag_from_env
from torch import nn
from torch.distributed.fsdp import FSDPModule

from ...models.module_mode import module_mode
from ..config import AdaptationConfig
from ..teachers.objective_fitting import probe_rows
from .objective_inputs import pick_words

SHARDED = (
    "vat and mixup run the model again inside the forward pass, after which FSDP has let go of its shards. Run it "
    "under DDP, or on one process."
)


def check_perturbed_forward(prepared: Any, args: AdaptationConfig) -> None:
    """Check that a run can make the perturbed forward that objectives ask for; raises `ValueError`."""
    if not any(spec.weight and "perturbed_target_forward" in spec.reads().values() for spec in args.objective_specs()):
        return
    if args.fsdp or parse_flag_from_env("ACCELERATE_USE_FSDP"):
        raise ValueError(SHARDED)
    perturbable_input(prepared.model, probe_rows(prepared))


def perturbable_input(model: nn.Module, inputs: Mapping[str, Any]) -> tuple[str, nn.Embedding | None]:
    """Name of a model's main input, and its embedding layer if the input is token ids.

    Raises:
        ValueError: it is neither real numbers nor ids with a table of embeddings.
    """
    name = str(getattr(model, "main_input_name", "input_ids"))
    values = inputs.get(name)
    if isinstance(values, torch.Tensor) and values.is_floating_point():
        return name, None
    get: Any = getattr(model, "get_input_embeddings", None)
    layer = get() if get is not None else None
    if values is None or not isinstance(layer, nn.Embedding):
        raise ValueError(
            "vat and mixup change token embeddings, or inputs that are real numbers, and "
            f"{type(model).__name__} has neither."
        )
    return name, layer


class PerturbedTargetForward:
    """Forward of target rows with changed inputs. See `objectives.base.PerturbedForward`.

    Args:
        model: plain or PEFT-wrapped.
        inputs: model inputs of the rows.
        word_mask: (m, tokens) in tagging, where rows of logits are words.
        autocast: the run's precision, which objectives are kept out of; `None` without autocast.
        release_hooks: called after each forward, to let go of what feature hooks keep.

    Raises:
        ValueError: as `perturbable_input`, or the model is sharded by FSDP2.
    """

    def __init__(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        word_mask: torch.Tensor | None,
        autocast: torch.dtype | None,
        release_hooks: Callable[[], Any],
    ):
        self.name, self.layer = perturbable_input(model, inputs)
        if any(isinstance(module, FSDPModule) for module in model.modules()):
            raise ValueError(SHARDED)
        self.model, self.model_inputs, self.word_mask, self.autocast = model, inputs, word_mask, autocast
        self.release_hooks = release_hooks
        values = inputs[self.name]
        if self.layer is None:
            self.inputs = _positions(values).float()
            self.mask = values.new_ones(self.inputs.shape[:2], dtype=torch.long)
        else:
            self.mask = inputs.get("attention_mask", torch.ones_like(values))
            with torch.no_grad():
                self.inputs = self.layer(values).float()

    def __call__(self, shift: torch.Tensor | None) -> torch.Tensor:
        inputs, hook = self.model_inputs, None
        if shift is not None and self.layer is not None:
            hook = self.layer.register_forward_hook(lambda _, args, out: out + shift.to(out.dtype))
        elif shift is not None:
            values = inputs[self.name]
            inputs = inputs | {self.name: values + shift.transpose(1, 2).reshape(values.shape).to(values.dtype)}
        try:
            autocast = torch.autocast(self.inputs.device.type, self.autocast, enabled=self.autocast is not None)
            with module_mode(self.model), autocast:
                # Dropout would drown a small move; a row's answer is its own, in batch norm as well.
                logits = self.model(**inputs).logits.float()
            self.release_hooks()
            return logits if self.word_mask is None else pick_words(logits, self.word_mask)
        finally:
            if hook is not None:
                hook.remove()


def _positions(x: torch.Tensor) -> torch.Tensor:
    """Positions of inputs: (m, channels, …) -> (m, positions, channels); (m, positions) has one channel."""
    return x.unsqueeze(-1) if x.ndim == 2 else x.flatten(2).transpose(1, 2)
