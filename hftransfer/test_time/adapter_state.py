"""State of an adapter as tensors and facts: adapted weights, optimizer, averages, draws and counts."""

from __future__ import annotations

import copy as copying
from collections.abc import Mapping
from typing import Any

import torch

from .stream_monitor import AVERAGES

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
        settings, counts, identity = facts["settings"], facts["counts"], facts["model"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError("This is no state of a TestTimeAdapter: it lacks tensors and facts.") from error
    for name, value in adapter.settings.__dict__.items():
        if settings.get(name) != value:
            raise ValueError(
                f"The state was made with {name}={settings.get(name)!r}, and this adapter has {name}={value!r}: "
                "make the adapter with the same settings."
            )
    if identity != adapter.start_identity():
        raise ValueError(
            "The state belongs to another model: the start weights or the structure differ. Load the model that "
            "the stream was started with."
        )
    needed = {f"weights.{name}": value for name, value in adapter.weights.values.items()}
    needed |= {f"fisher.{name}": value for name, value in (adapter.fisher or {}).items()}
    for name, value in needed.items():
        if name not in tensors or tensors[name].shape != value.shape:
            raise ValueError(f"The state is not whole: {name} is missing or has another shape.")
    if "draws" not in tensors or set(counts) != set(COUNTS):
        raise ValueError("The state is not whole: draws or counts are missing.")
    adapter.forget()
    device = next(adapter.model.parameters()).device
    for name, value in adapter.weights.values.items():
        value.copy_(tensors[f"weights.{name}"])
        for key, held in tensors.items():
            part, _, rest = key.removeprefix("optimizer.").partition(".")
            if key.startswith("optimizer.") and rest == name:
                on = "cpu" if part == "step" else device
                adapter.optimizer.state[value][part] = held.clone().to(on)
    adapter.weights.write()
    for name in AVERAGES:
        average = tensors.get(f"average.{name}")
        setattr(adapter.monitor, name, None if average is None else average.clone().to(device))
    if adapter.fisher is not None:
        adapter.fisher = {name: tensors[f"fisher.{name}"].clone().to(device) for name in adapter.weights.values}
    adapter.draws.set_state(tensors["draws"].cpu())
    adapter.counts = {name: int(counts[name]) for name in COUNTS}
