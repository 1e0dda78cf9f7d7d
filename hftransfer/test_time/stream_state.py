"""File of a stream's state: tensors in safetensors, facts as JSON in its header."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

KEY = "hftransfer_stream"


def write_state(path: str | os.PathLike[str], tensors: Mapping[str, torch.Tensor], facts: Mapping[str, Any]) -> None:
    """State written to a file, whole or not at all.

    Raises:
        FileExistsError: there is something at `path` that is no such state.
    """
    file = Path(path).expanduser()
    if file.exists():
        try:
            read_state(file)
        except (ValueError, FileNotFoundError):
            raise FileExistsError(f"{file} exists and is no state of a stream: name another file.") from None
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, staging = tempfile.mkstemp(prefix=f".{file.name}-", dir=file.parent)
    os.close(handle)
    try:
        held = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        save_file(held, staging, metadata={KEY: json.dumps(facts, sort_keys=True)})
        os.chmod(staging, 0o644)
        os.replace(staging, file)
    except BaseException:
        Path(staging).unlink(missing_ok=True)
        raise


def read_state(path: str | os.PathLike[str]) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Tensors and facts of a state.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no state of a stream, or not whole.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f"There is no file {str(file)!r}: give one that TestTimeAdapter.save wrote.")
    try:
        with safe_open(str(file), "pt") as held:
            facts = json.loads((held.metadata() or {})[KEY])
            return {name: held.get_tensor(name) for name in held.keys()}, facts
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise ValueError(f"{file} is no state of a stream, or not whole: save it again.") from error
