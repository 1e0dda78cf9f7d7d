"""Parameter sets that `trainable` and `freeze` name: the head, the last layers, norms, a block, a pattern."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from ..former_names import former_freeze
from ..messages import nearest
from ..settings import read_setting
from .model_structure import embedding_modules
from .parameter_blocks import Block, layer_name, num_layers

WORDS = {"trainable": ("all", "auto", "head", "norms", "biases"), "freeze": ("embeddings", "classifier")}
LAYERS = {"trainable": "last", "freeze": "first"}
NAMED = ("block", "pattern", "regex")
NORMS = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._NormBase)


@dataclass(frozen=True)
class ParameterSet:
    """One value of `trainable` or `freeze`: its kind, and its number or name."""

    setting: str
    kind: str
    argument: Any = None

    def __str__(self) -> str:
        if self.argument is None:
            return self.kind
        return f"{self.kind}{'_' if self.kind in ('last', 'first') else ':'}{self.argument}"

    @property
    def shown(self) -> str:
        """The value as messages show it, such as `freeze='first_2'`."""
        return f"{self.setting}={str(self)!r}"


def parse_trainable(value: Any) -> tuple[ParameterSet, ...]:
    """Parameter sets that may train, from the setting `trainable`; `None` is `all`.

    Args:
        value: `all`, `head`, `last_2`, `norms`, `biases`, `block:…`, `pattern:…`, `regex:…` or `auto`; a map such as
            `{"last": 2}` or `{"block": ["layer.0", "layer.1"]}`; a list of those; or JSON or YAML of a map or a list.

    Raises:
        ValueError: it is none of these.
    """
    if value is None:
        value = "all"
    sets = tuple(_parse_setting("trainable", value, value))
    kinds = [item.kind for item in sets]
    alone = next((kind for kind in ("auto", "all") if kind in kinds and len(kinds) > 1), None)
    if alone:
        raise ValueError(f"trainable={value!r}: {alone!r} stands alone, not in a list.")
    return sets


def parse_freeze(value: Any) -> tuple[ParameterSet, ...]:
    """Parameter sets that stay frozen, from the setting `freeze`; nothing for `None`.

    Args:
        value: `embeddings`, `classifier`, `first_2`, `block:…`, `pattern:…` or `regex:…`; a map such as
            `{"first": 2}`; a list of those; or JSON or YAML of a map or a list.

    Raises:
        ValueError: it is none of these, or a former value, which named what trains.
    """
    if value is None:
        return ()
    former = former_freeze(value)
    if former:
        raise ValueError(former)
    return tuple(_parse_setting("freeze", value, value))


def describe_choice(trainable: Any, freeze: Any) -> str:
    """Both settings as a message names them, without those that are left at their default.

    Example:
        >>> describe_choice("last_2", "embeddings")
        "trainable='last_2' and freeze='embeddings'"
    """
    chosen = [f"trainable={trainable!r}"] if trainable not in (None, "all") or freeze is None else []
    return " and ".join([*chosen, *([f"freeze={freeze!r}"] if freeze is not None else [])])


def is_default_choice(trainable: Any, freeze: Any) -> bool:
    """Whether both settings leave it to the model what trains."""
    return trainable in (None, "all") and freeze is None


def parameters_of(model: nn.Module, item: ParameterSet, blocks: list[Block], final_layer: str = "") -> set[str]:
    """Names of the parameters in a set; of a tensor with several names, those that the set has.

    Args:
        model: plain.
        item: any kind but `auto`.
        blocks: of the model, from `split_into_blocks`.
        final_layer: name of the linear layer whose output is the logits, for `classifier`.

    Raises:
        ValueError: the model has no such layers, module or parameters.
    """
    parameters_by_name = dict(model.named_parameters(remove_duplicate=False))
    head = {name for block in blocks if block.head for name in block.parameters}
    if item.kind == "all":
        return {name for name, parameter in parameters_by_name.items() if parameter.requires_grad}
    if item.kind == "head":
        return head
    if item.kind == "classifier":
        return {name for name in parameters_by_name if name.rpartition(".")[0] == final_layer}
    if item.kind in ("last", "first"):
        return _outer_layers(model, item, blocks)
    if item.kind == "embeddings":
        modules = embedding_modules(model)
        if not modules:
            raise ValueError(f"{item.shown}: {type(model).__name__} has no embeddings.")
        return {name for name in parameters_by_name if name.startswith(tuple(f"{module}." for module in modules))}
    if item.kind in ("norms", "biases"):
        names = norm_parameters(model) if item.kind == "norms" else bias_parameters(parameters_by_name)
        if not names - head:
            raise ValueError(f"{item.shown}: {type(model).__name__} has no {item.kind} outside its head.")
        return names | head
    return (
        _module_parameters(model, item, set(parameters_by_name))
        if item.kind == "block"
        else _matching_parameters(item, blocks, set(parameters_by_name))
    )


def norm_parameters(model: nn.Module) -> set[str]:
    """Names of the parameters of normalisation layers: by type, or of a class that calls itself a norm and has no
    matrices."""
    return {
        f"{name}.{parameter}".lstrip(".")
        for name, module in model.named_modules()
        if _is_norm(module)
        for parameter, _ in module.named_parameters(recurse=False)
    }


def bias_parameters(names: Iterable[str]) -> set[str]:
    """Names of bias parameters (a table of relative positions is none)."""
    return {name for name in names if name.endswith("bias")}


def _is_norm(module: nn.Module) -> bool:
    if isinstance(module, NORMS):
        return True
    parameters = [p for p in module._parameters.values() if p is not None]
    return "norm" in type(module).__name__.lower() and all(p.ndim <= 1 for p in parameters)


# ---- reading


def _parse_setting(setting: str, value: Any, whole: Any) -> Iterable[ParameterSet]:
    if isinstance(value, str) and value.lstrip().startswith(("{", "[")):
        value = read_setting(setting, value)
    if isinstance(value, (list, tuple)) and value:
        for item in value:
            yield from _parse_setting(setting, item, whole)
    elif isinstance(value, dict) and value:
        for kind, arguments in value.items():
            for argument in arguments if isinstance(arguments, list) else [arguments]:
                yield _parameter_set(setting, str(kind), argument, whole)
    elif isinstance(value, str):
        match = re.fullmatch(rf"({LAYERS[setting]})_(\d+)|(block|pattern|regex):(.+)", value.strip(), re.S)
        if match:
            argument = int(match[2]) if match[1] else match[4].strip()
            yield _parameter_set(setting, match[1] or match[3], argument, whole)
        elif value.strip() in WORDS[setting]:
            yield ParameterSet(setting, value.strip())
        else:
            raise _unknown_value_error(setting, value)
    else:
        raise _unknown_value_error(setting, whole)


def _parameter_set(setting: str, kind: str, argument: Any, whole: Any) -> ParameterSet:
    if kind == LAYERS[setting]:
        if isinstance(argument, bool) or not isinstance(argument, int):
            raise ValueError(f"{setting}={whole!r}: {kind} needs a number of layers, not {argument!r}.")
    elif kind not in NAMED:
        raise _unknown_value_error(setting, kind)
    elif isinstance(argument, bool) or not isinstance(argument, (str, int) if kind == "block" else str):
        raise ValueError(f"{setting}={whole!r}: {kind} needs a name, not {argument!r}.")
    if kind == "regex":
        try:
            re.compile(argument)
        except re.error as error:
            raise ValueError(f"{setting}={whole!r} is no regular expression: {error}.") from error
    return ParameterSet(setting, kind, argument)


def _unknown_value_error(setting: str, value: Any) -> ValueError:
    word = value.strip() if isinstance(value, str) else ""
    if (setting, word) in (("trainable", "none"), ("freeze", "all")):
        return ValueError(f"{setting}={value!r} leaves nothing to train; trainable='head' trains the head alone.")
    if setting == "trainable" and re.fullmatch(r"embeddings|first(_\d+)?", word):
        instead = "freeze='embeddings'" if word == "embeddings" else f"freeze={word!r}"
        return ValueError(
            f"trainable={value!r} is not one of {_known_values(setting)}. {instead} keeps them as they are; "
            "trainable='block:…' trains them alone."
        )
    examples = [*WORDS[setting], f"{LAYERS[setting]}_2"]
    return ValueError(f"{setting}={value!r} is not one of {_known_values(setting)}.{nearest(value, examples)}")


def _known_values(setting: str) -> str:
    value_forms = ("block:<name>", "pattern:<glob>", "regex:<expression>")
    return ", ".join([*WORDS[setting], f"{LAYERS[setting]}_<k>", *value_forms])


# ---- choosing


def _outer_layers(model: nn.Module, item: ParameterSet, blocks: list[Block]) -> set[str]:
    """Names of the parameters of the last layers and what stands above them, or of the first layers and what stands
    below them."""
    depth, count = num_layers(model), item.argument
    if not 1 <= count <= depth:
        raise ValueError(f"{item.shown}: {type(model).__name__} has {depth} layer{'s' * (depth != 1)}.")
    from_the_end = item.kind == "last"
    chosen_blocks = [
        block for block in blocks if (block.depth <= count if from_the_end else block.depth > depth - count)
    ]
    return {name for block in chosen_blocks for name in block.parameters}


def _module_parameters(model: nn.Module, item: ParameterSet, parameter_names: set[str]) -> set[str]:
    """Names of the parameters of one module: by its full name, by the end of it if only one ends so, or by a layer's
    number."""
    module_name = item.argument
    if re.fullmatch(r"-?\d+", str(module_name)):
        index, depth = int(module_name), num_layers(model)
        if not -depth <= index < depth:
            raise ValueError(
                f"{item.shown}: {type(model).__name__} has {depth} layers, 0 to {depth - 1} (or -1 for the last)."
            )
        module_name = layer_name(model, index)
    modules = [name for name, module in model.named_modules() if name and any(True for _ in module.parameters())]
    all_names = [*modules, *sorted(parameter_names)]
    exact_matches = [name for name in all_names if name == module_name]
    matches = exact_matches or [name for name in all_names if name.endswith(f".{module_name}")]
    if not matches:
        name_endings = [
            ".".join(parts[i:]) for name in modules for parts in [name.split(".")] for i in range(len(parts))
        ]
        raise ValueError(
            f"{item.shown}: {type(model).__name__} has no such module.{nearest(module_name, name_endings)} "
            "`print_policy(model)` lists its blocks."
        )
    if len(matches) > 1:
        raise ValueError(
            f"{item.shown} could be {', '.join(matches[:3])}{' …' * (len(matches) > 3)}. Say more of its name."
        )
    return {name for name in parameter_names if f"{name}.".startswith(f"{matches[0]}.")}


def _matching_parameters(item: ParameterSet, blocks: list[Block], parameter_names: set[str]) -> set[str]:
    """Names of the parameters that match by their own name or by that of a module that holds them."""

    def matches(name: str) -> bool:
        if item.kind == "regex":
            return re.search(item.argument, name) is not None
        parts = name.split(".")
        return any(fnmatchcase(".".join(parts[:end]), item.argument) for end in range(1, len(parts) + 1))

    matching = {name for name in parameter_names if matches(name)}
    if not matching:
        word = item.argument.strip("*.^$")
        all_names = [
            *sorted(parameter_names),
            *(block.name for block in blocks),
            *(p for n in sorted(parameter_names) for p in n.split(".")),
        ]
        raise ValueError(
            f"{item.shown} matches no parameter.{nearest(word, all_names)} `print_policy(model)` lists the blocks."
        )
    return matching
