"""Checkpoint files: a list with sizes and digests, by which damage is found before a run resumes."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
import zipfile
from pathlib import Path
from typing import Any

STATE_FILE = "_adaptation_state.safetensors"  # objectives and progress: beside the model, in checkpoints only
FILES = "_files.json"  # written last, so that a list without its files would be a lie
UNLISTED = ("README.md", FILES)  # notes may be added
STEP = re.compile(r"checkpoint-(\d+)")
TRAINER_STATE = "trainer_state.json"
ONLY_MODEL = (
    "it was saved with save_only_model=True, without the optimizer and the schedule, so it can be loaded as a model "
    "but not resumed"
)


def checkpoints(folder: str | os.PathLike[str]) -> list[Path]:
    """Checkpoints in a folder, by step.

    Example:
        >>> for name in ("checkpoint-12", "checkpoint-3", "checkpoint-notes"):
        ...     Path("runs/mine", name).mkdir(parents=True)
        >>> [path.name for path in checkpoints("runs/mine")]
        ['checkpoint-3', 'checkpoint-12']
    """
    root = Path(folder)
    with_step = [path for path in root.iterdir() if STEP.fullmatch(path.name)] if root.is_dir() else []
    return sorted((path for path in with_step if path.is_dir()), key=step_of)


def by_age(folder: str | os.PathLike[str]) -> list[Path]:
    """Checkpoints in a folder, oldest first; by step if one of them has no date.

    A run that resumed from an earlier checkpoint leaves later steps of its former course behind.
    """
    saved = checkpoints(folder)
    dates = {path: _json(path / FILES).get("written") for path in saved}
    if not all(isinstance(date, (int, float)) for date in dates.values()):
        return saved
    return sorted(saved, key=lambda path: (dates[path], step_of(path)))


def step_of(checkpoint: Path) -> int:
    """Step of a checkpoint, by its name."""
    match = STEP.fullmatch(checkpoint.name)
    return int(match[1]) if match else -1


def is_ours(checkpoint: Path) -> bool:
    """Whether hftransfer made it."""
    return (checkpoint / FILES).is_file() or (checkpoint / STATE_FILE).is_file()


def write_list(checkpoint: Path, resumable: bool) -> None:
    """List of a checkpoint's files, written last.

    Args:
        checkpoint: the folder, complete.
        resumable: whether it has all that training goes on from.
    """
    files = {
        path.relative_to(checkpoint).as_posix(): {"bytes": path.stat().st_size, "blake2b": digest(path)}
        for path in sorted(checkpoint.rglob("*"))
        if path.is_file() and path.name not in UNLISTED
    }
    about = {"made_by": "hftransfer", "written": time.time(), "resumable": resumable}
    text = json.dumps({**about, "files": files}, indent=1)
    (checkpoint / FILES).write_text(text, encoding="utf-8")


def fault(checkpoint: Path, digests: bool = True) -> str | None:
    """Fault of a checkpoint, in words that follow its name; `None` if training can resume from it.

    Args:
        checkpoint: the folder.
        digests: read every file; otherwise their sizes are enough.
    """
    try:
        listed = json.loads((checkpoint / FILES).read_text(encoding="utf-8"))
        files = {str(name): (int(facts["bytes"]), facts["blake2b"]) for name, facts in listed["files"].items()}
        resumable = bool(listed["resumable"])
    except FileNotFoundError:
        return _fault_without_list(checkpoint)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return f"its list of files, {FILES}, cannot be read"
    for name, (size, expected) in files.items():
        path = checkpoint / name
        if not path.is_file():
            return f"{name} is missing"
        if (size_now := path.stat().st_size) != size:
            return f"{name} is damaged: it has {size_now:,} bytes and was written with {size:,}"
        if digests and digest(path) != expected:
            return f"{name} is damaged: its content is not what was written"
    if not resumable:
        return ONLY_MODEL
    absent = _absent(checkpoint, [path.name for path in checkpoint.iterdir()])
    return f"{absent[0]} is missing" if absent else _fault_of_state(checkpoint)


def digest(path: Path) -> str:
    """BLAKE2b of a file's content."""
    summed = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            summed.update(block)
    return summed.hexdigest()


def _fault_without_list(checkpoint: Path) -> str | None:
    """Fault of an older version's checkpoint: needed files must be there and readable."""
    names = [path.name for path in checkpoint.iterdir()]
    sharded = _is_sharded(names)
    if STATE_FILE not in names and not sharded:
        return f"it has no {STATE_FILE}: it was not made by hftransfer"
    absent = _absent(checkpoint, names)
    if set(absent) >= {"optimizer.pt", "scheduler.pt", "rng_state.pth"}:
        return ONLY_MODEL
    if absent:
        return f"{absent[0]} is missing"
    index = checkpoint / "model.safetensors.index.json"
    if index.is_file():
        shards = _json(index).get("weight_map", {}).values()
        lost = [name for name in sorted(set(shards)) if name not in names]
        if lost or not shards:
            return f"{lost[0]} is missing" if lost else f"{index.name} is damaged"
    for path in sorted(checkpoint.rglob("*")):
        if path.is_file() and not _is_readable(path):
            return f"{path.relative_to(checkpoint).as_posix()} is damaged"
    return _fault_of_state(checkpoint)


def _fault_of_state(checkpoint: Path) -> str | None:
    """Fault of the trainer state, which says at which step training resumes."""
    step = _json(checkpoint / TRAINER_STATE).get("global_step")
    is_valid = isinstance(step, int) and not isinstance(step, bool) and step >= 0
    return None if is_valid else f"{TRAINER_STATE} is damaged: it does not say at which step it was written"


def _is_sharded(names: list[str]) -> bool:
    return any(re.match(r"pytorch_model_fsdp|global_step\d", name) for name in names)


def _absent(checkpoint: Path, names: list[str]) -> list[str]:
    """Files that resuming needs and that are missing."""
    sharded = _is_sharded(names)
    needed = {
        TRAINER_STATE: TRAINER_STATE in names,
        "model.safetensors": sharded or _has_weights(checkpoint, names),
        "optimizer.pt": any(re.match(r"optimizer|global_step\d", name) for name in names),
        "scheduler.pt": "scheduler.pt" in names or any(re.match(r"global_step\d", name) for name in names),
        "rng_state.pth": any(re.fullmatch(r"rng_state(_\d+)?\.pth", name) for name in names),
    }
    return [name for name, is_present in needed.items() if not is_present]


def _has_weights(checkpoint: Path, names: list[str]) -> bool:
    is_here = any(re.match(r"(adapter_)?model.*\.safetensors", name) for name in names)
    return is_here or any(checkpoint.glob("*/adapter_model.safetensors"))


def _is_readable(path: Path) -> bool:
    """Whether a file that was cut off would show it: by its header, its directory at the end, or its last bracket."""
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(str(path), framework="numpy") as file:
                file.keys()
        except (SafetensorError, OSError):
            return False
        return True
    if path.suffix in (".pt", ".pth"):
        return zipfile.is_zipfile(path)
    return path.name != TRAINER_STATE or bool(_json(path))


def _json(path: Path) -> dict[str, Any]:
    """Content of a JSON file; empty if it is no JSON object."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
