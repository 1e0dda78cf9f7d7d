"""Parameter blocks from input to head: what freezing, layer-wise rates and tables go by."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import takewhile

from torch import nn

from .adapters import is_peft, plain_model
from .feature_hook import Head
from .model_structure import embedding_modules, head_modules, layer_stack


@dataclass(frozen=True)
class Block:
    """One block of a model's parameters: a layer, the embeddings, the head.

    Args:
        name: of the module.
        depth: how far below the head: 0 for the head and for what stands between it and the layers, 1 for the last
            layer, 2 for the one before it, …; one more than there are layers for what stands before them.
        head: whether it belongs to the task's head. Weights that the checkpoint lacked do, wherever they stand.
        parameters: full names; a tensor with several names has each of them in its own block.
    """

    name: str
    depth: int
    head: bool
    parameters: tuple[str, ...]


def split_into_blocks(model: nn.Module, head: Head | None = None) -> list[Block]:
    """Blocks of a model, each parameter in one of them, in the order in which inputs pass them.

    Args:
        model: plain or PEFT-wrapped.
        head: from `find_head`; without it, nothing but weights that the checkpoint lacked counts as head.
    """
    inner, prefix = _model_inside_adapter(model)
    stack, depth_of_layers, after_layers = _stack(inner)
    head_prefixes = [f"{name}." for name in _head_names(inner, prefix, head)]
    fresh_weights = set(getattr(inner, "fresh_weights", ()))
    parameters_by_block: dict[tuple[int, bool, str], list[str]] = {}
    for name, _ in model.named_parameters(remove_duplicate=False):
        plain_name = name.removeprefix(prefix)
        module_name = _block_module(plain_name, stack)
        if plain_name.startswith(tuple(head_prefixes)) or _name_without_adapter(plain_name) in fresh_weights:
            block_key = (0, True, module_name)
        elif module_name.startswith(f"{stack}."):
            block_key = (depth_of_layers - int(module_name.rpartition(".")[2]), False, module_name)
        elif f"{module_name}.".startswith(after_layers):
            block_key = (0, False, module_name)
        else:
            block_key = (depth_of_layers + 1, False, module_name)
        parameters_by_block.setdefault(block_key, []).append(name)
    blocks = [
        Block(module_name, depth, top, tuple(parameters))
        for (depth, top, module_name), parameters in parameters_by_block.items()
    ]
    return sorted(blocks, key=lambda block: (-block.depth, block.head))  # stable: as registered within a depth


def num_layers(model: nn.Module) -> int:
    """Number of layers in the stack; 0 where there is none."""
    return _stack(_model_inside_adapter(model)[0])[1]


def layer_name(model: nn.Module, index: int) -> str:
    """Full name of a layer of the stack, counted from its end if negative."""
    stack, depth, _ = _stack(_model_inside_adapter(model)[0])
    return f"{stack}.{index if index >= 0 else depth + index}"


def unwrapped_name(name: str) -> str:
    """A parameter's name without the prefixes of FSDP, compilation and activation checkpointing."""
    for wrapper in ("_fsdp_wrapped_module.", "_checkpoint_wrapped_module.", "_orig_mod."):
        name = name.replace(wrapper, "")
    return name


def _model_inside_adapter(model: nn.Module) -> tuple[nn.Module, str]:
    """The plain model inside an adapter, and the prefix of its names; the model itself if there is no adapter."""
    if not is_peft(model):
        return model, ""
    inner = plain_model(model)
    return inner, next(f"{name}." for name, module in model.named_modules() if module is inner)


def _stack(model: nn.Module) -> tuple[str, int, tuple[str, ...]]:
    """Name of the stack of layers, their number, and prefixes of the modules between them and the head."""
    try:
        stack, blocks = layer_stack(model)
    except ValueError:
        return "", 0, ()
    return stack, len(blocks), tuple(_modules_after_layers(model, stack))


def _name_without_adapter(name: str) -> str:
    """A parameter's name before an adapter was put on the model."""
    for wrapper in ("original_module.", "modules_to_save.default.", "base_layer."):
        name = name.replace(wrapper, "")
    return unwrapped_name(name)


def _head_names(inner: nn.Module, prefix: str, head: Head | None) -> list[str]:
    """Names of the head's modules in the plain model."""
    if head is None:
        return []
    head_in_plain_model = replace(head, name=head.name.removeprefix(prefix))
    try:
        return head_modules(inner, head_in_plain_model)
    except ValueError:  # no layers to tell the backbone by
        return [head_in_plain_model.name.split(".")[0]]


def _block_module(name: str, stack: str) -> str:
    """The outermost module that holds a parameter and not the stack; a layer, if the parameter is in the stack."""
    parts = name.split(".")
    if stack and name.startswith(f"{stack}."):
        return ".".join(parts[: stack.count(".") + 2])
    for end in range(1, len(parts)):
        unit = ".".join(parts[:end])
        if not f"{stack}.".startswith(f"{unit}."):
            return unit
    return name


def _modules_after_layers(model: nn.Module, stack: str) -> list[str]:
    """Prefixes of backbone modules after the layers (pooler, final norm).

    Relative positions stand there too in some models, but serve all layers: from an embedding on, nothing is counted.
    """
    embeddings = set(embedding_modules(model))
    parent, _, child = stack.rpartition(".")
    prefixes: list[str] = []
    while parent:
        children = [n for n, _ in model.get_submodule(parent).named_children()]
        later_modules = [f"{parent}.{n}" for n in children[children.index(child) + 1 :]]
        prefixes += [f"{n}." for n in takewhile(lambda n: n not in embeddings, later_modules)]
        parent, _, child = parent.rpartition(".")
    return prefixes
