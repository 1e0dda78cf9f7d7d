"""The parts of a model, read off its structure: layers, embeddings, head. No table of names."""

from __future__ import annotations

from torch import nn

from .tap import Head


def layers(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """The outermost `nn.ModuleList` with more than one kind-equal block, by full name: the stack of layers.

    Raises:
        ValueError: the model has no such stack.
    """
    found = [(name, m) for name, m in model.named_modules() if isinstance(m, nn.ModuleList) and len(m)]
    if not found:
        raise ValueError(f"{type(model).__name__} has no stack of layers (`nn.ModuleList`).")
    # The stack holds the most parameters; ALBERT's shared group is a list of one and still the only one.
    depth = min(name.count(".") for name, _ in found)
    outer = [(n, m) for n, m in found if n.count(".") == depth or not any(n.startswith(o + ".") for o, _ in found)]
    return max(outer, key=lambda item: sum(p.numel() for p in item[1].parameters()))


def backbone_prefix(model: nn.Module) -> str:
    """Name of the child that holds the layers (`bert`, `distilbert`, `model`, …)."""
    return layers(model)[0].split(".")[0]


def head_modules(model: nn.Module, head: Head) -> list[str]:
    """Names of the children outside the backbone that hold parameters: the head and what comes just before it.

    Works where `model.base_model` is the model itself, since it goes by where the layers are.
    """
    prefix = backbone_prefix(model)
    names = [n for n, child in model.named_children() if n != prefix and any(True for _ in child.parameters())]
    final = head.name.split(".")[0]
    return names if final in names else [*names, final]


def embeddings(model: nn.Module) -> list[str]:
    """Names of the outermost modules before the layers that hold an `nn.Embedding` or are a patch embedding."""
    stack, _ = layers(model)
    found: list[str] = []
    for name, module in model.named_modules():
        if name and not f"{name}.".startswith(f"{stack}.") and not f"{stack}.".startswith(f"{name}."):
            if name.split(".")[-1].endswith(
                ("embeddings", "embed_tokens", "wte", "wpe", "word_embedding")
            ) or isinstance(module, nn.Embedding):
                if not any(name.startswith(outer + ".") for outer in found):
                    found.append(name)
    return found
