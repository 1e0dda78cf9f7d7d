"""Runs that are killed at a chosen moment, for the tests of resuming; executed in forked processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pictures
import runs
import safetensors.torch
import tiny
import torch
from domains import tagging
from transformers import TrainerCallback

STEPS, SAVE_EVERY, PER_EPOCH = 9, 3, 6  # checkpoints at 3 (mid-epoch), 6 (where an epoch ends) and 9
OBJECTIVES = {"dann": {"weight": 0.5, "schedule": "linear"}, "mmd": {"weight": 0.1, "queue": 12}}
CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "peft": {"peft": True},
    "accumulated": {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 2},
    "peft_accumulated": {"peft": True, "gradient_accumulation_steps": 2, "per_device_train_batch_size": 2},
    "tagging": {"tagging": True, "objectives": {"cdan_e": 0.1, "supcon": {"threshold": 0.3, "queue": 12}}},
    "stream": {"stream": True, "gradient_accumulation_steps": 2, "per_device_train_batch_size": 2},
    "two_views": {"objectives": {"nt_xent": 0.03}, "save_total_limit": 1, "load_best_model_at_end": True},
    "unfreezing": {"unfreeze": {"by": "step", "every": 2}, "layer_decay": 0.9},
    "probing": {"lp_epochs": 1, "lr_scheduler_type": "slanted_triangular"},
    "strong_views": {
        "objectives": {
            "fixmatch": {"per_class": True, "distribution_alignment": True},
            "mean_teacher": {"view": "strong", "keep": "teacher", "decay": 0.9},
        },
        "load_best_model_at_end": True,
    },
    "strong_pictures": {"images": True, "objectives": {"fixmatch": 0.1}, "augment": "none"},
    "images": {"images": True, "objectives": {"dann": 0.05, "nt_xent": 0.003}, "augment": "strong"},
    "anchored": {"objectives": {"l2_sp": 1.0, "lwf": 1.0, "co_tuning": 1.0, "bi_tuning": {"queue": 3}}},
    "workers": {  # batches are made in processes of their own, images decoded and augmented there
        "images": True,
        "objectives": {"dann": 0.05, "nt_xent": 0.003},
        "augment": "strong",
        "dataloader_num_workers": 2,
    },
    "best_is_not_last": {
        "save_total_limit": 1,
        "load_best_model_at_end": True,
        "compute_metrics": lambda prediction: {"surprise": surprise(*prediction)},
        "metric_for_best_model": "eval_source_surprise",
        "greater_is_better": True,
    },
}


def surprise(logits: np.ndarray, labels: np.ndarray) -> float:
    """Cross-entropy as a metric of the user's own: what training lowers, so that the first checkpoint has most."""
    shifted = logits - logits.max(1, keepdims=True)
    log_sums = np.log(np.exp(shifted).sum(1))
    return float((log_sums - shifted[np.arange(len(labels)), labels]).mean())


def train(folder: str, case: str, resume: bool = False, kill: tuple[str, int] | None = None) -> Any:
    """A trainer after a run with dropout, evaluation and rotation; `kill` is a moment and which of its occurrences."""
    torch.set_num_threads(1)
    settings = dict(CASES[case])
    words = settings.pop("tagging", False)
    stream = settings.pop("stream", False)
    images = settings.pop("images", False)
    rows = PER_EPOCH * 4 * int(os.environ.get("WORLD_SIZE", "1"))
    if settings.pop("peft", False):
        from peft import LoraConfig

        settings["peft_config"] = LoraConfig(r=4, lora_dropout=0.1)
    if kill is not None:
        MOMENTS[kill[0]](kill[1])
        settings["callbacks"] = [_Killer(*kill)]
    evaluation = {"source": tagging(6, seed=2), "target": tagging(6, seed=3)}
    if not words:
        evaluation = {"source": tiny.domain(6, seed=2), "target": tiny.domain(6, seed=3)}
    source, target = tiny.domain(rows), tiny.domain(31, seed=1, labelled=False)
    if words:
        source, target = tagging(rows), tagging(31, seed=1, labelled=False)
    model = tiny.bert(tagging=words, initializer_range=0.2)
    if images:
        source, target = pictures.pictures(rows), pictures.pictures(31, seed=1, labelled=False)
        evaluation = {"source": pictures.pictures(6, seed=2), "target": pictures.pictures(6, seed=3)}
        model, settings["processing_class"] = pictures.resnet(), pictures.processor()
    if stream:
        source, target = source.to_iterable_dataset(), target.to_iterable_dataset()
    trainer = runs.trainer(
        folder,
        model=model,
        train_dataset=source,
        target_dataset=target,
        eval_dataset=evaluation,
        **{
            "objectives": OBJECTIVES,
            "learning_rate": 2e-3,
            "max_steps": STEPS,
            "eval_strategy": "steps",
            "eval_steps": SAVE_EVERY,
            "save_strategy": "steps",
            "save_steps": SAVE_EVERY,
            "save_total_limit": 2,
            "metric_for_best_model": "eval_source_loss",
            "greater_is_better": False,
            **settings,
        },
    )
    trainer.train(resume_from_checkpoint=resume)
    trainer.save_model()
    return trainer


class _Count:
    """Calls `last_words` and kills the process when it was called for the n-th time."""

    def __init__(self, n: int):
        self.left = n

    def __call__(self, last_words: Callable[[], Any] = lambda: None) -> None:
        self.left -= 1
        if self.left == 0:
            last_words()
            os.kill(os.getpid(), signal.SIGKILL)


class _Killer(TrainerCallback):
    """Moments that the `Trainer` announces."""

    def __init__(self, moment: str, n: int):
        self.moment, self.count = moment, _Count(n)

    def _at(self, moment: str) -> None:
        if moment == self.moment:
            self.count()

    def on_train_begin(self, *args: Any, model: Any, **kwargs: Any) -> None:
        moving = [p for p in model.parameters() if p.requires_grad]
        moving[len(moving) // 2].register_hook(lambda gradient: self._at("backward"))

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        self._at("step_begins")

    def on_pre_optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        self._at("gradients_ready")

    def on_optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        self._at("optimizer_stepped")

    def on_prediction_step(self, *args: Any, **kwargs: Any) -> None:
        self._at("evaluation")

    def on_save(self, *args: Any, **kwargs: Any) -> None:
        self._at("saved")

    def on_epoch_begin(self, *args: Any, **kwargs: Any) -> None:
        self._at("epoch_begins")


def _half_written(module: Any, attribute: str, named: str, path_argument: int) -> Callable[[int], None]:
    """The process dies while a file is written: half of its bytes are there."""

    def install(n: int) -> None:
        count, write = _Count(n), getattr(module, attribute)

        def halving(*args: Any, **kwargs: Any) -> None:
            path = Path(str(args[path_argument]))
            write(*args, **kwargs)
            if path.name == named:
                count(lambda: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]))

        setattr(module, attribute, halving)

    return install


def _around(attribute: str, part: str, after: bool) -> Callable[[int], None]:
    """The process dies just before or after a function of `os` was called on a path that contains `part`."""

    def install(n: int) -> None:
        count, call = _Count(n), getattr(os, attribute)

        def dying(*args: Any, **kwargs: Any) -> Any:
            mine = part in str(args[-1])
            if mine and not after:
                count()
            result = call(*args, **kwargs)
            if mine and after:
                count()
            return result

        setattr(os, attribute, dying)

    return install


def _model_half_written(n: int) -> None:
    import peft.peft_model
    import transformers.modeling_utils

    for module, name in ((transformers.modeling_utils, "model"), (peft.peft_model, "adapter_model")):
        _half_written(module, "safe_save_file", f"{name}.safetensors", 1)(n)


def _announced(n: int) -> None:
    """Nothing to install: the callback is told."""


MOMENTS: dict[str, Callable[[int], None]] = {
    "step_begins": _announced,
    "backward": _announced,
    "gradients_ready": _announced,
    "optimizer_stepped": _announced,
    "evaluation": _announced,
    "epoch_begins": _announced,
    "saved": _announced,
    "model_half_written": _model_half_written,
    "state_half_written": _half_written(safetensors.torch, "save_file", "_adaptation_state.safetensors", 1),
    "optimizer_half_written": _half_written(torch, "save", "optimizer.pt", 1),
    "before_the_rename": _around("rename", "/checkpoint-", after=False),
    "after_the_rename": _around("rename", "/checkpoint-", after=True),
    "deleting_the_oldest": _around("unlink", "optimizer.pt", after=True),
    "moving_the_model": _around("replace", "", after=True),
}
