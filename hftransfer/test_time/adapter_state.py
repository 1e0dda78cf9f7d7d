"""State of an adapter as tensors and facts: adapted weights, optimizer, averages, draws and counts."""

from __future__ import annotations

import copy as copying
from collections.abc import Mapping
from typing import Any

import torch

from ..models.adapters import plain_model
from .stream_monitor import AVERAGES

CLASS_AVERAGES = ("adapted", "start", "learned")  # of probabilities
PARTS = ("momentum_buffer", "exp_avg", "exp_avg_sq", "step")  # of an optimizer's state
REMEDY = "Load another state, or start the stream anew."
COUNTS = ("batches", "rows", "learned_rows", "steps", "skipped_steps", "resets")


def collect_state(adapter: Any) -> dict[str, Any]:
    """State of a `TestTimeAdapter`, a copy; see its `state_dict`."""
    tensors = {f"weights.{name}": value for name, value in adapter.weights.values.items()}
    for name, value in zip(adapter.weights.values, adapter.weights.values.values(), strict=True):
        for key, held in adapter.optimizer.state[value].items():
            if isinstance(held, torch.Tensor):
                tensors[f"optimizer.{key}.{name}"] = held
    for name in AVERAGES:
        average = getattr(adapter.monitor, name)
        if average is not None:
            tensors[f"average.{name}"] = average
    tensors |= {f"fisher.{name}": value for name, value in (adapter.fisher or {}).items()}
    tensors["draws"] = adapter.draws.get_state()
    facts = {"method": adapter.method, "settings": adapter.settings.__dict__, "counts": adapter.counts,
             "model": adapter.start_identity()}  # fmt: skip
    return copying.deepcopy({"tensors": {k: v.detach() for k, v in tensors.items()}, "facts": facts})


def apply_state(adapter: Any, state: Mapping[str, Any]) -> None:
    """State put into a `TestTimeAdapter`; see its `load_state_dict`.

    Raises:
        ValueError: it does not fit; nothing has changed then.
    """
    try:
        tensors, facts = dict(state["tensors"]), dict(state["facts"])
        settings, counts, identity = dict(facts["settings"]), dict(facts["counts"]), facts["model"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError("This is no state of a TestTimeAdapter: it lacks tensors and facts.") from error
    own = adapter.settings.__dict__
    for name in own | settings:
        if settings.get(name) != own.get(name):
            raise ValueError(
                f"The state was made with {name}={settings.get(name)!r}, and this adapter has {name}="
                f"{own.get(name)!r}: make the adapter with the same settings."
            )
    if identity != adapter.start_identity():
        raise ValueError(
            "The state belongs to another model: the start weights or the structure differ. Load the model that "
            "the stream was started with."
        )
    _check_tensors(adapter, tensors)
    if set(counts) != set(COUNTS) or any(type(count) is not int or count < 0 for count in counts.values()):
        raise ValueError(f"The state is not whole: counts must hold {', '.join(COUNTS)}, each 0 or more. {REMEDY}")
    adapter.forget()
    device = next(adapter.model.parameters()).device
    for name, value in adapter.weights.values.items():
        value.copy_(tensors[f"weights.{name}"])
        for part in PARTS:
            if f"optimizer.{part}.{name}" in tensors:
                on = "cpu" if part == "step" else device
                adapter.optimizer.state[value][part] = tensors[f"optimizer.{part}.{name}"].clone().to(on)
    adapter.weights.write()
    for name in AVERAGES:
        average = tensors.get(f"average.{name}")
        setattr(adapter.monitor, name, None if average is None else average.clone().to(device))
    if adapter.fisher is not None:
        adapter.fisher = {name: tensors[f"fisher.{name}"].clone().to(device) for name in adapter.weights.values}
    adapter.draws.set_state(tensors["draws"].cpu())
    adapter.counts = {name: counts[name] for name in COUNTS}


def check_finite(tensors: Mapping[str, torch.Tensor]) -> None:
    """Check that a state holds numbers alone.

    Raises:
        ValueError: a tensor does not; it is named.
    """
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"The state is no good: {name} is not finite. {REMEDY}")


def _check_tensors(adapter: Any, tensors: Mapping[str, Any]) -> None:
    """Check of a state's tensors by name, shape and type; raises `ValueError`."""
    values, draws = adapter.weights.values, adapter.draws.get_state()
    needed = {f"weights.{name}": value for name, value in values.items()} | {"draws": draws}
    needed |= {f"fisher.{name}": value for name, value in (adapter.fisher or {}).items()}
    classes = next((len(tensors[f"average.{n}"]) for n in CLASS_AVERAGES if f"average.{n}" in tensors), 0)
    shapes = {"entropy": (), "spread": (2,)} | dict.fromkeys(CLASS_AVERAGES, (classes,))
    parts = {part for part in PARTS if any(name.startswith(f"optimizer.{part}.") for name in tensors)}
    moments = {f"optimizer.{part}.{name}": value for part in parts for name, value in values.items()}
    needed |= {name: value.new_zeros(()) if ".step." in name else value for name, value in moments.items()}
    expected = needed | {f"average.{name}": torch.zeros(shape) for name, shape in shapes.items()}
    for name, like in expected.items():
        held = tensors.get(name)
        fits = isinstance(held, torch.Tensor) and (held.shape, held.dtype) == (like.shape, like.dtype)
        if not fits and (name in needed or held is not None):
            raise ValueError(f"The state is not whole: {name} is missing or has another shape or type. {REMEDY}")
    for name in tensors:
        if name not in expected:
            raise ValueError(f"The state holds {name}, which is no part of it. {REMEDY}")
    known = _num_classes(adapter)
    if classes and known and classes != known:
        raise ValueError(f"The state counts {classes} classes, and the model has {known}. {REMEDY}")
    check_finite(tensors)


def _num_classes(adapter: Any) -> int | None:
    """Classes of an adapter's model, where they are known before a batch."""
    return getattr(getattr(plain_model(adapter.model), "config", None), "num_labels", None)
