"""Checkpoint writing: plain models, whole checkpoints, and the rotation of old ones."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch
import torch
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from ...messages import redacted_values
from ...models.adapter_folders import LABELS_FILE, write_adapter_labels
from ...models.adapters import is_peft, merged_copy, plain_model
from ...models.disk_space import SMALL, enough_disk_space, tensor_bytes
from ...selection.source_numbers import KEY
from ..trainer_access import config_of, joint_model_of
from .adapter_merge import merges_adapter
from .checkpoint_files import STATE_FILE, by_age, checkpoints, is_ours, write_list
from .checkpoint_loading import user_model_in
from .finite_guard import FiniteGuard
from .folder_lock import STAGING, clear
from .folder_replacement import flush_files, replace_items
from .process_agreement import raise_together
from .run_folder import RunFolder
from .run_settings import write_settings
from .written_files import CARD, RECORD, foreign_names, record_written, run_item_names

if TYPE_CHECKING:
    from transformers import Trainer

    from ..setup.preparation import Prepared

logger = logging.getLogger(__name__)
MARKERS = ("config.json", "adapter_config.json")  # a folder without one of these is no model to anybody
STALE = (LABELS_FILE, "model*.safetensors*", "adapter_model*.safetensors")


class CheckpointWriter:
    """Writer of checkpoints and models of a trainer whose model is a `JointModel`.

    - The model goes to disk as `save_pretrained` writes it, and its config says how it was made under the key
      `hftransfer`, which everything else ignores.
    - Objectives' parameters and buffers go to `_adaptation_state.safetensors`, in checkpoints only.
    - Everything is written to a staging folder first and renamed when complete; what is removed goes the same way.
    - A checkpoint lists its files with sizes and digests.
    - `training_args.bin`, a pickle, is replaced by `training_args.json`.

    Args:
        trainer: an `AdaptationTrainer`.
        prepared: from `prepare`.
        folder: its output folder.
        guard: of its run.

    Attributes:
        staging: the folder that a checkpoint is being written to, while one is.
    """

    def __init__(self, trainer: Trainer, prepared: Prepared, folder: RunFolder, guard: FiniteGuard):
        self.trainer, self.prepared, self.folder, self.guard = trainer, prepared, folder, guard
        self.staging: str | None = None

    # ---- a checkpoint

    def write_checkpoint(self, run_dir: Path, write: Callable[[], None]) -> Path:
        """Checkpoint, written to the staging folder by all processes and renamed into place.

        Args:
            run_dir: where checkpoints go.
            write: how `Trainer` writes a checkpoint.

        Returns:
            Its folder.

        Raises:
            FloatingPointError: weights are not finite.
            DiskFullError: there is not enough room.
        """
        trainer, args = self.trainer, self.trainer.args
        staging, name = run_dir / STAGING, f"{PREFIX_CHECKPOINT_DIR}-{trainer.state.global_step}"
        self.guard.check_weights(name)
        if not args.save_only_model:
            self.guard.check_optimizer_state(name)
        push, limit = args.push_to_hub, args.save_total_limit
        with self.folder.locked(run_dir), self._writing_aside(name, run_dir, self.checkpoint_bytes()):
            self.staging, args.push_to_hub, args.save_total_limit = str(staging), False, None
            try:
                write()
            finally:
                self.staging, args.push_to_hub, args.save_total_limit = None, push, limit
            trainer.accelerator.wait_for_everyone()
            if trainer.state.best_model_checkpoint == str(staging / name):
                trainer.state.best_model_checkpoint = str(run_dir / name)
            if args.should_save:
                trainer.state.save_to_json(str(staging / name / "trainer_state.json"))
                write_list(staging / name, resumable=not args.save_only_model)
                flush_files(staging / name)
                self._put(run_dir, [(name, name)], [name] if (run_dir / name).exists() else [])
            self.guard.add_checkpoint(run_dir / name)
            self.rotate(run_dir)
        trainer.accelerator.wait_for_everyone()
        return run_dir / name

    def checkpoint_bytes(self) -> int:
        """Size of a checkpoint on disk: weights, objectives and the state of the optimizer."""
        joint = joint_model_of(self.trainer)
        beside = [t for name, t in joint.state_dict().items() if not name.startswith("model.")]
        states = getattr(self.trainer.optimizer, "state", {}) if not self.trainer.args.save_only_model else {}
        moments = [t for state in states.values() for t in state.values() if isinstance(t, torch.Tensor)]
        return self._model_bytes() + tensor_bytes(beside) + tensor_bytes(moments)

    # ---- the model

    def write_model(self, output_dir: str | None, write: Callable[[str], None]) -> None:
        """Plain model, saved. An interrupted save leaves a model or none, never parts of one.

        For that, a folder has its config only while everything else in it is whole and belongs together.

        Args:
            output_dir: where to; the run's own folder when `None`.
            write: how `Trainer` writes a model to a folder.

        Raises:
            FloatingPointError: weights are not finite.
            FileExistsError: the folder holds files of somebody else's under names of the model's.
            DiskFullError: there is not enough room.
        """
        self.folder.pin()
        args = self.trainer.args
        final = Path(str(output_dir or args.output_dir))
        staging = final / STAGING / "model"
        self.guard.check_weights("the model")
        with self.folder.locked(final), self._writing_aside("the model", final, self._model_bytes(final=True)):
            write(str(staging))
            self.trainer.accelerator.wait_for_everyone()
            writes_here = args.should_save and staging.is_dir()  # sharded states are in checkpoints only
            raise_together(lambda: self._put_model(final, staging) if writes_here else None, args.world_size)
        self.trainer.accelerator.wait_for_everyone()

    def write_files(
        self, folder: Path, state_dict: dict[str, torch.Tensor] | None, write: Callable[[str, Any], None]
    ) -> None:
        """Files of a model, and of a checkpoint also objectives and settings, written.

        Args:
            folder: where to.
            state_dict: the joint model's, where it was gathered from shards.
            write: how `Trainer` writes a model's files, of a folder and a state.
        """
        trainer, merges = self.trainer, merges_adapter(self.trainer, self.prepared)
        joint: Any = trainer.model
        if state_dict is None:
            plain, state = None, _beside_model(joint.state_dict())
        else:  # FSDP, DeepSpeed
            plain = {k.removeprefix("model."): v for k, v in state_dict.items() if k.startswith("model.")}
            state = _beside_model(state_dict)
        with user_model_in(trainer):
            self._describe(trainer.model)
            if self.staging is None and merges and is_peft(trainer.model):
                trainer.model = merged_copy(trainer.model)
            write(str(folder), plain)
            if trainer.args.should_save and is_peft(trainer.model):
                self._write_labels(folder)
        if not trainer.args.should_save:
            return
        for card in folder.glob("*/README.md"):  # PEFT's, of each of several adapters; it names paths of this machine
            if (card.parent / "adapter_config.json").is_file():
                card.unlink()
        (folder / "training_args.bin").unlink(missing_ok=True)
        settings = redacted_values(json.loads(json.dumps(trainer.args.to_sanitized_dict(), default=str)))
        (folder / "training_args.json").write_text(json.dumps(settings, indent=2))
        if self.staging is not None:
            safetensors.torch.save_file(state, str(folder / STATE_FILE))
            write_settings(self.folder.describe_run(), folder)

    def _describe(self, model: Any) -> None:
        """How the model was adapted, in the key `hftransfer` of config.json."""
        config = plain_model(model).config
        config.hftransfer = {
            "objectives": {
                s.name: {"kind": s.kind, "weight": s.weight} for s in config_of(self.trainer).objective_specs()
            },
            "sources": list(self.prepared.source_names),
            "trainable": self.prepared.trainable.choice,
        }
        numbers = self.trainer.source_numbers  # type: ignore[attr-defined]
        if numbers is not None:
            config.hftransfer[KEY] = numbers.as_json()

    def _write_labels(self, folder: Path) -> None:
        """Names of the labels, which an adapter has no config for."""
        write_adapter_labels(folder, self.prepared.label_space.names)

    def _put_model(self, final: Path, staging: Path) -> None:
        """Move of a whole model into place, its config last, in exchange for the one that is there."""
        items = sorted(staging.iterdir(), key=lambda item: item.name in MARKERS)
        names = [item.name for item in items if item.name != CARD or not (final / CARD).exists()]
        stale = [path.name for pattern in (*MARKERS, *STALE) for path in sorted(final.glob(pattern))]
        foreign = foreign_names(final, [*names, *(name for name in stale if name != LABELS_FILE)])
        if foreign:
            raise FileExistsError(
                f"{final} holds {', '.join(dict.fromkeys(foreign))}, which hftransfer did not write and would "
                "replace. The model was not written there: save it to another folder, or move what is there."
            )
        is_run = final == self.folder.path
        if is_run or (final / RECORD).is_file():
            record_written(final, names, staging, anew=is_run and self.folder.keeps_old_run)
            names.insert(0, RECORD)
        flush_files(staging)
        stale = [name for name in stale if not foreign_names(final, [name])]  # labels of somebody else's may stay
        folders = [name for name in names if (final / name).is_dir()]  # an adapter of its own, where there are several
        self._put(final, [(f"{staging.name}/{name}", name) for name in names], [*stale, *folders])

    def _model_bytes(self, final: bool = False) -> int:
        """Size of the weights on disk."""
        model = joint_model_of(self.trainer).model
        adapter = is_peft(model) and not (final and merges_adapter(self.trainer, self.prepared))
        parameters = [p for p in model.parameters() if p.requires_grad or not adapter]
        return SMALL + tensor_bytes([*parameters, *model.buffers()])

    # ---- files

    @contextmanager
    def _writing_aside(self, title: str, folder: Path, needed: int) -> Iterator[None]:
        """Empty staging folder with enough room; if writing fails, nothing of it stays."""
        args, writes = self.trainer.args, self.trainer.args.should_save
        if writes:
            clear(folder)  # what another save left aside; the lock stays
        self.trainer.accelerator.wait_for_everyone()
        room = enough_disk_space(title, folder, needed if writes else 0, self.guard.last_good)
        raise_together(room.__enter__, args.world_size)
        try:
            yield
        except BaseException as error:
            if writes:
                shutil.rmtree(folder / STAGING / "model", ignore_errors=True)
                shutil.rmtree(folder / STAGING / title, ignore_errors=True)
            room.__exit__(type(error), error, error.__traceback__)
            raise
        room.__exit__(None, None, None)

    def _put(self, folder: Path, new_items: list[tuple[str, str]], old_names: Iterable[str]) -> None:
        """Move from the staging folder into place, in exchange for `old_names` and for an old run."""
        removed = list(old_names)
        replaces = self.folder.keeps_old_run and folder == self.folder.path
        if replaces:
            removed += run_item_names(folder, self.folder.file_names)
        if removed or len(new_items) > 1:
            replace_items(folder, folder / STAGING, list(dict.fromkeys(removed)), new_items)
        else:  # one stroke
            os.rename(folder / STAGING / new_items[0][0], folder / new_items[0][1])
        if replaces:
            self.folder.replaced()

    def rotate(self, run_dir: Path) -> None:
        """Rotation: the oldest checkpoints beyond `save_total_limit` are removed.

        The newest and the best stay, and the one before the newest until a finite loss has followed it.
        """
        limit = self.trainer.args.save_total_limit or 0
        if limit <= 0 or not self.trainer.args.should_save:
            return
        saved = [checkpoint for checkpoint in by_age(run_dir) if is_ours(checkpoint)]
        if not saved:
            return
        unproven = self.guard.unproven
        last_proven = self.guard.proven if unproven is not None else None
        if last_proven is None and unproven is not None and len(saved) > 1:
            last_proven = saved[-2]  # of the run that goes on
        protected = (saved[-1], last_proven, unproven, self.trainer.state.best_model_checkpoint)
        kept_checkpoints = {
            Path(str(checkpoint)).absolute()
            for checkpoint in protected
            if checkpoint is not None and Path(str(checkpoint)).exists()
        }
        removable = [c for c in saved if c.absolute() not in kept_checkpoints]
        _drop(removable[: max(0, len(saved) - max(limit, len(kept_checkpoints)))])

    def rotate_proven(self) -> None:
        """Rotation after the last checkpoint was proven."""
        if self.guard.proven is not None:
            self.rotate(self.guard.proven.parent)

    @contextmanager
    def finishing(self) -> Iterator[None]:
        """End of training: finite weights, the best checkpoint loaded, and old checkpoints removed.

        At `save_total_limit=1`, transformers would delete all others file by file; here each goes by one rename.

        Raises:
            FloatingPointError: the model that training ends with is not finite.
        """
        args = self.trainer.args
        limit, best = args.save_total_limit, self.trainer.state.best_model_checkpoint
        loads_best = args.load_best_model_at_end and best is not None
        if not loads_best:
            self.guard.check_losses()
            self.guard.check_norm()
            self.guard.check_weights()
        if self.guard.proves_last_checkpoint():
            self.rotate_proven()
        if args.load_best_model_at_end and best is None and self.trainer.is_world_process_zero():
            logger.warning(
                "load_best_model_at_end: %s was no number in any evaluation, so the last model is kept instead of "
                "the best.",
                args.metric_for_best_model,
            )
        args.save_total_limit = None
        try:
            yield
        finally:
            args.save_total_limit = limit
        if loads_best:
            self.guard.check_weights()
        if args.should_save and limit == 1 and best is not None:
            _drop([c for c in checkpoints(Path(best).parent) if is_ours(c) and c.name != Path(best).name])


def _beside_model(state_dict: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """State of a joint model without the user's model: objectives and schedules."""
    return {k: v.detach().cpu().contiguous() for k, v in state_dict.items() if not k.startswith("model.")}


def _drop(unwanted: Iterable[Path]) -> None:
    """Removal of checkpoints, each by one rename: a half-deleted one would be resumed from."""
    for checkpoint in unwanted:
        staging = checkpoint.parent / STAGING
        staging.mkdir(exist_ok=True)
        os.rename(checkpoint, staging / checkpoint.name)
        shutil.rmtree(staging / checkpoint.name, ignore_errors=True)
