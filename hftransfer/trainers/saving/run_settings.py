"""What a checkpoint says of the run that made it, and the comparison with the run that is to go on from it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from ...models.adapters import is_peft, plain_model
from ..trainer_access import joint_model_of

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
WHEN = ("unfreeze", "lp_epochs")
# Of an adapter's config: says where it came from, or how it is trained, not what it computes.
PASSING = ("base_model_name_or_path", "inference_mode", "revision", "peft_version", "auto_mapping", "task_type")
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
}
SHOWN = 80  # characters of a value in a message


def describe_run(trainer: Any) -> dict[str, Any]:
    """What has to be the same when a run goes on from a checkpoint, as plain JSON.

    Args:
        trainer: an `AdaptationTrainer`.
    """
    args = trainer.args
    model: Any = joint_model_of(trainer).model
    base = plain_model(model)
    sizes = {name: getattr(base.config, name, None) for name in SIZES}
    names = sorted(trainer.trainable.names)
    return {
        "model": {"class": type(base).__name__} | {k: v for k, v in sizes.items() if isinstance(v, (int, str))},
        "task": trainer.space.task,
        "labels": list(trainer.space.names),
        "sources": list(trainer.source_names),
        "adapter": {name: _adapter(config) for name, config in model.peft_config.items()} if is_peft(model) else None,
        "objectives": {
            spec.name: {"kind": spec.kind, "features": spec.features, **_plain(spec.settings)}
            for spec in args.objective_specs()
        },
        "trainable": {
            "choice": str(trainer.trainable),
            "names": hashlib.sha256("\n".join(names).encode()).hexdigest(),
        },
        "when": {name: _value(getattr(args, name)) for name in WHEN},
        "optimizer": {name: _value(getattr(args, name)) for name in RATES} | _passed(trainer),
    }


def write_settings(trainer: Any, folder: Path) -> None:
    """Writes `describe_run` into a checkpoint."""
    (folder / SETTINGS_FILE).write_text(json.dumps(describe_run(trainer), indent=2), encoding="utf-8")


def check_same_run(checkpoint: str, trainer: Any) -> None:
    """Makes sure that a run can go on from a checkpoint, before any of it is loaded.

    Weights, learning rates and data may be changed on purpose and are not compared. A checkpoint without a
    description (of an older version) is not compared either.

    Raises:
        ValueError: it was made with another model, labels, adapter, objectives, choice of what trains or optimizer.
    """
    path = Path(checkpoint) / SETTINGS_FILE
    if not path.is_file():
        return
    there = json.loads(path.read_text(encoding="utf-8"))
    here = json.loads(json.dumps(describe_run(trainer)))
    differing = [key for key in TITLES if key in there and not _same(key, there[key], here[key])]
    if not differing:
        return
    key = differing[0]
    also = f" (and {' and '.join(TITLES[other] for other in differing[1:])})" if differing[1:] else ""
    raise ValueError(
        f"{checkpoint} was made with {TITLES[key]}: {_difference(key, there[key], here[key])}{also}. Resume with the "
        "settings that it was made with, or start without resume_from_checkpoint; its model can be passed as `model`."
    )


def _same(key: str, there: Any, here: Any) -> bool:
    return there["names"] == here["names"] if key == "trainable" else there == here


def _difference(key: str, there: Any, here: Any) -> str:
    """In words: what is there in the checkpoint, and what here."""
    if key == "trainable":
        return f"there {there['choice']!r}, here {here['choice']!r}"
    if isinstance(there, Mapping) and isinstance(here, Mapping):
        pairs = _differing(there, here)
        shown = [f"{name} is {_show(old)} there and {_show(new)} here" for name, old, new in pairs[:3]]
        return "; ".join(shown) + " …" * (len(pairs) > 3)
    return f"{_show(there)} there, {_show(here)} here"


def _differing(there: Mapping[str, Any], here: Mapping[str, Any], where: str = "") -> list[tuple[str, Any, Any]]:
    """(name, value there, value here) of what differs, as deep as both are maps."""
    found: list[tuple[str, Any, Any]] = []
    for name in dict.fromkeys([*there, *here]):
        old, new = there.get(name), here.get(name)
        if old == new and (name in there) == (name in here):
            continue
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found += _differing(old, new, f"{where}{name}.")
        else:
            found.append((f"{where}{name}", old, new))
    return found


def _show(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, Mapping):
        inside = list(value.values())
        if inside and all(isinstance(item, Mapping) for item in inside):
            return ", ".join(map(_show, inside))
        value = value.get("kind") or value.get("peft_type") or value
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def _adapter(config: Any) -> dict[str, Any]:
    """What an adapter's config says of its shape and of what it computes."""
    given = {k: v for k, v in config.to_dict().items() if k not in PASSING and "dropout" not in k}
    return {k: v for k, v in _plain(given).items() if v not in (None, [], {})}


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


def _passed(trainer: Any) -> dict[str, Any]:
    """The class of an optimizer that the user passed, which `optim` does not name."""
    given = trainer.passed_optimizer
    return {} if given is None else {"optim": given}
