"""Run settings in a checkpoint: those of the run that made it, compared with the run that goes on from it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...models.adapters import is_peft, plain_model
from ..trainer_access import config_of, joint_model_of, passed_optimizer_of

if TYPE_CHECKING:
    from transformers import Trainer

    from ...models.freezing import TrainableReport
    from ..setup.preparation import Prepared

SETTINGS_FILE = "_adaptation_settings.json"  # in checkpoints only; the underscore keeps it from being uploaded
SIZES = ("model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size")
RATES = (  # what an optimizer's state is cut by
    "optim",
    "layer_decay",
    "head_lr_multiplier",
    "backbone_lr_multiplier",
    "objective_lr_multiplier",
    "lr_scheduler_type",
)
UNFREEZING = ("unfreeze", "lp_epochs")
# Of an adapter's config: says where it came from, or how it is trained, not what it computes.
UNCOMPARED = ("base_model_name_or_path", "inference_mode", "revision", "peft_version", "auto_mapping", "task_type")
TITLES = {
    "model": "another model",
    "task": "another task",
    "labels": "other labels",
    "sources": "other sources",
    "adapter": "another adapter",
    "objectives": "other objectives",
    "trainable": "another choice of what trains",
    "when": "another schedule of what trains",
    "optimizer": "another optimizer or other rates",
    "start": "another model to start from",
    "masking": "another masking of words",
}
LONGEST_VALUE = 80  # characters of a value in a message


def describe_run(trainer: Trainer, prepared: Prepared) -> dict[str, Any]:
    """Settings that must be the same when a run goes on from a checkpoint, as plain JSON.

    Args:
        trainer: an `AdaptationTrainer`.
        prepared: from `prepare`.
    """
    args = config_of(trainer)
    joint: Any = joint_model_of(trainer)
    model = joint.model
    return {
        "model": describe_model(model),
        "task": prepared.label_space.task,
        "labels": list(prepared.label_space.names),
        "sources": list(prepared.source_names),
        "adapter": describe_adapters(model),
        "objectives": {
            spec.name: {"kind": spec.kind, "features": spec.features, **_plain(spec.settings)}
            | _statistics(joint.objectives, spec.name)
            for spec in args.objective_specs()
        },
        "trainable": describe_trainable(prepared.trainable),
        "when": {name: _value(getattr(args, name)) for name in UNFREEZING},
        "optimizer": describe_optimizer(args) | _passed(trainer),
    }


def _statistics(objectives: Any, name: str) -> dict[str, str]:
    """Published statistics of an objective, by their content: a folder may be moved, and filled anew."""
    published = getattr(objectives.by_name[name], "published", None) if name in objectives.by_name else None
    return {} if published is None else {"statistics": f"sha256 {published.facts['sha256'][:12]}"}


def describe_model(model: Any) -> dict[str, Any]:
    """Class and sizes of a model, without its adapter."""
    base = plain_model(model)
    sizes = {name: getattr(base.config, name, None) for name in SIZES}
    return {"class": type(base).__name__} | {k: v for k, v in sizes.items() if isinstance(v, (int, str))}


def describe_adapters(model: Any) -> dict[str, Any] | None:
    """Settings of a model's adapters by name; `None` without."""
    return {name: _adapter(config) for name, config in model.peft_config.items()} if is_peft(model) else None


def describe_trainable(report: TrainableReport) -> dict[str, str]:
    """What trains of a model: in words, and the digest of the parameters' names."""
    names = "\n".join(sorted(report.names))
    return {"choice": str(report), "names": hashlib.sha256(names.encode()).hexdigest()}


def describe_optimizer(args: Any) -> dict[str, Any]:
    """Settings that an optimizer's state is cut by."""
    return {name: _value(getattr(args, name)) for name in RATES}


def write_settings(description: Mapping[str, Any], folder: Path) -> None:
    """Settings file of a checkpoint, written from a run's description."""
    (folder / SETTINGS_FILE).write_text(json.dumps(description, indent=2), encoding="utf-8")


def check_same_run(checkpoint: str, description: Mapping[str, Any]) -> None:
    """Check that a run can go on from a checkpoint, before any of it is loaded.

    Weights, learning rates and data may be changed on purpose and are not compared. A checkpoint without a
    description (of an older version) is not compared either.

    Args:
        checkpoint: its folder.
        description: of the run that goes on, such as `describe_run` gives.

    Raises:
        ValueError: it was made with another model, labels, adapter, objectives, choice of what trains or optimizer.
    """
    path = Path(checkpoint) / SETTINGS_FILE
    if not path.is_file():
        return
    saved = json.loads(path.read_text(encoding="utf-8"))
    current = json.loads(json.dumps(description))
    differing = [key for key in TITLES if key in saved and not _same(key, saved[key], current[key])]
    if not differing:
        return
    key = differing[0]
    also = f" (and {' and '.join(TITLES[title] for title in differing[1:])})" if differing[1:] else ""
    raise ValueError(
        f"{checkpoint} was made with {TITLES[key]}: {_difference(key, saved[key], current[key])}{also}. Resume with "
        "the settings that it was made with, or start without resume_from_checkpoint; its model can be passed as "
        "`model`."
    )


def _same(key: str, saved: Any, current: Any) -> bool:
    return saved["names"] == current["names"] if key == "trainable" else saved == current


def _difference(key: str, saved: Any, current: Any) -> str:
    """Difference in words: `there` is the checkpoint, `here` the run."""
    if key == "trainable":
        return f"there {saved['choice']!r}, here {current['choice']!r}"
    if isinstance(saved, Mapping) and isinstance(current, Mapping):
        pairs = _differing(saved, current)
        listed = [
            f"{name} is {_show(saved_value)} there and {_show(run_value)} here"
            for name, saved_value, run_value in pairs[:3]
        ]
        return "; ".join(listed) + " …" * (len(pairs) > 3)
    return f"{_show(saved)} there, {_show(current)} here"


def _differing(saved: Mapping[str, Any], current: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any, Any]]:
    """Differences of two maps, nested ones too: (name, value in the checkpoint, value of the run)."""
    differences: list[tuple[str, Any, Any]] = []
    for name in dict.fromkeys([*saved, *current]):
        saved_value, run_value = saved.get(name), current.get(name)
        if saved_value == run_value and (name in saved) == (name in current):
            continue
        if isinstance(saved_value, Mapping) and isinstance(run_value, Mapping):
            differences += _differing(saved_value, run_value, f"{prefix}{name}.")
        else:
            differences.append((f"{prefix}{name}", saved_value, run_value))
    return differences


def _show(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, Mapping):
        values = list(value.values())
        if values and all(isinstance(item, Mapping) for item in values):
            return ", ".join(map(_show, values))
        value = value.get("kind") or value.get("peft_type") or value
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"


def _adapter(config: Any) -> dict[str, Any]:
    """Settings of an adapter that decide its shape and what it computes."""
    relevant = {k: v for k, v in config.to_dict().items() if k not in UNCOMPARED and "dropout" not in k}
    return {k: v for k, v in _plain(relevant).items() if v not in (None, [], {})}


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {str(k): _value(v) for k, v in settings.items()}


def _value(value: Any) -> Any:
    """A setting as JSON, the same in every process: sets are sorted, functions and objects go by their name."""
    if isinstance(value, Enum):
        return _value(value.value)
    if isinstance(value, Mapping):
        return _plain(value)
    if isinstance(value, (list, tuple, set, frozenset)):
        items = [_value(item) for item in value]
        return sorted(items, key=str) if isinstance(value, (set, frozenset)) or _words(items) else items
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return getattr(value, "__qualname__", type(value).__qualname__)


def _words(items: list[Any]) -> bool:
    return all(isinstance(item, str) for item in items)


def _passed(trainer: Trainer) -> dict[str, str]:
    """Class of an optimizer that the user passed, which `optim` does not name."""
    optimizer_class = passed_optimizer_of(trainer)
    return {} if optimizer_class is None else {"optim": optimizer_class}
