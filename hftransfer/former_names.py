"""Former names of settings and arguments, and what to write now."""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from .messages import nearest, redacted
from .settings import read_setting

# Of TrainingArguments, up to transformers 4.
SETTINGS = {
    "evaluation_strategy": "it is called eval_strategy now",
    "evaluate_during_training": "set eval_strategy='steps'",
    "warmup_ratio": "warmup_steps below 1 is a share of all steps",
    "no_cuda": "it is called use_cpu now",
    "use_mps_device": "MPS is used where it is there",
    "adafactor": "set optim='adafactor'",
    "group_by_length": "length_aware=True, which is the default, puts rows of similar length together",
    "per_gpu_train_batch_size": "it is called per_device_train_batch_size now",
    "per_gpu_eval_batch_size": "it is called per_device_eval_batch_size now",
    "train_batch_size": "it is called per_device_train_batch_size",
    "eval_batch_size": "it is called per_device_eval_batch_size",
    "batch_size": "it is called per_device_train_batch_size",
    "epochs": "it is called num_train_epochs",
    "num_epochs": "it is called num_train_epochs",
    "lr": "it is called learning_rate",
    "logging_dir": "set the variable TENSORBOARD_LOGGING_DIR",
    "include_inputs_for_metrics": "set include_for_metrics=['inputs']",
    "push_to_hub_model_id": "it is called hub_model_id now",
    "push_to_hub_token": "it is called hub_token now",
    "push_to_hub_organization": "put it in front, as hub_model_id='organization/name'",
    "half_precision_backend": "set bf16 or fp16",
    "fp16_backend": "set bf16 or fp16",
    "fp16_opt_level": "set bf16 or fp16",
    "fsdp_min_num_params": "it stands in fsdp_config",
    "fsdp_transformer_layer_cls_to_wrap": "it stands in fsdp_config",
    "save_safetensors": "weights are always saved as safetensors",
    "xpu_backend": "it is called ddp_backend now",
    "ray_scope": "hyperparameter_search runs its trials in this process",
    "torchdynamo": "set torch_compile_backend",
    "jit_mode_eval": "set torch_compile",
    "use_ipex": "torch does it by itself",
    "past_index": "classifiers have no past",
    "mp_parameters": "sharding is said by fsdp",
    "tpu_num_cores": "the launcher says it",
    "dispatch_batches": "it stands in accelerator_config",
    "split_batches": "it stands in accelerator_config",
}
# Of Trainer.
ARGUMENTS = {
    "tokenizer": "it is called processing_class now",
    "feature_extractor": "it is called processing_class now",
    "image_processor": "it is called processing_class",
    "processor": "it is called processing_class",
    "config": "it is called args",
    "training_args": "it is called args",
    "eval_datasets": "it is called eval_dataset, which may be a dict of several",
    "train_datasets": "it is called train_dataset, which may be a dict of several",
    "source_dataset": "it is called train_dataset",
    "lora_config": "it is called peft_config",
    "collate_fn": "it is called data_collator",
    "metrics": "it is called compute_metrics",
}
# Of an objective's schedule.
SCHEDULES = {"peak": "an objective's weight is what it counts at the schedule's end"}
# Of an objective: inputs that `forward` names.
OBJECTIVE_INPUTS = {
    "target_rerun": "it is called perturbed_target_forward now",
    "moved_weights": "it is called trained_weights now",
}

Class = TypeVar("Class", bound=type)


def checks_names(owner: str, former: dict[str, str]) -> Callable[[Class], Class]:
    """Decorator of dataclasses: a keyword that is no field raises a `TypeError` with its present name.

    Args:
        owner: as in `no_such`.
        former: names that there were.
    """

    def decorate(cls: Class) -> Class:
        dataclass_init: Any = cls.__init__  # type: ignore[misc]

        @functools.wraps(dataclass_init)
        def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
            known = [name for name, field in self.__dataclass_fields__.items() if field.init]
            for name in kwargs:
                if name not in known:
                    raise TypeError(no_such(owner, name, known, former))
            dataclass_init(self, *args, **kwargs)

        cls.__init__ = __init__  # type: ignore[misc]
        return cls

    return decorate


def no_such(owner: str, name: str, known: Iterable[str], former: dict[str, str]) -> str:
    """Error message about an unknown name: what it is called now, or the nearest name.

    Args:
        owner: what has no such thing, as in "AdaptationConfig has no setting".
        name: as it was given.
        known: names that there are.
        former: `SETTINGS` or `ARGUMENTS`.

    Example:
        >>> no_such("AdaptationConfig has no setting", "no_cuda", [], SETTINGS)
        "AdaptationConfig has no setting 'no_cuda': it is called use_cpu now."
    """
    shown = redacted(name)
    if name in former:
        return f"{owner} {shown!r}: {former[name]}."
    return f"{owner} {shown!r}.{nearest(name, known)}"


def former_peak(schedule: Mapping[str, Any], weight: Any = 1.0) -> str:
    """Error message about a schedule with a `peak`, by which its objective's weight was multiplied.

    Args:
        schedule: with `peak`.
        weight: as it was given; 1 where it was not.

    Example:
        >>> former_peak({"name": "linear", "peak": 0.2}, 0.5)
        "a schedule has no 'peak': ... Write weight: 0.1, schedule: linear."
    """
    shape = {key: value for key, value in schedule.items() if key != "peak"}
    shape_text = shape.get("name") if set(shape) == {"name"} else json.dumps(shape, default=str)
    try:
        product = float(weight) * float(schedule["peak"])
    except (TypeError, ValueError):
        product = math.nan
    weight_text = f"{product:g}" if 0 <= product < math.inf else "weight times peak"
    return f"a schedule has no 'peak': {SCHEDULES['peak']}. Write weight: {weight_text}, schedule: {shape_text}."


def former_freeze(value: Any) -> str | None:
    """Error message about a former value of `freeze`, one that said what trains; `None` for any other value.

    Args:
        value: as it was given.

    Example:
        >>> former_freeze("last_2")
        "freeze='last_2': freeze says what stays as it is, and trainable what trains. Write trainable='last_2'."
    """
    if isinstance(value, str) and value.lstrip().startswith(("{", "[")):
        return former_freeze(read_setting("freeze", value))
    if value == "none":
        return "freeze='none': what trains is said by trainable, which is 'all' by default. Leave freeze out."
    items = value if isinstance(value, (list, tuple)) else [value]
    if not any(_is_named(item, "none|auto|head|norms|biases", "last") for item in items):
        return None
    written = f"Write trainable={value!r}."
    if any(_is_named(item, "embeddings", "first") for item in items):
        written = "Write what is to train in trainable, and leave the rest of the list in freeze."
    return f"freeze={value!r}: freeze says what stays as it is, and trainable what trains. {written}"


def _is_named(item: Any, names: str, layer_key: str) -> bool:
    if isinstance(item, Mapping):
        return layer_key in item
    return isinstance(item, str) and re.fullmatch(rf"{names}|{layer_key}_\d+", item.strip()) is not None
