"""Guard against NaN and infinite values: they are not saved, and the last good checkpoint is kept."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ...data.pairing import FROZEN_STATES
from ...data.text_encoder import WORD_MASK, without_other_tokenizations
from ...models.module_mode import module_mode
from ..trainer_access import joint_model_of
from .checkpoint_choice import last_good_checkpoint
from .checkpoint_files import checkpoints
from .finite_weights import buffer_flags, first_broken, is_finite_state
from .process_agreement import raise_together
from .resume_advice import resume_advice
from .run_folder import RunFolder

if TYPE_CHECKING:
    from transformers import Trainer

    from ..step.loss_log import LossLog

NOT_MODEL_INPUTS = ("labels", "domain", "num_source", "spans", WORD_MASK, FROZEN_STATES)


class FiniteGuard:
    """Guard of a run: losses, gradients, weights and optimizer state are finite before anything is written.

    A checkpoint is proven once a finite loss has followed it; until then the one before it stays.

    Args:
        trainer: an `AdaptationTrainer`.
        folder: its output folder.
        loss_log: the loss's parts since the last log.

    Attributes:
        grad_norm: norm of the last step's gradient, until it is looked at.
        last_inputs: the last batch, to run the model on once more at the end.
        resumed_from: the checkpoint that the run went on from, if it did.
        unproven, proven: the checkpoint that no finite loss has followed yet, and the last one that one has.
    """

    def __init__(self, trainer: Trainer, folder: RunFolder, loss_log: LossLog):
        self.trainer, self.folder, self.loss_log = trainer, folder, loss_log
        self.finite_buffers: dict[str, torch.Tensor] | None = None  # whether each was finite before training
        self._forget(None)

    def start(self, checkpoint: str | None) -> None:
        """Start of a run: which buffers are finite before it.

        Args:
            checkpoint: that the run goes on from.
        """
        self._forget(checkpoint)
        self.finite_buffers = buffer_flags(self._model)

    def _forget(self, checkpoint: str | None) -> None:
        self.grad_norm: torch.Tensor | float | None = None
        self.last_inputs: dict[str, Any] | None = None
        self.resumed_from = Path(checkpoint) if checkpoint else None
        self.unproven: Path | None = None
        self.proven: Path | None = None
        self._resumed_unproven = self.resumed_from  # until a finite loss has followed it
        self._forwards_before_checkpoint = 0  # since the last log, before the unproven checkpoint

    @property
    def _model(self) -> Any:
        return self.trainer.model

    # ---- what is finite

    def mean_losses(self) -> dict[str, float]:
        """Mean of each loss since the last log, by name."""
        return self.loss_log.mean(joint_model_of(self.trainer).loss_names)

    def check_losses(self, means: dict[str, float] | None = None) -> None:
        """Check that losses since the last log are finite; raises `FloatingPointError`.

        Args:
            means: from `mean_losses`, where they were read already.
        """
        means = self.mean_losses() if means is None else means
        self.loss_log.check(means, self.trainer.state.global_step, self._advice)

    def check_norm(self, logged_norm: float | None = None) -> None:
        """Check that the last gradient was finite, or did not move the weights; raises `FloatingPointError`.

        Args:
            logged_norm: its norm, where it was read already.
        """
        norm = logged_norm if logged_norm is not None else self.grad_norm
        self.grad_norm = None  # once is enough
        norm = float(norm) if norm is not None else None
        if norm is None or math.isfinite(norm) or self.trainer.accelerator.optimizer_step_was_skipped:
            return  # a scaler of fp16 skips such a step and goes on with a smaller scale
        raise FloatingPointError(
            f"The gradient is not finite at step {self.trainer.state.global_step} (norm {norm:.3g}), though the loss "
            f"was. Lower the learning rate, or look for what an objective divides by. {self.last_good()}"
        )

    def check_weights(self, title: str = "") -> None:
        """Check that parameters and saved buffers are finite; a `FloatingPointError` on all processes if not.

        Args:
            title: is not written for that.
        """
        name = first_broken(self._model, self.finite_buffers)

        def refuse() -> None:
            if name is not None:
                unwritten = f"; {title} was not written" if title else ""
                raise FloatingPointError(
                    f"{name} holds values that are not finite after step {self.trainer.state.global_step}{unwritten}. "
                    f"Lower the learning rate. {self.last_good()}"
                )

        raise_together(refuse, self.trainer.args.world_size)

    def check_optimizer_state(self, title: str) -> None:
        """Check that the optimizer's state is finite; a `FloatingPointError` on all processes if not.

        Args:
            title: is not written for that.
        """
        is_finite = self.trainer.is_deepspeed_enabled or is_finite_state(self.trainer.optimizer)

        def refuse() -> None:
            if not is_finite:
                raise FloatingPointError(
                    "The optimizer's state holds values that are not finite after step "
                    f"{self.trainer.state.global_step}; {title} was not written. Lower the learning rate, or set "
                    f"max_grad_norm. {self.last_good()}"
                )

        raise_together(refuse, self.trainer.args.world_size)

    def last_good(self, first_broken_forward: float = math.inf, model_broke: bool = False) -> str:
        """Advice for a run that broke: the checkpoint to resume from.

        Args:
            first_broken_forward: since the last log; infinite if all were finite.
            model_broke: it was the model's own features or predictions that were not finite then.
        """
        self.folder.pin()
        folder = self.folder.path
        if self.folder.keeps_old_run:
            return f"It has no checkpoint yet; the run that {folder} held before is as it was."
        last = last_good_checkpoint(folder)
        if last is None:
            return "There is no checkpoint to go back to."
        is_followed = (
            first_broken_forward >= self._forwards_before_checkpoint + self.trainer.args.gradient_accumulation_steps
        )
        unproven = self.unproven or self._resumed_unproven
        if is_followed or unproven is None or unproven.absolute() != Path(last).absolute():
            return _go_on(last)
        previous = last_good_checkpoint(folder, besides=last)
        if model_broke and previous is not None:
            return f"{_go_on(previous)} No finite loss has followed {last}: it predicts what is not finite."
        if model_broke:
            return f"There is no good checkpoint to go back to: {last} predicts what is not finite."
        return f"{_go_on(last)} No finite loss has followed it" + (
            f"; the one before is {previous}." if previous else "."
        )

    def _advice(self) -> str:
        return self.last_good(self.loss_log.first_broken, self.loss_log.model_broke)

    # ---- checkpoints that are proven

    def add_checkpoint(self, checkpoint: Path) -> None:
        """New checkpoint, which no loss has followed yet."""
        self._resumed_unproven = None
        self.unproven, self._forwards_before_checkpoint = checkpoint, self.loss_log.count

    def proves_checkpoint(self) -> bool:
        """Whether the finite parts that were just read prove the last checkpoint: a forward came after it."""
        self._resumed_unproven = None
        if self.unproven is None:
            return False
        follows = self.loss_log.count > self._forwards_before_checkpoint
        self._forwards_before_checkpoint = 0  # the parts are cleared next
        if follows:
            self.proven, self.unproven = self.unproven, None
        return follows

    def proves_last_checkpoint(self) -> bool:
        """Whether the last checkpoint is proven at the end, where no loss follows it: the model runs once more on the
        last rows it has seen, if an older checkpoint is to go.

        Raises:
            FloatingPointError: what it predicts is not finite.
        """
        args = self.trainer.args
        limit, inputs = args.save_total_limit or 0, self.last_inputs
        self.last_inputs = None
        if self.unproven is None or limit <= 0 or inputs is None:
            return False
        if len(checkpoints(self.unproven.parent)) <= limit and args.world_size == 1:
            return False  # nothing is to go
        is_finite = self.predicts_finite(inputs)

        def refuse() -> None:
            if not is_finite:
                raise FloatingPointError(
                    f"The weights after step {self.trainer.state.global_step} give predictions that are not finite. "
                    f"Lower the learning rate. {self.last_good(0, True)}"
                )

        raise_together(refuse, args.world_size)
        self.proven, self.unproven = self.unproven, None
        return True

    def predicts_finite(self, inputs: dict[str, Any]) -> bool:
        """Whether the model's predictions for a batch are finite."""
        model_inputs = without_other_tokenizations({k: v for k, v in inputs.items() if k not in NOT_MODEL_INPUTS})
        with module_mode(self._model), torch.no_grad(), self.trainer.compute_loss_context_manager():
            return bool(self._model(**model_inputs).logits.isfinite().all())


def _go_on(checkpoint: str) -> str:
    return f"The last good checkpoint is {checkpoint}; {resume_advice(checkpoint)}"
