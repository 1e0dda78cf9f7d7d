"""Guard of a run: what is broken is not saved, and what is good is not lost to it."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from ...data.text import WORD_MASK, without_other_tokenizations
from ...models.adapter_folders import LABELS_FILE
from ...models.adapters import is_peft
from ...models.module_mode import module_mode
from ..host import Host
from .agreement import alike
from .checkpoint_files import checkpoints
from .finite_weights import buffer_flags, first_broken, is_finite_state
from .folder_lock import STAGING, hold, release
from .folder_marks import WRITTEN, run_items
from .output_folder import (
    check_output_dir,
    check_resumed_dir,
    find_checkpoint,
    keeps_old_run,
    last_good_checkpoint,
)
from .resume import read_resume
from .run_settings import check_same_run

NOT_THE_MODELS = ("labels", "domain", "num_source", "spans", WORD_MASK)


class RunGuard(Host):
    """The part of a trainer that looks before it writes.

    - Weights, saved buffers, the loss' parts and the gradient's norm are finite before a checkpoint or a model is
      written, and at the end of training.
    - A checkpoint is proven once a finite loss has followed it; until then the one before it stays.
    - An output folder is locked while a run writes to it. Of what it holds, only what hftransfer wrote is replaced,
      and not before there is something to put in its place.
    """

    _norm: Any = None  # of the last step's gradient
    _start_buffers: dict[str, torch.Tensor] | None = None  # whether each was finite before training
    _names: Sequence[str] = ()  # of the files that this run may write to it
    _replaces = False  # the run that the folder held is still there
    _owns_output_dir = False
    _place: tuple[str, str] | None = None  # of the output folder: as it was given, and absolute
    _resumed: Path | None = None  # the checkpoint that this run goes on from, until a finite loss has followed it
    _resumes: Path | None = None  # the same, to the end
    _unproven: Path | None = None
    _proven: Path | None = None
    _forwards_before = 0  # the checkpoint that is not proven, since the last log
    _last_inputs: dict[str, Any] | None = None

    # ---- the output folder

    @contextmanager
    def _locked(self, folder: Path) -> Iterator[None]:
        """The lock of a folder, held by the process that writes; all of them fail if it cannot be had."""
        writes, where = self.args.should_save, folder.absolute()  # the working directory may be changed meanwhile
        alike(lambda: hold(folder) if writes else None, self.args.world_size)
        try:
            yield
        finally:
            if writes:
                release(where)

    def _stay_in_folder(self) -> None:
        """Keeps a relative output folder where it was when the run began, if the working directory was changed."""
        given = str(self.args.output_dir)
        if self._place is None or self._place[0] != given:
            self._place = (given, os.path.abspath(given))
        elif os.path.abspath(given) != self._place[1]:
            self.args.output_dir = self._place[1]

    @contextmanager
    def _in_output_folder(self, resume: Any = None) -> Iterator[str | None]:
        """The output folder, checked and locked for training; yields the checkpoint to go on from.

        Raises:
            FileExistsError, PermissionError: as `check_output_dir`.
            FileNotFoundError, ValueError: as `find_checkpoint`.
            FolderInUse: another run writes to it.
        """
        self._stay_in_folder()
        folder = Path(str(self.args.output_dir))
        with self._locked(folder):
            found = self.check_output_folder(resume)
            self._owns_output_dir = True
            self._unproven = self._proven = self._last_inputs = self._norm = None
            self._resumes = self._resumed = Path(found) if found else None
            self._forwards_before = 0
            self._start_buffers = buffer_flags(self.model)
            yield found

    def check_output_folder(self, resume: Any = None) -> str | None:
        """Refuses an output folder that training could not write to without a loss. Nothing is changed.

        Args:
            resume: a checkpoint to go on from, or `True` for the last one.

        Returns:
            The checkpoint to go on from.

        Raises:
            FileExistsError: it holds another run, or files of somebody else's that would be replaced.
            PermissionError: it cannot be written to.
            FileNotFoundError, ValueError: there is no checkpoint to go on from, or it is not whole.
        """
        return alike(lambda: self._check_folder(resume), self.args.world_size)

    def _check_folder(self, resume: Any) -> str | None:
        folder, writes = Path(str(self.args.output_dir)), self.args.should_save
        found = find_checkpoint(folder, resume, digests=writes) if read_resume(resume) else None
        if found is not None:
            check_same_run(found, self)
        if not writes or (self._owns_output_dir and found is None):
            return found
        names = [*WRITTEN, *self._processing_files(folder)]
        if is_peft(self.model.model) and not self.merges_adapter:
            names.append(LABELS_FILE)
        inside = found is not None and Path(found).resolve().parent == folder.resolve()
        if inside:
            check_resumed_dir(folder, names)
        else:
            check_output_dir(folder, self.args.overwrite_output_dir, names)
        self._names = names
        self._replaces = not inside and folder.is_dir() and bool(run_items(folder, names))
        keeps_old_run(folder, self._replaces)
        return found

    def _processing_files(self, folder: Path) -> list[str]:
        """Names of the files that the tokenizer or image processor is saved as; looked up where they could matter."""
        names = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
        if self.processing_class is None or not names - {STAGING}:
            return []
        with (
            tempfile.TemporaryDirectory() as aside,
            suppress(Exception),
        ):  # what is wrong with it shows when it is saved
            self.processing_class.save_pretrained(aside)
            return sorted(path.name for path in Path(aside).iterdir())
        return []

    # ---- what is finite

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        """As in `Trainer`; kept, and looked at when something is logged or saved."""
        self._norm = super()._get_grad_norm(model, grad_norm)
        return self._norm

    def _check_norm(self, known: float | None = None) -> None:
        """Raises a `FloatingPointError` if the last gradient was not finite and moved the weights all the same.

        Args:
            known: its norm, where it was read already.
        """
        norm = known if known is not None else self._norm.item() if hasattr(self._norm, "item") else self._norm
        self._norm = None  # once is enough
        if norm is None or math.isfinite(norm) or self.accelerator.optimizer_step_was_skipped:
            return  # a scaler of fp16 skips such a step and goes on with a smaller scale
        raise FloatingPointError(
            f"The gradient is not finite at step {self.state.global_step} (norm {norm:.3g}), though the loss was. "
            f"Lower the learning rate, or look for what an objective divides by. {self._last_good()}"
        )

    def _check_weights(self, what: str = "") -> None:
        """Raises a `FloatingPointError`, on all processes alike, if a parameter or a saved buffer is not finite.

        Args:
            what: is not written for that.
        """
        name = first_broken(self.model, self._start_buffers)

        def refuse() -> None:
            if name is not None:
                unwritten = f"; {what} was not written" if what else ""
                raise FloatingPointError(
                    f"{name} holds values that are not finite after step {self.state.global_step}{unwritten}. Lower "
                    f"the learning rate. {self._last_good()}"
                )

        alike(refuse, self.args.world_size)

    def _check_optimizer_state(self, what: str) -> None:
        """Raises a `FloatingPointError`, on all processes alike, if what the optimizer remembers is not finite.

        Args:
            what: is not written for that.
        """
        whole = self.is_deepspeed_enabled or is_finite_state(self.optimizer)

        def refuse() -> None:
            if not whole:
                raise FloatingPointError(
                    f"The optimizer's state holds values that are not finite after step {self.state.global_step}; "
                    f"{what} was not written. Lower the learning rate, or set max_grad_norm. {self._last_good()}"
                )

        alike(refuse, self.args.world_size)

    def _last_good(self, first_broken_forward: float = math.inf, model_broke: bool = False) -> str:
        """What to say of a run that broke: where it can go on from.

        Args:
            first_broken_forward: since the last log; infinite if all were finite.
            model_broke: it was the model's own features or predictions that were not finite then.
        """
        self._stay_in_folder()
        folder = Path(str(self.args.output_dir))
        if self._replaces:
            return f"It has no checkpoint yet; the run that {folder} held before is as it was."
        last = last_good_checkpoint(folder)
        if last is None:
            return "There is no checkpoint to go back to."
        followed = first_broken_forward >= self._forwards_before + self.args.gradient_accumulation_steps
        doubted = self._unproven or self._resumed
        if followed or doubted is None or doubted.absolute() != Path(last).absolute():
            return _go_on(last)
        before = last_good_checkpoint(folder, besides=last)
        if model_broke and before is not None:
            return f"{_go_on(before)} No finite loss has followed {last}: it predicts what is not finite."
        if model_broke:
            return f"There is no good checkpoint to go back to: {last} predicts what is not finite."
        return f"{_go_on(last)} No finite loss has followed it" + (f"; the one before is {before}." if before else ".")

    def _advice(self) -> str:
        parts = self._parts  # type: ignore[attr-defined]
        return self._last_good(parts.first_broken, parts.model_broke)

    # ---- checkpoints that are proven

    def _wrote(self, checkpoint: Path) -> None:
        """A checkpoint is in place; no loss has followed it yet."""
        self._resumed = None
        self._unproven, self._forwards_before = checkpoint, self._parts.count  # type: ignore[attr-defined]

    def _followed(self) -> None:
        """Finite parts were read: they prove the last checkpoint if a forward came after it."""
        self._resumed = None
        if self._unproven is None:
            return
        if self._parts.count > self._forwards_before:  # type: ignore[attr-defined]
            self._proven, self._unproven = self._unproven, None
            if self.args.should_save:
                self._rotate(self._proven.parent)  # type: ignore[attr-defined]
        self._forwards_before = 0  # the parts are cleared next

    def _prove_last(self) -> None:
        """At the end no loss follows the last checkpoint: the model runs once more on the last rows it has seen.

        Raises:
            FloatingPointError: what it says is not finite.
        """
        limit, inputs = self.args.save_total_limit or 0, self._last_inputs
        self._last_inputs = None
        if self._unproven is None or limit <= 0 or inputs is None:
            return
        if len(checkpoints(self._unproven.parent)) <= limit and self.args.world_size == 1:
            return  # nothing is to go
        finite = self._predicts_finite(inputs)

        def refuse() -> None:
            if not finite:
                raise FloatingPointError(
                    f"The weights after step {self.state.global_step} give predictions that are not finite. Lower the "
                    f"learning rate. {self._last_good(0, True)}"
                )

        alike(refuse, self.args.world_size)
        self._proven, self._unproven = self._unproven, None
        if self.args.should_save:
            self._rotate(self._proven.parent)  # type: ignore[attr-defined]

    def _predicts_finite(self, inputs: dict[str, Any]) -> bool:
        given = without_other_tokenizations({k: v for k, v in inputs.items() if k not in NOT_THE_MODELS})
        with module_mode(self.model), torch.no_grad(), self.compute_loss_context_manager():
            return bool(self.model(**given).logits.isfinite().all())


def _go_on(checkpoint: str) -> str:
    return f"The last good checkpoint is {checkpoint}; resume_from_checkpoint={checkpoint!r} goes on with it."
