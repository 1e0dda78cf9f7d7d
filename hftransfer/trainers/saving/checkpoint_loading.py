"""Loading of a checkpoint: what it says is looked at, and whatever is wrong with it is one message."""

from __future__ import annotations

import json
import logging
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors.torch

from ...models.adapters import is_peft
from ...models.domain_adapters import load_several
from .agreement import alike
from .checkpoint_files import STATE_FILE, TRAINER_STATE
from .finite_weights import first_broken, is_finite_state
from .output_folder import not_resumable
from .run_guard import RunGuard

logger = logging.getLogger(__name__)
# Of torch, for a file that holds something else than what was asked for.
UNREADABLE = (RuntimeError, ValueError, KeyError, TypeError, AttributeError, EOFError, IndexError, pickle.PickleError)


class CheckpointLoading(RunGuard):
    """Reads checkpoints into a `Trainer` whose model is a `JointModel`.

    - Weights and the optimizer's state are finite.
    - The best checkpoint of a run that was moved or copied is the one beside the checkpoint that it goes on from.
    - A checkpoint of another number of processes says so.
    """

    @contextmanager
    def _plain_model(self) -> Iterator[Any]:
        """The trainer sees the user's model for a moment; yields the adapter."""
        adapter = self.model
        self.model = adapter.model
        try:
            yield adapter
        finally:
            self.model = adapter

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
        name = first_broken(self.model, self._start_buffers)
        self._refuse_unless(name is None, resume_from_checkpoint, f"{name} holds values that are not finite")

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

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """As in `Trainer`; raises a `ValueError` for states that are not this run's, or that are not finite."""
        with self._reading(checkpoint, "the states of its optimizer and schedule cannot be read"):
            super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is None or self.is_deepspeed_enabled:
            return
        whole = is_finite_state(self.optimizer)
        self._refuse_unless(whole, checkpoint, "the state of its optimizer holds values that are not finite")

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """As in `Trainer`, which says nothing of a checkpoint of another number of processes."""
        with self._reading(checkpoint, "its random states cannot be read"):
            super()._load_rng_state(checkpoint)
        wrote = len(list(Path(checkpoint).glob("rng_state*.pth"))) if checkpoint else self.args.world_size
        if wrote != self.args.world_size and self.is_world_process_zero():
            logger.warning(
                "%s was written by %d process(es) and goes on with %d: which rows come next, and what dropout draws, "
                "is not what it would have been.",
                checkpoint,
                wrote,
                self.args.world_size,
            )

    def _load_callback_state(self) -> None:
        """As in `Trainer`, which calls it when it has read the state of the run that goes on. Paths in it are those
        of the folder that it was in then."""
        if self._resumes is not None:
            best = _best_beside(self._resumes)
            if best is not None:
                self.state.best_model_checkpoint = str(best)
        super()._load_callback_state()

    @contextmanager
    def _without_a_false_word(self) -> Iterator[None]:
        """Hides transformers' warning that the best checkpoint is gone, where it is beside the one that a moved run
        goes on from."""
        stock = logging.getLogger("transformers.trainer")
        beside = self._resumes is not None and _best_beside(self._resumes) is not None

        def is_true(record: logging.LogRecord) -> bool:
            return not (beside and str(record.msg).startswith("The best checkpoint"))

        stock.addFilter(is_true)
        try:
            yield
        finally:
            stock.removeFilter(is_true)

    @contextmanager
    def _reading(self, checkpoint: str | None, wrong: str) -> Iterator[None]:
        try:
            yield
        except UNREADABLE as error:
            reason = " ".join(str(error).split())[:200]
            kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
            said = f"{wrong} ({kind}{reason})"
            raise ValueError(not_resumable(str(checkpoint), said, str(self.args.output_dir))) from error

    def _refuse_unless(self, whole: bool, checkpoint: str, wrong: str) -> None:
        def refuse() -> None:
            if not whole:
                raise ValueError(not_resumable(checkpoint, wrong, str(self.args.output_dir)))

        alike(refuse, self.args.world_size)


def _best_beside(checkpoint: Path) -> Path | None:
    """The best checkpoint that a run had found when it wrote this one, where it stands now."""
    try:
        best = json.loads((checkpoint / TRAINER_STATE).read_text(encoding="utf-8")).get("best_model_checkpoint")
    except (OSError, ValueError, AttributeError):
        return None
    beside = checkpoint.parent / Path(best).name if isinstance(best, str) else None
    return beside if beside is not None and beside.is_dir() else None


def _has_several(model: Any) -> bool:
    return is_peft(model) and len(model.peft_config) > 1
