"""What is saved is a plain model; what is in a checkpoint is whole or absent."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, get_last_checkpoint, sort_checkpoints

from ..models.adapter_folders import LABELS_FILE, write_labels
from ..models.adapters import is_peft, merged
from ..models.domain_adapters import load_several
from .host import Host
from .run_settings import write_settings

STATE_FILE = "_adaptation_state.safetensors"  # objectives and progress: beside the model, in checkpoints only
STAGING = "_writing"  # the underscore keeps it from being uploaded
MARKERS = ("config.json", "adapter_config.json")  # a folder without one of these is no model to anybody


class PlainCheckpoints(Host):
    """Saving and loading for a `Trainer` whose model is a `DomainAdapter`.

    - The model goes to disk as `save_pretrained` writes it, and its config says how it was made under the key
      `hftransfer`, which everything else ignores.
    - Objectives' parameters and buffers go to `_adaptation_state.safetensors`, in checkpoints only.
    - Everything is written to a staging folder first and renamed when complete; what is removed goes the same way.
    - `training_args.bin`, a pickle, is replaced by `training_args.json`.
    """

    _staging: str | None = None

    @contextmanager
    def _plain_model(self) -> Iterator[Any]:
        """The trainer sees the user's model for a moment; yields the adapter."""
        adapter = self.model
        self.model = adapter.model
        try:
            yield adapter
        finally:
            self.model = adapter

    # ---- saving

    @property
    def merges_adapter(self) -> bool:
        """Whether what is saved beside checkpoints is the adapter merged into a plain model. Left open, it is not
        where weights are sharded: no process holds the whole."""
        if self.args.merge_adapter is not None:
            return self.args.merge_adapter
        return self.prepared.merges and not (self.is_fsdp_enabled or self.is_deepspeed_enabled)

    def _get_output_dir(self, trial: Any) -> str:
        return self._staging or super()._get_output_dir(trial)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Writes a checkpoint aside, all processes, and renames it into place."""
        run_dir = Path(str(super()._get_output_dir(trial)))
        staging, name = run_dir / STAGING, f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        self._clear(staging)
        push, limit = self.args.push_to_hub, self.args.save_total_limit
        self._staging, self.args.push_to_hub, self.args.save_total_limit = str(staging), False, None
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self._staging, self.args.push_to_hub, self.args.save_total_limit = None, push, limit
        self.accelerator.wait_for_everyone()
        if self.state.best_model_checkpoint == str(staging / name):
            self.state.best_model_checkpoint = str(run_dir / name)
        if self.args.should_save:
            self.state.save_to_json(str(staging / name / "trainer_state.json"))
            _sync(staging / name)
            if (run_dir / name).exists():
                os.rename(run_dir / name, staging / "replaced")
            os.rename(staging / name, run_dir / name)
            self._rotate(run_dir)
            shutil.rmtree(staging, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        if push:
            self._push_from_checkpoint(str(run_dir / name))

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Saves the plain model. A folder has its config only while everything else in it is whole and belongs
        together, so that an interrupted save leaves a model or none, never parts of one."""
        if self._staging is not None:
            super().save_model(output_dir, _internal_call=True)
            return
        final = Path(str(output_dir or self.args.output_dir))
        staging = final / STAGING
        self._clear(staging)
        super().save_model(str(staging), _internal_call=True)
        self.accelerator.wait_for_everyone()
        if self.args.should_save and staging.is_dir():  # sharded states are in checkpoints only
            _sync(staging)
            for pattern in (*MARKERS, LABELS_FILE, "model*.safetensors*", "adapter_model*.safetensors"):
                for stale in final.glob(pattern):
                    stale.unlink()
            for item in sorted(staging.iterdir(), key=lambda item: item.name in MARKERS):
                if (final / item.name).is_dir():  # an adapter of its own, where a model has several
                    shutil.rmtree(final / item.name)
                os.replace(item, final / item.name)
            staging.rmdir()
        self.accelerator.wait_for_everyone()
        if self.args.push_to_hub and not _internal_call:
            self.push_to_hub(commit_message="Model save")

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        folder = Path(str(output_dir or self.args.output_dir))
        if state_dict is None:
            plain, state = None, self._adaptation_state(self.model.state_dict())
        else:  # FSDP, DeepSpeed: the full state of the adapter
            plain = {k.removeprefix("model."): v for k, v in state_dict.items() if k.startswith("model.")}
            state = self._adaptation_state(state_dict)
        with self._plain_model() as adapter:
            self._describe(adapter)
            if self._staging is None and self.merges_adapter and is_peft(self.model):
                self.model = merged(self.model)
            super()._save(str(folder), plain)
            if self.args.should_save and is_peft(self.model):
                write_labels(folder, self.space.names)
        if not self.args.should_save:
            return
        for card in folder.glob("*/README.md"):  # PEFT's, of each of several adapters; it names paths of this machine
            if (card.parent / "adapter_config.json").is_file():
                card.unlink()
        (folder / "training_args.bin").unlink(missing_ok=True)
        (folder / "training_args.json").write_text(json.dumps(self.args.to_sanitized_dict(), indent=2, default=str))
        if self._staging is not None:
            safetensors.torch.save_file(state, str(folder / STATE_FILE))
            write_settings(self, folder)

    def _describe(self, adapter: Any) -> None:
        """One plain key in config.json: how the model was adapted."""
        config = self.model.get_base_model().config if is_peft(self.model) else self.model.config
        config.hftransfer = {
            "objectives": {s.name: {"kind": s.kind, "weight": s.weight} for s in self.args.objective_specs()},
            "sources": list(self.source_names),
            "policy": self.policy.policy,
        }

    # ---- loading

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        try:
            with self._plain_model():
                if _has_several(self.model):  # the stock loader would switch all but the first off
                    load_several(self.model, resume_from_checkpoint)
                else:
                    super()._load_from_checkpoint(resume_from_checkpoint)
            self._load_adaptation_state(resume_from_checkpoint)
        except RuntimeError as error:  # torch's, of shapes that differ: a checkpoint that does not describe its run
            reason = " ".join(str(error).split())[:300]
            raise ValueError(
                f"{resume_from_checkpoint} does not fit this run's model, adapter or objectives: {reason}. Resume "
                "with the settings that it was made with."
            ) from error

    def _load_best_model(self) -> None:
        if self.is_fsdp_enabled:
            super()._load_best_model()
            return
        with self._plain_model():
            if _has_several(self.model):
                load_several(self.model, str(self.state.best_model_checkpoint))
            else:
                super()._load_best_model()
        self._load_adaptation_state(str(self.state.best_model_checkpoint))

    def _adaptation_state(self, state_dict: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {k: v.detach().cpu().contiguous() for k, v in state_dict.items() if not k.startswith("model.")}

    def _load_adaptation_state(self, folder: str) -> None:
        """Raises `ValueError` when the checkpoint was made with other objectives."""
        path = Path(folder) / STATE_FILE
        if not path.is_file():
            raise ValueError(f"{folder} has no {STATE_FILE}: it was not made by hftransfer.")
        state = safetensors.torch.load_file(str(path))
        expected = {k for k in self.model.state_dict() if not k.startswith("model.")}
        if set(state) != expected:
            odd = sorted(set(state) ^ expected)[0]
            raise ValueError(f"{folder} was made with other objectives: {odd!r} is only on one side.")
        self.model.load_state_dict(state, strict=False)

    # ---- files

    def _clear(self, staging: Path) -> None:
        if self.args.should_save:
            shutil.rmtree(staging, ignore_errors=True)
        self.accelerator.wait_for_everyone()

    def _rotate(self, run_dir: Path) -> None:
        """Removes the oldest checkpoints beyond `save_total_limit`, but neither the newest nor the best."""
        found, limit = sort_checkpoints(str(run_dir), use_mtime=True), self.args.save_total_limit or 0
        kept = {*found[-1:], *([str(Path(best))] if (best := self.state.best_model_checkpoint) else [])}
        if limit > 0:
            self._drop([c for c in found if c not in kept][: max(0, len(found) - max(limit, len(kept)))])

    def _drop(self, checkpoints: list[str]) -> None:
        """Removes checkpoints, each at one stroke: a half-deleted one would be resumed from."""
        for checkpoint in map(Path, checkpoints):
            staging = checkpoint.parent / STAGING
            staging.mkdir(exist_ok=True)
            os.rename(checkpoint, staging / checkpoint.name)
            shutil.rmtree(staging / checkpoint.name, ignore_errors=True)

    def _finalize_training(self, *args: Any, **kwargs: Any) -> Any:
        """As in `Trainer`, which at `save_total_limit=1` deletes all but the best checkpoint file by file."""
        limit, self.args.save_total_limit = self.args.save_total_limit, None
        try:
            output = super()._finalize_training(*args, **kwargs)
        finally:
            self.args.save_total_limit = limit
        best = self.state.best_model_checkpoint
        if self.args.should_save and limit == 1 and best is not None:
            run_dir = Path(best).parent
            self._drop([c for c in sort_checkpoints(str(run_dir)) if Path(c) != Path(best)])
            shutil.rmtree(run_dir / STAGING, ignore_errors=True)
        return output


def check_output_dir(path: str, overwrite: bool, clear: bool = False) -> None:
    """Protects a run that is already in the output folder.

    Args:
        path: the folder.
        overwrite: replace what is there.
        clear: with `overwrite`, remove its checkpoints and model now.

    Raises:
        FileExistsError: it holds a run and `overwrite` is off, or it is a file.
    """
    folder = Path(path)
    if folder.is_file():
        raise FileExistsError(f"{path} is a file; output_dir must be a folder. Choose another.")
    if not folder.is_dir():
        return
    models = [folder / name for name in ("config.json", "adapter_config.json", "model.safetensors")]
    found = [p for p in [*folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*"), *models] if p.exists()]
    if not found:
        return
    if not overwrite:
        last = get_last_checkpoint(path)
        resume = f", resume_from_checkpoint={last!r} to go on with it" if last else ""
        raise FileExistsError(
            f"{path} already holds a run ({found[0].name}). Choose another output_dir{resume}, or "
            "overwrite_output_dir=True to replace it."
        )
    if clear:
        for item in found:
            shutil.rmtree(item) if item.is_dir() else item.unlink()


def _has_several(model: Any) -> bool:
    return is_peft(model) and len(model.peft_config) > 1


def _sync(folder: Path) -> None:
    """Flushes a folder's files, so that a rename is not on disk before what it names."""
    for path in folder.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                os.fsync(file.fileno())
