"""What happens beside the step: progress for schedules and sampler, and lines a person can read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers import ProgressCallback, TrainerCallback

if TYPE_CHECKING:
    from .trainer import AdaptationTrainer

SHOWN = ("loss", "accuracy", "macro_f1", "mse", "pearson", "entropy")


class Clock(TrainerCallback):
    """Tells the schedules how far the run is, and the sampler which epoch it is."""

    def __init__(self, trainer: AdaptationTrainer):
        self.trainer = trainer

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        sampler = self.trainer.pair_sampler
        if sampler is not None:
            sampler.set_epoch(state.global_step // sampler.updates)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        adapter = self.trainer.accelerator.unwrap_model(self.trainer.model, keep_torch_compile=False)
        adapter.progress.fill_(min(1.0, state.global_step / max(1, state.max_steps)))


class ReadableProgress(ProgressCallback):
    """The stock progress bar, with one short line a log instead of a dictionary; the full numbers stay in
    `trainer.state.log_history`."""

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if state.is_world_process_zero and self.training_bar is not None and logs:
            self.training_bar.write(describe(logs, state.global_step))


def describe(logs: dict[str, Any], step: int) -> str:
    """One line for one log.

    Example:
        >>> describe({"loss": 0.91, "task_loss": 0.9, "mmd_loss": 0.02, "learning_rate": 5e-5, "epoch": 1.0}, 10)
        'step 10, epoch 1.0: loss 0.910 (task 0.900, mmd 0.020), learning rate 5e-05'

    Where head and backbone have rates of their own, both are shown.
    """
    head = f"step {step}, epoch {logs.get('epoch', 0):.1f}: "
    if "loss" in logs:
        parts = [f"{k.removesuffix('_loss')} {v:.3f}" for k, v in logs.items() if k.endswith("_loss")]
        apart = [f"{p} {logs[key]:.2g}" for p in ("head", "backbone") if (key := f"{p}_learning_rate") in logs]
        rate = f", learning rate {logs['learning_rate']:.2g}" if "learning_rate" in logs else ""
        rate = f", learning rate {', '.join(apart)}" if apart else rate
        return f"{head}loss {logs['loss']:.3f} ({', '.join(parts)}){rate}"
    if "train_runtime" in logs:
        return f"{head}trained in {logs['train_runtime']:.0f} s"
    shown = {k: v for k, v in logs.items() if k.endswith(SHOWN) and isinstance(v, float)}
    return head + ", ".join(f"{k.replace('_', ' ')} {v:.3f}" for k, v in shown.items())
