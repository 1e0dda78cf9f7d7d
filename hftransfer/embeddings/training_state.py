"""Training state of a small loop: tensors and facts in one file, so that a run that was killed goes on bit for bit."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open

from ..models.disk_space import enough_disk_space, tensor_bytes

OPTIMIZER = "optimizer."
WEIGHTS = "now."


def write_training_state(
    path: str | os.PathLike[str], identity: str, tensors: Mapping[str, torch.Tensor], facts: Mapping[str, str]
) -> None:
    """State in one file, which replaces the last one only when it is whole.

    Args:
        path: of the file; its folder is made.
        identity: hash of all that the run depends on.
        tensors: no two of them of one memory.
        facts: texts beside them.

    Raises:
        FloatingPointError: weights that are not finite; the last state stays.
        DiskFullError: there is no room.
    """
    path = Path(path)
    broken = [name for name, value in tensors.items() if name.startswith(WEIGHTS) and not torch.isfinite(value).all()]
    if broken:
        name = broken[0].removeprefix(WEIGHTS)
        raise FloatingPointError(f"The weights {name} are not finite: lower learning_rate. The last state stays.")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial(path)
    try:
        with enough_disk_space("the state of the training", path.parent, tensor_bytes(tensors.values())):
            held = {name: value.detach().contiguous() for name, value in tensors.items()}
            safetensors.torch.save_file(held, partial, {"identity": identity, **facts})
            os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def read_training_state(
    path: str | os.PathLike[str], identity: str, depends_on: str
) -> tuple[dict[str, torch.Tensor], dict[str, str]] | None:
    """Tensors and facts of the state in a file; `None` where there is no file.

    Args:
        path: of the file.
        identity: of this run.
        depends_on: what another identity means, for the message.

    Raises:
        ValueError: the file cannot be read, or is of another run.
    """
    path = Path(path)
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            facts = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except SafetensorError as error:
        raise ValueError(f"{path} cannot be read ({error}): remove it to start anew.") from error
    if facts.pop("identity", None) != identity:
        raise ValueError(f"{path} is the state of a run {depends_on}: name another folder, or remove it.")
    return tensors, facts


def remove_training_state(path: str | os.PathLike[str]) -> None:
    """State of a run whose result is saved, removed; so is its folder, where nothing else is in it."""
    path = Path(path)
    for file in (path, _partial(path)):
        file.unlink(missing_ok=True)
    with suppress(OSError):  # other files are in it, or there is none
        path.parent.rmdir()


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """State of an optimizer by name, `optimizer.<number of the parameter>.<key>`."""
    state = optimizer.state_dict()["state"]
    return {f"{OPTIMIZER}{number}.{key}": value for number, values in state.items() for key, value in values.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]) -> None:
    """State of an optimizer, from `optimizer_tensors` among others; rates and the like are its own.

    Args:
        optimizer: over the same parameters.
        tensors: by name.
    """
    state = optimizer.state_dict()
    for name, value in under(tensors, OPTIMIZER).items():
        number, _, key = name.partition(".")
        state["state"].setdefault(int(number), {})[key] = value
    optimizer.load_state_dict(state)


def _partial(path: Path) -> Path:
    """File that a state is written to, before it replaces the last one."""
    return path.with_name(f"{path.name}.part")


def under(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """Tensors whose names start with a prefix, by the rest of their names."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
