"""LoRA-style partial transfer: targets and saved modules computed from the structure."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn

from .structure import head_modules, layers
from .tap import Head

# Methods that do not adapt linears as such (norms, biases, scales of some activations): PEFT knows their targets.
OWN_TARGETS = ("IA3", "LN_TUNING", "BEFT")


def complete_peft_config(model: nn.Module, peft_config: Any, head: Head) -> Any:
    """Fills in what a PEFT config leaves open.

    `target_modules` of `None` or `"all-linear"` becomes every linear of the layers and of what stands between them
    and the head (a pooler), by full name. `modules_to_save` becomes the head's own modules, by full name. So a new
    head is always trained and saved, and DistilBERT's `pre_classifier`, which the suffix rule confuses with
    `classifier`, is trained in full instead of being wrapped twice. A pooler that the checkpoint lacks is saved in
    full too: whoever loads the adapter would draw another one.

    Raises:
        ValueError: the model has no linear layers to adapt.
    """
    config = copy.deepcopy(peft_config)
    saved = head_modules(model, head)
    names = {key.rpartition(".")[0] for key in getattr(model, "fresh_weights", ())}
    fresh = sorted(name for name in names if not f"{name}.".startswith(tuple(f"{s}." for s in saved)))
    saved += fresh
    if fresh and getattr(config, "exclude_modules", "") is None:
        config.exclude_modules = fresh
    open_targets = getattr(config, "target_modules", "") in (None, "all-linear")
    if open_targets and config.peft_type.value not in OWN_TARGETS:
        stack, _ = layers(model)
        outside = tuple(f"{name}." for name in saved)
        targets = [
            name
            for name, module in model.named_modules()
            if isinstance(module, nn.Linear) and name not in saved and not name.startswith(outside)
        ]
        if not targets:
            raise ValueError(
                f"{type(model).__name__} has no linear layers outside its head (its layers are in {stack!r}). "
                "Name `target_modules` yourself, or use a freezing policy."
            )
        config.target_modules = targets
    if getattr(config, "modules_to_save", None) is None and hasattr(config, "modules_to_save"):
        config.modules_to_save = saved
    return config


def attach_adapter(model: Any, peft_config: Any, head: Head) -> Any:
    """Wraps a model with an adapter whose open fields are completed from its structure."""
    from peft import get_peft_model

    return get_peft_model(model, complete_peft_config(model, peft_config, head))


def is_peft(model: Any) -> bool:
    """Whether the model is PEFT-wrapped, without importing peft for models that are not."""
    return hasattr(model, "peft_config") and hasattr(model, "get_base_model")


def merged(model: Any) -> Any:
    """A plain copy with the adapter merged into its weights; the adapted model itself stays as it is."""
    return copy.deepcopy(model).merge_and_unload()
