"""Checks of loaded weights: only the head may be new, and every number is finite.

What a checkpoint lacks is drawn at random, which is right for a head and wrong for anything that was pretrained. Head
is what stands outside the module with the layers and outside the embeddings, and inside that module a pooler: a part
behind the layers with linears, that the checkpoint lacks as a whole (BERT's, after masked language modelling).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from .model_structure import backbone_prefix, embedding_modules, layer_stack

logger = logging.getLogger(__name__)
# Missing without harm: a count that nothing reads, and what masked pretraining alone puts in.
HARMLESS = re.compile(r"(^|\.)(num_batches_tracked|mask_token|position_ids|inv_freq)$")
HALVES = (torch.float16, torch.bfloat16)
FLOATS = (*HALVES, torch.float32, torch.float64)
STATISTICS = ("running_mean", "running_var")
BELONG = (
    "Give a folder whose config.json and weights were saved together; a model from scratch is a dict of settings (in "
    "the recipe, `model_config`)."
)


def check_only_head_is_new(
    model: nn.Module, loading_info: Mapping[str, Any], name: str, changed_settings: Iterable[str] = ()
) -> tuple[str, ...]:
    """Check that all but the head of a model comes from its checkpoint.

    Args:
        model: as loaded.
        loading_info: `from_pretrained`'s loading info.
        name: how messages call the checkpoint.
        changed_settings: settings of the config that the user has overridden.

    Returns:
        The names of the new weights, sorted: the head's, and a pooler's.

    Raises:
        ValueError: weights of the backbone are missing or of another shape, or the checkpoint has layers that the
            model has not (which settings that are overridden may ask for).
    """
    missing = {key for key in loading_info["missing_keys"] if not HARMLESS.search(key)}
    shapes = {
        key: (tuple(file_size), tuple(model_size)) for key, file_size, model_size in loading_info["mismatched_keys"]
    }
    pretrained_prefixes = _pretrained_prefixes(model)
    poolers = _pooler_prefixes(model, missing)
    missing_pretrained = sorted(k for k in missing if k.startswith(pretrained_prefixes) and not k.startswith(poolers))
    reshaped_pretrained = sorted(k for k in shapes if k.startswith(pretrained_prefixes))
    changed_settings = sorted(changed_settings)
    overridden = f" (model_kwargs: {', '.join(changed_settings)})" if changed_settings else ""
    if missing_pretrained or reshaped_pretrained:
        total = sum(1 for key in model.state_dict() if key.startswith(pretrained_prefixes))
        problems = []
        if missing_pretrained and len(missing_pretrained) > 0.9 * total:
            unexpected = sorted(loading_info["unexpected_keys"])
            file_content = f"; it holds {unexpected[0]!r} and others of that kind" if unexpected else ""
            problems.append(f"none of them, {missing_pretrained[0]!r} for one, is in the file{file_content}")
        elif missing_pretrained:
            problems.append(
                f"{_listed_names(missing_pretrained)} missing from the file{_layer_counts(model, missing_pretrained)}"
            )
        if reshaped_pretrained:
            reshaped_pretrained.sort(key=lambda key: -len(shapes[key][1]))  # a bias says less than a matrix
            file_shape, model_shape = (_shape_text(s) for s in shapes[reshaped_pretrained[0]])
            other_reshaped = (
                f" (and {len(reshaped_pretrained) - 1} more differ)" if len(reshaped_pretrained) > 1 else ""
            )
            problems.append(
                f"{reshaped_pretrained[0]!r} is {file_shape} in the file and {model_shape} by its "
                f"config{overridden}{other_reshaped}"
            )
        raise ValueError(
            f"{name}: only the head of a model may be new, and {len(missing_pretrained) + len(reshaped_pretrained)} "
            f"of the {total} other "
            f"weights do not come from the checkpoint: {'; '.join(problems)}. {BELONG}"
        )
    _check_unused_layers(model, loading_info["unexpected_keys"], name, changed_settings)
    return tuple(sorted({*missing, *shapes}))


def check_finite(model: nn.Module, name: str) -> None:
    """Check that a model's weights are loaded and finite.

    Args:
        model: plain or PEFT-wrapped; quantised weights, which are integers, are passed over.
        name: how messages call it.

    Raises:
        ValueError: weights on the meta device; a parameter, or a statistic of a batch norm, with NaN or infinity.
    """
    statistics = [(n, b) for n, b in model.named_buffers() if n.endswith(STATISTICS)]
    for key, tensor in [*model.named_parameters(), *statistics]:
        if tensor.is_meta:
            raise ValueError(
                f"{name}: {key!r} is on the meta device, a shape without numbers. Load the model without "
                "`device_map`, `init_empty_weights` or `torch.device('meta')`."
            )
        if tensor.dtype not in FLOATS or bool(torch.isfinite(tensor.detach().float().sum())):
            continue
        not_finite = int((~torch.isfinite(tensor.detach())).sum())
        if not_finite:
            raise ValueError(
                f"{name}: {key!r} holds {not_finite:,} values of {tensor.numel():,} that are NaN or infinite, which "
                "no "
                "training can repair. Take an earlier checkpoint, or load or save the model anew."
            )


def check_precision(model: nn.Module, name: str) -> None:
    """Warning of weights that are to be trained in half precision, as a checkpoint that was saved so is loaded."""
    trainable_parameters = [p for p in model.parameters() if p.requires_grad]
    half_precision = [p for p in trainable_parameters if p.dtype in HALVES]
    if half_precision:
        dtype_name = str(half_precision[0].dtype).removeprefix("torch.")
        logger.warning(
            "%s: its weights are %s and are trained as such, where steps below a %s of a weight are lost. "
            'model_kwargs={"dtype": "float32"} (in the recipe, --dtype float32) trains in full precision.',
            name,
            dtype_name,
            "thousandth" if half_precision[0].dtype == torch.float16 else "hundredth",
        )


def modules_of_weights(keys: Iterable[str]) -> str:
    """Names of the modules of weights, for one line."""
    return ", ".join(sorted({key.rpartition(".")[0] or key for key in keys}))


def _pretrained_prefixes(model: Any) -> tuple[str, ...]:
    """Prefixes of the names of what a checkpoint must bring."""
    try:
        module_names = [backbone_prefix(model), *embedding_modules(model)]
    except ValueError:  # no stack of layers: the family's own word for its backbone
        module_names = [getattr(model, "base_model_prefix", "")]
    module_names += [n for n, _ in model.named_children() if n.startswith("embed")]
    return tuple(f"{name}." for name in module_names if name)


def _pooler_prefixes(model: nn.Module, missing: set[str]) -> tuple[str, ...]:
    """Prefixes of modules behind the layers that are missing as a whole and no pretraining needs."""
    try:
        stack, _ = layer_stack(model)
    except ValueError:
        return ()
    prefixes: list[str] = []
    parent, *path = stack.split(".")
    for child in path:
        is_after_layers = False
        for name, module in model.get_submodule(parent).named_children():
            if is_after_layers and _may_be_new(module):
                keys = [f"{parent}.{name}.{key}" for key in module.state_dict()]
                prefixes += [f"{parent}.{name}."] if keys and missing.issuperset(keys) else []
            is_after_layers |= name == child
        parent = f"{parent}.{child}"
    return tuple(prefixes)


def _may_be_new(module: nn.Module) -> bool:
    """Whether a module is like a pooler: no norm, no table, no layers, no convolution."""
    kinds = (nn.ModuleList, nn.Embedding, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    return "norm" not in type(module).__name__.lower() and not any(isinstance(m, kinds) for m in module.modules())


def _check_unused_layers(model: nn.Module, unexpected: Iterable[str], name: str, changed_settings: list[str]) -> None:
    """Check for layers of the checkpoint that the model does not have, and for weights of layers that it reads
    otherwise."""
    try:
        stack, blocks = layer_stack(model)
    except ValueError:
        return
    layer_pattern = re.compile(rf"(?:{re.escape(stack)}|{re.escape(stack.partition('.')[2] or stack)})\.(\d+)\.")
    numbers = {key: int(match[1]) for key in unexpected if (match := layer_pattern.match(key))}
    extra_layers = sorted({number for number in numbers.values() if number >= len(blocks)})
    if extra_layers:
        problem = f"{name}: the checkpoint has {extra_layers[-1] + 1} layers, and its config says {len(blocks)}"
        if not changed_settings:
            raise ValueError(f"{problem}. {BELONG} To drop layers on purpose, use `transplant`.")
        logger.warning("%s, as model_kwargs ask (%s): the others are left out.", problem, ", ".join(changed_settings))
    unread_weights = sorted(key for key, number in numbers.items() if number < len(blocks))
    if unread_weights:
        logger.warning(
            "%s: %s of the checkpoint, which this %s has no place for, left out: was it saved with another config?",
            name,
            f"{unread_weights[0]!r} and {len(unread_weights) - 1} more weights"
            if len(unread_weights) > 1
            else repr(unread_weights[0]),
            type(model).__name__,
        )


def _layer_counts(model: nn.Module, missing_weights: list[str]) -> str:
    """Numbers of layers by the config and in the file, where whole layers are missing at the end."""
    try:
        stack, blocks = layer_stack(model)
    except ValueError:
        return ""
    layer_pattern = re.compile(rf"{re.escape(stack)}\.(\d+)\.")
    missing_layers = {int(match[1]) for key in missing_weights if (match := layer_pattern.match(key))}
    held_layers = min(missing_layers, default=0)
    if not held_layers or missing_layers != set(range(held_layers, len(blocks))):
        return ""
    return f" (its config says {len(blocks)} layers, the file holds {held_layers})"


def _listed_names(keys: list[str]) -> str:
    """The first names of a list with the count of the others, and the verb that follows."""
    joined_names = " and ".join(map(repr, keys[:2]))
    listed_names = f"{', '.join(map(repr, keys[:2]))} and {len(keys) - 2} more" if len(keys) > 2 else joined_names
    return f"{listed_names} {'is' if len(keys) == 1 else 'are'}"


def _shape_text(sizes: Iterable[int]) -> str:
    """A shape as text."""
    return " x ".join(map(str, sizes)) or "one number"
