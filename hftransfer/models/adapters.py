"""PEFT adapters (LoRA and others): targets and saved modules computed from the model's structure."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from .feature_hook import Head, find_encoder_output, find_head
from .model_structure import embedding_modules, head_modules, layer_stack

LINEARS = (nn.Linear, Conv1D)
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS, BIASES = "LN_TUNING", "BEFT"  # methods that train what is there instead of adding to linears
REFUSED = {
    "ADALORA": "nothing calls its `update_and_allocate` after each step, so its ranks would never be shared out"
}


def complete_peft_config(model: nn.Module, peft_config: Any, head: Head) -> Any:
    """A PEFT config with its open fields filled in from the model's structure.

    `target_modules` of `None` or `"all-linear"` becomes every linear of the layers and of what stands between them
    and the head (a pooler), by full name; in a model without such linears, every convolution there that is not
    grouped. Norm tuning gets the norms instead, BEFT linears with a bias, and IA3 is told which linears narrow, since
    it scales their input. Linears that the model reads without calling, or that several layers share, are left out.

    `modules_to_save` becomes the head's own modules, by full name. So a new head is always trained and saved, and
    DistilBERT's `pre_classifier`, which the suffix rule confuses with `classifier`, is trained in full instead of
    being wrapped twice. A pooler that the checkpoint lacks is saved in full too: whoever loads the adapter would draw
    another one.

    Raises:
        ValueError: the model has nothing to adapt, or the method does not work here.
    """
    config = copy.deepcopy(peft_config)
    method = config.peft_type.value
    if method in REFUSED:
        raise ValueError(f"{method} is not supported: {REFUSED[method]}. Use LoRA.")
    saved_modules = [child for name in head_modules(model, head) for child in _sequential_children(model, name)]
    fresh_modules = {key.rpartition(".")[0] for key in getattr(model, "fresh_weights", ())}
    unsaved_fresh_modules = sorted(
        name for name in fresh_modules if not f"{name}.".startswith(tuple(f"{s}." for s in saved_modules))
    )
    saved_modules += unsaved_fresh_modules
    if unsaved_fresh_modules and getattr(config, "exclude_modules", "") is None:
        config.exclude_modules = unsaved_fresh_modules
    open_targets = getattr(config, "target_modules", "") in (None, "all-linear")
    if open_targets:
        config.target_modules = _targets(model, method, saved_modules, head)
        if method == "IA3" and config.feedforward_modules is None:
            inner = [(name, model.get_submodule(name)) for name in config.target_modules]
            config.feedforward_modules = [
                n for n, m in inner if isinstance(m, nn.Linear) and m.in_features > m.out_features
            ]
    if getattr(config, "modules_to_save", None) is None and hasattr(config, "modules_to_save"):
        config.modules_to_save = saved_modules
    return config


def attach_adapter(model: Any, peft_config: Any, head: Head, batch: dict[str, Any] | None = None) -> Any:
    """A model wrapped with an adapter whose open fields are completed from its structure.

    Args:
        model: plain; its layers are wrapped in place.
        peft_config: any PEFT config.
        head: from `find_head`.
        batch: model inputs to try the wrapped model on; some models read attributes of a layer that PEFT's wrapper
            does not have.

    Raises:
        ValueError: as `complete_peft_config`, or PEFT refuses the model.
    """
    from peft import get_peft_model

    config = complete_peft_config(model, peft_config, head)
    try:
        wrapped = get_peft_model(model, config)
        _check_called(model, head)
        if batch is not None:
            (find_head if head.name else find_encoder_output)(wrapped, batch)
        return wrapped
    except (ValueError, TypeError, NotImplementedError, AttributeError, RuntimeError) as error:
        method, reason = config.peft_type.value, str(error).strip().splitlines()[0].rstrip(".")
        raise ValueError(
            f"PEFT cannot put {method} on {type(model).__name__}: {reason}. Choose other targets, another method, or "
            "`trainable`."
        ) from error


def is_peft(model: Any) -> bool:
    """Whether the model is PEFT-wrapped, without importing peft for models that are not."""
    return hasattr(model, "peft_config") and hasattr(model, "get_base_model")


def plain_model(model: Any) -> Any:
    """The model inside an adapter; a model without an adapter as it is."""
    return model.get_base_model() if is_peft(model) else model


def active_adapter_names(model: Any) -> list[str]:
    """Names of the active adapters of a PEFT-wrapped model."""
    return [name for name in model.active_adapters if name in model.peft_config]


def merged_copy(model: Any) -> Any:
    """A plain copy on the CPU with the adapter merged into its weights. The adapted model itself stays as it is.

    Raises:
        ValueError: as `check_mergeable`.
    """
    check_mergeable(model)
    memo: dict[int, Any] = {}  # a second model may not fit beside the first on its device
    for parameter in model.parameters():
        if type(parameter) is nn.Parameter:
            memo[id(parameter)] = nn.Parameter(parameter.detach().to("cpu", copy=True), parameter.requires_grad)
    for buffer in model.buffers():
        if type(buffer) is torch.Tensor:
            memo[id(buffer)] = buffer.detach().to("cpu", copy=True)
    return copy.deepcopy(model, memo).merge_and_unload()


def merge_obstacle(model: Any) -> str | None:
    """Reason why an adapter cannot be merged into its model's weights; `None` when it can."""
    if len(model.peft_config) > 1:
        return "there are several adapters."
    try:
        check_mergeable(model)
    except ValueError as error:
        return str(error)
    return None


def check_mergeable(model: Any) -> None:
    """Check that an adapter can be merged into its model's weights.

    Raises:
        ValueError: the method adds tokens instead of changing weights, or adapts a grouped convolution.
    """
    if model.active_peft_config.is_prompt_learning:
        method = model.active_peft_config.peft_type.value
        raise ValueError(f"{method} changes no weights, so it cannot be merged into them: leave merge_adapter off.")
    weights: dict[int, str] = {}
    for name, module in model.named_modules():
        base = getattr(module, "base_layer", None)
        weight = getattr(base, "weight", None)
        if weight is not None and weights.setdefault(id(weight), name) != name:
            raise ValueError(
                f"{weights[id(weight)]!r} and {name!r} share one weight, which would get both adapters: leave them "
                "out of `target_modules`, or merge_adapter off."
            )
        if isinstance(base, CONVOLUTIONS) and base.groups > 1:
            raise ValueError(
                f"PEFT cannot merge an adapter into {name!r}, a convolution of {base.groups} groups: leave it out of "
                "`target_modules`, or merge_adapter off."
            )


def _targets(model: nn.Module, method: str, saved: Sequence[str], head: Head) -> list[str]:
    """Full names of the modules that a method adapts.

    Raises:
        ValueError: there is nothing.
    """
    saved_prefixes = tuple(f"{name}." for name in saved)
    ineffective = {name.rpartition(".")[0] for name in head.idle} | head.uncalled
    users = Counter(id(p) for _, p in model.named_parameters(remove_duplicate=False))
    candidates = {
        name: m
        for name, m in model.named_modules()
        if name
        and name not in saved
        and not name.startswith(saved_prefixes)
        and name not in ineffective
        # Merging would add the adapters of all its users to a weight that several layers share.
        and all(users[id(p)] == 1 for p in m.parameters(recurse=False))
    }
    if method == NORMS:
        targets = [name for name, m in candidates.items() if "norm" in type(m).__name__.lower() and _has_weight(m)]
        missing_kind = "norms with weights"
    else:
        targets = [
            n for n, m in candidates.items() if isinstance(m, LINEARS) and (method != BIASES or m.bias is not None)
        ]
        missing_kind = "linear layers with a bias" if method == BIASES else "linear layers"
    if targets:
        return targets
    stack, _ = layer_stack(model)
    stem = tuple(f"{name}." for name in embedding_modules(model))
    convolutions = {}
    if method not in (NORMS, BIASES):
        convolutions = {n: m for n, m in candidates.items() if isinstance(m, CONVOLUTIONS) and not n.startswith(stem)}
    plain = [name for name, m in convolutions.items() if m.groups == 1]
    if plain:
        return plain
    grouped_note = ""
    if convolutions:
        grouped_note = (
            f", and its {len(convolutions)} convolutions are grouped or depthwise: PEFT takes those only where the "
            "rank is divisible by the groups, and cannot merge them"
        )
    elif method not in (NORMS, BIASES):
        missing_kind = "linear layers and no convolutions"
    raise ValueError(
        f"{type(model).__name__} has no {missing_kind} outside its head (its layers are in {stack!r}){grouped_note}. "
        "Name `target_modules` yourself, or say what trains by `trainable`."
    )


def _check_called(model: nn.Module, head: Head) -> None:
    """Check that no adapter stands around a module that the model reads without calling it. Raises a `ValueError`."""
    for name, module in model.named_modules():
        if name in head.uncalled and hasattr(module, "base_layer"):
            raise ValueError(f"the model reads the weights of {name!r} without calling it, past any adapter")


def _sequential_children(model: nn.Module, name: str) -> list[str]:
    """Children with parameters of a `Sequential`, which most PEFT methods cannot put back when they merge; any other
    module's own name."""
    module = model.get_submodule(name)
    if not isinstance(module, nn.Sequential):
        return [name]
    return [f"{name}.{part}" for part, child in module.named_children() if any(True for _ in child.parameters())]


def _has_weight(module: nn.Module) -> bool:
    """Whether a module holds parameters of its own."""
    return any(True for _ in module.parameters(recurse=False))
