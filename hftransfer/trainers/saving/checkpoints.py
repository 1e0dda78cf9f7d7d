"""What is saved is a plain model; what is in a checkpoint is whole or absent."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from ...messages import redacted_values
from ...models.adapter_folders import LABELS_FILE, write_labels
from ...models.adapters import is_peft, merged
from ...models.disk_space import SMALL, room_for, tensor_bytes
from .agreement import alike
from .checkpoint_files import STATE_FILE, by_age, checkpoints, is_ours, write_list
from .checkpoint_loading import CheckpointLoading
from .folder_lock import STAGING, clear
from .folder_marks import CARD, MARK, foreign, mark, run_items
from .output_folder import check_output_dir, find_checkpoint, keeps_old_run
from .replacement import replace_items
from .run_settings import write_settings

__all__ = ["STAGING", "STATE_FILE", "PlainCheckpoints", "check_output_dir", "find_checkpoint"]
logger = logging.getLogger(__name__)
MARKERS = ("config.json", "adapter_config.json")  # a folder without one of these is no model to anybody
STALE = (LABELS_FILE, "model*.safetensors*", "adapter_model*.safetensors")


class PlainCheckpoints(CheckpointLoading):
    """Saving and loading for a `Trainer` whose model is a `JointModel`.

    - The model goes to disk as `save_pretrained` writes it, and its config says how it was made under the key
      `hftransfer`, which everything else ignores.
    - Objectives' parameters and buffers go to `_adaptation_state.safetensors`, in checkpoints only.
    - Everything is written to a staging folder first and renamed when complete; what is removed goes the same way.
    - A checkpoint lists its files with sizes and digests.
    - `training_args.bin`, a pickle, is replaced by `training_args.json`.
    """

    _staging: str | None = None

    # ---- saving

    @property
    def merges_adapter(self) -> bool:
        """Whether what is saved beside checkpoints is the adapter merged into a plain model. Left open, it is not
        where weights are sharded: no process holds the whole."""
        if self.args.merge_adapter is not None:
            return self.args.merge_adapter
        return self.prepared.merge_on_save and not (self.is_fsdp_enabled or self.is_deepspeed_enabled)

    def _get_output_dir(self, trial: Any) -> str:
        return self._staging or super()._get_output_dir(trial)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Writes a checkpoint aside, all processes, and renames it into place.

        Raises:
            FloatingPointError: weights are not finite.
            DiskFullError: there is not enough room.
        """
        self._stay_in_folder()
        run_dir = Path(str(super()._get_output_dir(trial)))
        staging, name = run_dir / STAGING, f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        self._check_weights(name)
        if not self.args.save_only_model:
            self._check_optimizer_state(name)
        push, limit = self.args.push_to_hub, self.args.save_total_limit
        with self._locked(run_dir), self._writing_aside(name, run_dir, self._checkpoint_bytes()):
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
                write_list(staging / name, resumable=not self.args.save_only_model)
                _sync(staging / name)
                self._put(run_dir, [(name, name)], [name] if (run_dir / name).exists() else [])
            self._wrote(run_dir / name)
            if self.args.should_save:
                self._rotate(run_dir)
        self.accelerator.wait_for_everyone()
        if push:
            self._push_from_checkpoint(str(run_dir / name))

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Saves the plain model. A folder has its config only while everything else in it is whole and belongs
        together, so that an interrupted save leaves a model or none, never parts of one.

        Raises:
            FloatingPointError: weights are not finite.
            FileExistsError: the folder holds files of somebody else's under names of the model's.
            DiskFullError: there is not enough room.
        """
        if self._staging is not None:
            super().save_model(output_dir, _internal_call=True)
            return
        self._stay_in_folder()
        final = Path(str(output_dir or self.args.output_dir))
        staging = final / STAGING / "model"
        self._check_weights("the model")
        with self._locked(final), self._writing_aside("the model", final, self._model_bytes(final=True)):
            super().save_model(str(staging), _internal_call=True)
            self.accelerator.wait_for_everyone()
            writes = self.args.should_save and staging.is_dir()  # sharded states are in checkpoints only
            alike(lambda: self._put_model(final, staging) if writes else None, self.args.world_size)
        self.accelerator.wait_for_everyone()
        if self.args.push_to_hub and not _internal_call:
            self.push_to_hub(commit_message="Model save")

    def _put_model(self, final: Path, staging: Path) -> None:
        """Moves a whole model into place, its config last, in exchange for the one that is there."""
        items = sorted(staging.iterdir(), key=lambda item: item.name in MARKERS)
        names = [item.name for item in items if item.name != CARD or not (final / CARD).exists()]
        stale = [path.name for pattern in (*MARKERS, *STALE) for path in sorted(final.glob(pattern))]
        theirs = foreign(final, [*names, *(name for name in stale if name != LABELS_FILE)])
        if theirs:
            raise FileExistsError(
                f"{final} holds {', '.join(dict.fromkeys(theirs))}, which hftransfer did not write and would replace. "
                "The model was not written there: save it to another folder, or move what is there."
            )
        is_run = final == Path(str(self.args.output_dir))
        if is_run or (final / MARK).is_file():
            mark(final, names, staging, anew=is_run and self._replaces)
            names.insert(0, MARK)
        _sync(staging)
        stale = [name for name in stale if not foreign(final, [name])]  # labels of somebody else's may stay
        folders = [name for name in names if (final / name).is_dir()]  # an adapter of its own, where there are several
        self._put(final, [(f"{staging.name}/{name}", name) for name in names], [*stale, *folders])

    @contextmanager
    def _writing_aside(self, what: str, folder: Path, needed: int) -> Iterator[None]:
        """An empty staging folder with enough room; if what is written there fails, nothing of it stays."""
        self._clear(folder / STAGING)
        writes = self.args.should_save
        room = room_for(what, folder, needed if writes else 0, self._last_good)
        alike(room.__enter__, self.args.world_size)
        try:
            yield
        except BaseException as error:
            if writes:
                shutil.rmtree(folder / STAGING / "model", ignore_errors=True)
                shutil.rmtree(folder / STAGING / what, ignore_errors=True)
            room.__exit__(type(error), error, error.__traceback__)
            raise
        room.__exit__(None, None, None)

    def _put(self, folder: Path, new: list[tuple[str, str]], old: Iterable[str]) -> None:
        """Moves what was written aside into place, in exchange for `old` and for a run that is to be replaced."""
        out = list(old)
        replaces = self._replaces and folder == Path(str(self.args.output_dir))
        if replaces:
            out += run_items(folder, self._names)
        if out or len(new) > 1:
            replace_items(folder, folder / STAGING, list(dict.fromkeys(out)), new)
        else:  # one stroke
            os.rename(folder / STAGING / new[0][0], folder / new[0][1])
        if replaces:
            self._replaces = False
            keeps_old_run(folder, False)

    def _model_bytes(self, final: bool = False) -> int:
        """What the weights take on disk."""
        model = self.accelerator.unwrap_model(self.model, keep_torch_compile=False).model
        adapter = is_peft(model) and not (final and self.merges_adapter)
        parameters = [p for p in model.parameters() if p.requires_grad or not adapter]
        return SMALL + tensor_bytes([*parameters, *model.buffers()])

    def _checkpoint_bytes(self) -> int:
        """What a checkpoint takes on disk: weights, objectives and the state of the optimizer."""
        whole = self.accelerator.unwrap_model(self.model, keep_torch_compile=False)
        beside = [t for name, t in whole.state_dict().items() if not name.startswith("model.")]
        states = getattr(self.optimizer, "state", {}) if not self.args.save_only_model else {}
        moments = [t for state in states.values() for t in state.values() if isinstance(t, torch.Tensor)]
        return self._model_bytes() + tensor_bytes(beside) + tensor_bytes(moments)

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
        settings = redacted_values(json.loads(json.dumps(self.args.to_sanitized_dict(), default=str)))
        (folder / "training_args.json").write_text(json.dumps(settings, indent=2))
        if self._staging is not None:
            safetensors.torch.save_file(state, str(folder / STATE_FILE))
            write_settings(self, folder)

    def _describe(self, adapter: Any) -> None:
        """One plain key in config.json: how the model was adapted."""
        config = self.model.get_base_model().config if is_peft(self.model) else self.model.config
        config.hftransfer = {
            "objectives": {s.name: {"kind": s.kind, "weight": s.weight} for s in self.args.objective_specs()},
            "sources": list(self.source_names),
            "trainable": self.trainable.choice,
        }

    def _adaptation_state(self, state_dict: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {k: v.detach().cpu().contiguous() for k, v in state_dict.items() if not k.startswith("model.")}

    # ---- files

    def _clear(self, staging: Path) -> None:
        """Removes what another save left aside; the lock stays."""
        if self.args.should_save:
            clear(staging.parent)
        self.accelerator.wait_for_everyone()

    def _rotate(self, run_dir: Path) -> None:
        """Removes the oldest checkpoints beyond `save_total_limit`, but neither the newest nor the best, nor, until a
        finite loss has followed the newest, the one before."""
        limit = self.args.save_total_limit or 0
        found = [checkpoint for checkpoint in by_age(run_dir) if is_ours(checkpoint)]
        if limit <= 0 or not found:
            return
        before = self._proven if self._unproven is not None else None
        if before is None and self._unproven is not None and len(found) > 1:
            before = found[-2]  # of the run that goes on
        named = (found[-1], before, self._unproven, self.state.best_model_checkpoint)
        kept = {Path(str(one)).absolute() for one in named if one is not None and Path(str(one)).exists()}
        extra = [c for c in found if c.absolute() not in kept]
        self._drop(extra[: max(0, len(found) - max(limit, len(kept)))])

    def _drop(self, found: Iterable[Path]) -> None:
        """Removes checkpoints, each at one stroke: a half-deleted one would be resumed from."""
        for checkpoint in found:
            staging = checkpoint.parent / STAGING
            staging.mkdir(exist_ok=True)
            os.rename(checkpoint, staging / checkpoint.name)
            shutil.rmtree(staging / checkpoint.name, ignore_errors=True)

    def _finalize_training(self, *args: Any, **kwargs: Any) -> Any:
        """As in `Trainer`, which at `save_total_limit=1` deletes all but the best checkpoint file by file.

        Raises:
            FloatingPointError: the model that training ends with is not finite.
        """
        limit, best = self.args.save_total_limit, self.state.best_model_checkpoint
        loads_best = self.args.load_best_model_at_end and best is not None
        if not loads_best:
            self._check_parts()  # type: ignore[attr-defined]
            self._check_norm()
            self._check_weights()
        self._prove_last()
        if self.args.load_best_model_at_end and best is None and self.is_world_process_zero():
            logger.warning(
                "load_best_model_at_end: %s was no number in any evaluation, so the last model is kept instead of "
                "the best.",
                self.args.metric_for_best_model,
            )
        self.args.save_total_limit = None
        try:
            output = super()._finalize_training(*args, **kwargs)
        finally:
            self.args.save_total_limit = limit
        if loads_best:
            self._check_weights()
        if self.args.should_save and limit == 1 and best is not None:
            self._drop([c for c in checkpoints(Path(best).parent) if is_ours(c) and c.name != Path(best).name])
        return output


def _sync(folder: Path) -> None:
    """Flushes a folder's files, so that a rename is not on disk before what it names."""
    for path in folder.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                os.fsync(file.fileno())
