"""Checks of an adapter: that its config means this model, and that the head is trained and saved with it."""

from __future__ import annotations

from typing import Any

from torch import nn

from ..messages import nearest
from .adapters import active_adapter_names
from .feature_hook import Head
from .model_structure import backbone_prefix

# Of a classifier's adapter, by the end of the class's name. PEFT has none for images, and that of sequences would wrap
# some of their heads twice.
TASK_TYPES = {
    "ForSequenceClassification": "SEQ_CLS",
    "ForTokenClassification": "TOKEN_CLS",
    "ForImageClassification": "",
}
HEADS_BY_TYPE = {"SEQ_CLS": ("classifier", "score"), "TOKEN_CLS": ("classifier", "score")}  # PEFT adds them itself


def check_adapter_config(model: nn.Module, config: Any, head: Head) -> None:
    """Makes sure that a PEFT config means this model: its task, its modules, its head.

    Args:
        model: plain.
        config: as the user gave it; what it leaves open is right.
        head: from `find_head`.

    Raises:
        TypeError: it is no PEFT config.
        ValueError: a task type of another kind, names that the model has no modules of, or saved modules among which
            the head is not.
    """
    if isinstance(config, type) or not hasattr(config, "peft_type"):
        what = f"the class {config.__name__}" if isinstance(config, type) else type(config).__name__
        raise TypeError(f"peft_config must be a PEFT config such as LoraConfig(r=8), not {what}.")
    kind = _task_type(config)
    right = next((right for end, right in TASK_TYPES.items() if type(model).__name__.endswith(end)), None)
    if kind is not None and right is not None and kind != right:
        other = f", or give {right!r}" if right else "; PEFT has none for images"
        raise ValueError(f"peft_config: task_type={kind!r} is not for {type(model).__name__}. Leave it out{other}.")
    names = [name for name, _ in model.named_modules(remove_duplicate=False) if name]
    saved = getattr(config, "modules_to_save", None)
    for field, given in (("target_modules", getattr(config, "target_modules", None)), ("modules_to_save", saved)):
        if given is None or isinstance(given, str):
            continue
        for name in sorted(given):
            if not any(_module_matches(module, name, field) for module in names):
                last = [] if field == "modules_to_save" else sorted({module.rpartition(".")[2] for module in names})
                raise ValueError(
                    f"peft_config: {field} names {name!r}, and {type(model).__name__} has no such module; its head is "
                    f"{head.name!r}.{nearest(name, last)}"
                )
    if not saved:  # open, or left empty on purpose
        return
    own = [*saved, *HEADS_BY_TYPE.get(kind or "", ())]
    covered = [module for module in names if any(_module_matches(module, name, "modules_to_save") for name in own)]
    wanted = [head.name, *sorted({key.rpartition(".")[0] for key in getattr(model, "fresh_weights", ())})]
    lacking = next((w for w in wanted if not any(f"{w}.".startswith(f"{module}.") for module in covered)), None)
    if lacking is not None:
        what = "the head" if lacking == head.name else "weights that the checkpoint lacks,"
        raise ValueError(
            f"peft_config: modules_to_save={sorted(saved)} leaves out {what} {lacking!r}, which would be neither "
            "trained nor saved. Add it, or leave modules_to_save open; [] leaves the head as it is on purpose."
        )


def check_adapted_head(model: Any, head: Head, on_purpose: bool = False) -> None:
    """Makes sure that what trains of an adapted model is saved with the adapter, and that its head is among it.

    Args:
        model: PEFT-wrapped.
        head: from `find_head`, of the wrapped model.
        on_purpose: the head may stay as it is (nothing asks it to learn).

    Raises:
        ValueError: the head is neither trained nor saved, or parameters are trained that no adapter saves.
    """
    name = _plain_name(head.name)
    configs = [model.peft_config[active] for active in active_adapter_names(model)]
    kept = on_purpose or any(getattr(config, "modules_to_save", None) == [] for config in configs)
    final = model.get_submodule(head.name)
    trains = any(p.requires_grad for p in final.parameters())
    if not trains and not kept:
        raise ValueError(
            f"The adapter leaves the head {name!r} as it is: it would be neither trained nor saved. Make the adapter "
            f"with modules_to_save=[{name!r}], or pass the plain model and `peft_config`; modules_to_save=[] leaves "
            "the head as it is on purpose."
        )
    lost = _unsaved_parameters(model)
    if lost:
        module = _plain_name(lost[0].rpartition(".")[0])
        raise ValueError(
            f"{len(lost)} parameters would be trained and not saved with the adapter: {_plain_name(lost[0])!r} for "
            f"one. Freeze them, or make the adapter with modules_to_save=[{module!r}]."
        )


def adapter_on_head(model: Any) -> str | None:
    """The name of a part of the head that an adapter was put on; `None` when there is none."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    base = model.get_base_model()
    inside = f"{backbone_prefix(base)}."
    named = [name for name, module in base.named_modules() if isinstance(module, BaseTunerLayer)]
    return next((name for name in named if not name.startswith(inside)), None)


def _unsaved_parameters(model: Any) -> list[str]:
    """Names of parameters that train and that no adapter's weights hold."""
    from peft import get_peft_model_state_dict

    if any(config.is_prompt_learning for config in model.peft_config.values()):
        return []
    held: set[int] = set()
    for name in model.peft_config:
        own = get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False)
        held |= {tensor.data_ptr() for tensor in own.values()}
    prefix = str(getattr(model.base_model, "prefix", "") or "\0")
    trained = [(n, p) for n, p in model.named_parameters() if p.requires_grad and p.data_ptr()]
    return [n for n, p in trained if p.data_ptr() not in held and prefix not in n]


def _plain_name(name: str) -> str:
    """A module's name as the plain model has it."""
    for wrapper in (".modules_to_save", ".base_layer", ".original_module"):
        name = name.partition(wrapper)[0] if wrapper in name else name
    return name.removeprefix("base_model.model.")


def _task_type(config: Any) -> str | None:
    kind = getattr(config, "task_type", None)
    return None if kind is None else str(getattr(kind, "value", kind))


def _module_matches(module: str, name: str, field: str) -> bool:
    """As PEFT matches: saved modules by any end of their name, targets by whole parts of it."""
    return module.endswith(name) if field == "modules_to_save" else f".{module}".endswith(f".{name}")
