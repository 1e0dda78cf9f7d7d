"""Structure of a model: its layers, embeddings and head, found without a table of names.

A layer is an entry of the outermost list of modules. In transformers, state-space models, MobileNets and EfficientNet
that is a block (in MobileNetV1 a convolution: depthwise and pointwise ones alternate); in Swin, ConvNeXt, ResNet and
RegNet it is a stage.
"""

from __future__ import annotations

from torch import nn

from .feature_hook import Head


def layer_stack(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """The stack of layers, by full name: the outermost `nn.ModuleList` with more than one block of a kind.

    Raises:
        ValueError: the model has no such stack.
    """
    module_lists = [(name, m) for name, m in model.named_modules() if isinstance(m, nn.ModuleList) and len(m)]
    if not module_lists:
        raise ValueError(f"{type(model).__name__} has no stack of layers (`nn.ModuleList`).")
    # The stack holds the most parameters; ALBERT's shared group is a list of one and still the only one.
    depth = min(name.count(".") for name, _ in module_lists)
    outer = [
        (n, m)
        for n, m in module_lists
        if n.count(".") == depth or not any(n.startswith(o + ".") for o, _ in module_lists)
    ]
    return max(outer, key=lambda item: sum(p.numel() for p in item[1].parameters()))


def backbone_prefix(model: nn.Module) -> str:
    """Name of the child that holds the layers (`bert`, `distilbert`, `model`, …)."""
    return layer_stack(model)[0].split(".")[0]


def head_modules(model: nn.Module, head: Head) -> list[str]:
    """Names of the children outside the backbone that hold parameters: the head and what comes just before it.

    Works where `model.base_model` is the model itself, since it goes by where the layers are. An encoder without a
    head has none.
    """
    if not head.name:
        return []
    prefix = backbone_prefix(model)
    names = [n for n, child in model.named_children() if n != prefix and any(True for _ in child.parameters())]
    final = head.name.split(".")[0]
    return names if final in names else [*names, final]


def embedding_modules(model: nn.Module) -> list[str]:
    """Names of the outermost modules that hold an `nn.Embedding` or are a patch embedding, outside the layers.

    A convolutional network has none; there it is the stem: whatever stands before the layers in the backbone.
    """
    stack, _ = layer_stack(model)
    embeddings: list[str] = []
    for name, module in model.named_modules():
        if name and not f"{name}.".startswith(f"{stack}.") and not f"{stack}.".startswith(f"{name}."):
            if name.split(".")[-1].endswith(
                ("embeddings", "embed_tokens", "wte", "wpe", "word_embedding")
            ) or isinstance(module, nn.Embedding):
                if not any(name.startswith(outer + ".") for outer in embeddings):
                    embeddings.append(name)
    return embeddings or _modules_before_layers(model, stack)


def _modules_before_layers(model: nn.Module, stack: str) -> list[str]:
    """Names of modules with parameters that stand before the layers, inside the backbone."""
    modules: list[str] = []
    parent, *path = stack.split(".")
    for child in path:
        for name, module in model.get_submodule(parent).named_children():
            if name == child:
                break
            if any(True for _ in module.parameters()):
                modules.append(f"{parent}.{name}")
        parent = f"{parent}.{child}"
    return modules
