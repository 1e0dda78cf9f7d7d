"""Checkpoint loading: content is checked, and whatever is wrong with it is one message."""

from __future__ import annotations

import json
import logging
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch

from ...models.adapters import is_peft
from ...models.domain_adapters import restore_adapters
from .checkpoint_choice import not_resumable
from .checkpoint_files import STATE_FILE, TRAINER_STATE
from .finite_guard import FiniteGuard
from .finite_weights import first_broken, is_finite_state
from .process_agreement import raise_together
from .renamed_weights import load_renamed_weights

if TYPE_CHECKING:
    from transformers import Trainer

logger = logging.getLogger(__name__)
# Of torch, for a file that holds something else than what was asked for.
UNREADABLE = (RuntimeError, ValueError, KeyError, TypeError, AttributeError, EOFError, IndexError, pickle.PickleError)


@contextmanager
def user_model_in(trainer: Trainer) -> Iterator[Any]:
    """The user's model in place of the joint model, which is yielded."""
    joint: Any = trainer.model
    trainer.model = joint.model
    try:
        yield joint
    finally:
        trainer.model = joint


class CheckpointReader:
    """Reader of checkpoints into a trainer whose model is a `JointModel`.

    - Weights and the optimizer's state are finite.
    - The best checkpoint of a run that was moved or copied is the one beside the checkpoint that it goes on from.
    - A checkpoint of another number of processes says so.

    Args:
        trainer: an `AdaptationTrainer`.
        guard: of its run.
    """

    def __init__(self, trainer: Trainer, guard: FiniteGuard):
        self.trainer, self.guard = trainer, guard

    def load(self, checkpoint: str, load_model: Callable[[str], None]) -> None:
        """Model and objectives of a checkpoint, loaded to resume training.

        Args:
            checkpoint: its folder.
            load_model: how `Trainer` loads a plain model.

        Raises:
            ValueError: it does not fit the run, or holds weights that are not finite.
        """
        try:
            self._load_weights(checkpoint, load_model)
        except RuntimeError as error:  # torch's, of shapes that differ: a checkpoint that does not describe its run
            reason = " ".join(str(error).split())[:300]
            raise ValueError(
                f"{checkpoint} does not fit this run's model, adapter or objectives: {reason}. Resume "
                "with the settings that it was made with."
            ) from error
        model: Any = self.trainer.model
        name = first_broken(model, self.guard.finite_buffers)
        self._refuse_unless(name is None, checkpoint, f"{name} holds values that are not finite")

    def load_best(self, load_model: Callable[[], None]) -> None:
        """Model and objectives of the best checkpoint, loaded.

        Args:
            load_model: how `Trainer` loads a plain model.
        """
        self._load_weights(str(self.trainer.state.best_model_checkpoint), lambda checkpoint: load_model())

    def _load_weights(self, checkpoint: str, load_model: Callable[[str], None]) -> None:
        with user_model_in(self.trainer):
            if _has_several(self.trainer.model):  # the stock loader would switch all but the first off
                restore_adapters(self.trainer.model, checkpoint)
            elif not load_renamed_weights(self.trainer.model, checkpoint):
                load_model(checkpoint)
        self._load_adaptation_state(checkpoint)

    def _load_adaptation_state(self, folder: str) -> None:
        """State of the objectives, loaded; a `ValueError` if the checkpoint was made with others."""
        path = Path(folder) / STATE_FILE
        if not path.is_file():
            raise ValueError(f"{folder} has no {STATE_FILE}: it was not made by hftransfer.")
        model: Any = self.trainer.model
        state = safetensors.torch.load_file(str(path))
        expected = {k for k in model.state_dict() if not k.startswith("model.")}
        if set(state) != expected:
            differing = sorted(set(state) ^ expected)[0]
            raise ValueError(f"{folder} was made with other objectives: {differing!r} is only on one side.")
        model.load_state_dict(state, strict=False)

    @contextmanager
    def reading_optimizer(self, checkpoint: str | None) -> Iterator[None]:
        """Check of the states of optimizer and schedule; a `ValueError` if they do not fit or are not finite."""
        with self._reading(checkpoint, "the states of its optimizer and schedule cannot be read"):
            yield
        if checkpoint is None or self.trainer.is_deepspeed_enabled:
            return
        is_finite = is_finite_state(self.trainer.optimizer)
        self._refuse_unless(is_finite, checkpoint, "the state of its optimizer holds values that are not finite")

    @contextmanager
    def reading_random_states(self, checkpoint: str | None) -> Iterator[None]:
        """Check of the random states; a warning if the number of processes was another."""
        with self._reading(checkpoint, "its random states cannot be read"):
            yield
        world_size = self.trainer.args.world_size
        processes_then = len(list(Path(checkpoint).glob("rng_state*.pth"))) if checkpoint else world_size
        if processes_then != world_size and self.trainer.is_world_process_zero():
            logger.warning(
                "%s was written by %d process(es) and goes on with %d: which rows come next, and what dropout draws, "
                "is not what it would have been.",
                checkpoint,
                processes_then,
                world_size,
            )

    def find_best_again(self) -> None:
        """Best checkpoint of a run that was moved or copied: it is beside the one that is resumed from.

        Its path in the state is that of the old folder.
        """
        best = self._best_beside()
        if best is not None:
            self.trainer.state.best_model_checkpoint = str(best)

    @contextmanager
    def without_false_best_warning(self) -> Iterator[None]:
        """Suppression of transformers' warning that the best checkpoint is gone, where a moved run has it."""
        stock = logging.getLogger("transformers.trainer")
        beside = self._best_beside() is not None

        def is_true(record: logging.LogRecord) -> bool:
            return not (beside and str(record.msg).startswith("The best checkpoint"))

        stock.addFilter(is_true)
        try:
            yield
        finally:
            stock.removeFilter(is_true)

    def _best_beside(self) -> Path | None:
        checkpoint = self.guard.resumed_from
        return None if checkpoint is None else _best_beside(checkpoint)

    @contextmanager
    def _reading(self, checkpoint: str | None, unreadable: str) -> Iterator[None]:
        try:
            yield
        except UNREADABLE as error:
            reason = " ".join(str(error).split())[:200]
            kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
            fault = f"{unreadable} ({kind}{reason})"
            raise ValueError(not_resumable(str(checkpoint), fault, str(self.trainer.args.output_dir))) from error

    def _refuse_unless(self, condition: bool, checkpoint: str, fault: str) -> None:
        def refuse() -> None:
            if not condition:
                raise ValueError(not_resumable(checkpoint, fault, str(self.trainer.args.output_dir)))

        raise_together(refuse, self.trainer.args.world_size)


def _best_beside(checkpoint: Path) -> Path | None:
    """Best checkpoint at the time that this one was written, in the folder where it is now."""
    try:
        best = json.loads((checkpoint / TRAINER_STATE).read_text(encoding="utf-8")).get("best_model_checkpoint")
    except (OSError, ValueError, AttributeError):
        return None
    beside = checkpoint.parent / Path(best).name if isinstance(best, str) else None
    return beside if beside is not None and beside.is_dir() else None


def _has_several(model: Any) -> bool:
    return is_peft(model) and len(model.peft_config) > 1
