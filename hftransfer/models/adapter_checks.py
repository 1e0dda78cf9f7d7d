"""Checks of an adapter: its config fits the model, and the head is trained and saved with it."""

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
    """Check of a PEFT config against its model: the task, the modules, the head.

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
        given_type = f"the class {config.__name__}" if isinstance(config, type) else type(config).__name__
        raise TypeError(f"peft_config must be a PEFT config such as LoraConfig(r=8), not {given_type}.")
    task_type = _task_type(config)
    model_task_type = next(
        (model_task_type for end, model_task_type in TASK_TYPES.items() if type(model).__name__.endswith(end)), None
    )
    if task_type is not None and model_task_type is not None and task_type != model_task_type:
        remedy = f", or give {model_task_type!r}" if model_task_type else "; PEFT has none for images"
        raise ValueError(
            f"peft_config: task_type={task_type!r} is not for {type(model).__name__}. Leave it out{remedy}."
        )
    module_names = [name for name, _ in model.named_modules(remove_duplicate=False) if name]
    saved = getattr(config, "modules_to_save", None)
    for field, listed_names in (
        ("target_modules", getattr(config, "target_modules", None)),
        ("modules_to_save", saved),
    ):
        if listed_names is None or isinstance(listed_names, str):
            continue
        for name in sorted(listed_names):
            if not any(_module_matches(module, name, field) for module in module_names):
                last_name_parts = (
                    []
                    if field == "modules_to_save"
                    else sorted({module.rpartition(".")[2] for module in module_names})
                )
                raise ValueError(
                    f"peft_config: {field} names {name!r}, and {type(model).__name__} has no such module; its head is "
                    f"{head.name!r}.{nearest(name, last_name_parts)}"
                )
    if not saved:  # open, or left empty on purpose
        return
    saved_names = [*saved, *HEADS_BY_TYPE.get(task_type or "", ())]
    covered = [
        module
        for module in module_names
        if any(_module_matches(module, name, "modules_to_save") for name in saved_names)
    ]
    modules_to_cover = [head.name, *sorted({key.rpartition(".")[0] for key in getattr(model, "fresh_weights", ())})]
    uncovered = next(
        (w for w in modules_to_cover if not any(f"{w}.".startswith(f"{module}.") for module in covered)), None
    )
    if uncovered is not None:
        described = "the head" if uncovered == head.name else "weights that the checkpoint lacks,"
        raise ValueError(
            f"peft_config: modules_to_save={sorted(saved)} leaves out {described} {uncovered!r}, which would be "
            "neither "
            "trained nor saved. Add it, or leave modules_to_save open; [] leaves the head as it is on purpose."
        )


def check_adapted_head(model: Any, head: Head, on_purpose: bool = False) -> None:
    """Check that what trains of an adapted model is saved with the adapter, the head included.

    Args:
        model: PEFT-wrapped.
        head: from `find_head`, of the wrapped model.
        on_purpose: the head may stay as it is (nothing asks it to learn).

    Raises:
        ValueError: the head is neither trained nor saved, or parameters are trained that no adapter saves.
    """
    name = _name_in_plain_model(head.name)
    configs = [model.peft_config[active] for active in active_adapter_names(model)]
    head_stays_on_purpose = on_purpose or any(getattr(config, "modules_to_save", None) == [] for config in configs)
    head_linear = model.get_submodule(head.name)
    head_trains = any(p.requires_grad for p in head_linear.parameters())
    if not head_trains and not head_stays_on_purpose:
        raise ValueError(
            f"The adapter leaves the head {name!r} as it is: it would be neither trained nor saved. Make the adapter "
            f"with modules_to_save=[{name!r}], or pass the plain model and `peft_config`; modules_to_save=[] leaves "
            "the head as it is on purpose."
        )
    unsaved = _unsaved_parameters(model)
    if unsaved:
        module = _name_in_plain_model(unsaved[0].rpartition(".")[0])
        raise ValueError(
            f"{len(unsaved)} parameters would be trained and not saved with the adapter: "
            f"{_name_in_plain_model(unsaved[0])!r} for "
            f"one. Freeze them, or make the adapter with modules_to_save=[{module!r}]."
        )


def adapter_on_head(model: Any) -> str | None:
    """Name of a module of the head that carries an adapter; `None` when there is none."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    base = model.get_base_model()
    backbone = f"{backbone_prefix(base)}."
    adapted_modules = [name for name, module in base.named_modules() if isinstance(module, BaseTunerLayer)]
    return next((name for name in adapted_modules if not name.startswith(backbone)), None)


def _unsaved_parameters(model: Any) -> list[str]:
    """Names of parameters that train and that no adapter's weights hold."""
    from peft import get_peft_model_state_dict

    if any(config.is_prompt_learning for config in model.peft_config.values()):
        return []
    saved_addresses: set[int] = set()
    for name in model.peft_config:
        adapter_weights = get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False)
        saved_addresses |= {tensor.data_ptr() for tensor in adapter_weights.values()}
    prefix = str(getattr(model.base_model, "prefix", "") or "\0")
    trainable_parameters = [(n, p) for n, p in model.named_parameters() if p.requires_grad and p.data_ptr()]
    return [n for n, p in trainable_parameters if p.data_ptr() not in saved_addresses and prefix not in n]


def _name_in_plain_model(name: str) -> str:
    """A module's name as the plain model has it."""
    for wrapper in (".modules_to_save", ".base_layer", ".original_module"):
        name = name.partition(wrapper)[0] if wrapper in name else name
    return name.removeprefix("base_model.model.")


def _task_type(config: Any) -> str | None:
    """A config's task type as text; `None` where it is left open."""
    task_type = getattr(config, "task_type", None)
    return None if task_type is None else str(getattr(task_type, "value", task_type))


def _module_matches(module: str, name: str, field: str) -> bool:
    """Whether a name means a module, as PEFT matches: saved modules by any end of their name, targets by whole
    components of it."""
    return module.endswith(name) if field == "modules_to_save" else f".{module}".endswith(f".{name}")
