"""Adaptations that are killed at a chosen moment, for the tests of going on; executed in forked processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import killing
import numpy as np
import tiny_shift
import torch

from hftransfer.adaptation import adapt as adapting
from hftransfer.adaptation import candidate_folder, candidate_predictions, hand_over
from hftransfer.adaptation.stored_predictions import StoredPredictions
from hftransfer.trainers.saving import folder_replacement
from hftransfer.trainers.trainer import AdaptationTrainer

CANDIDATES = {
    "source-only": {},
    "source-only-2": {"seed": 1000},
    "mean": {"mean_of": ["source-only", "source-only-2"]},
    "student": {"student_of": "mean"},
    "soup": {"average_of": ["source-only", "source-only-2"]},
}
STEPS = 6  # of each of the three that train


def adapt(model: str, folder: str, moment: str | None = None, n: int = 1) -> None:
    """A run of three trainings, saved in every third step; killed when the moment has come for the n-th time."""
    torch.set_num_threads(1)
    if moment is not None:
        MOMENTS[moment](n)
    tiny_shift.run(
        model,
        Path(folder),
        candidates=CANDIDATES,
        source_rows=80,
        target=tiny_shift.domain(120, 1, tiny_shift.FREQUENCIES, labelled=False),
        validation=tiny_shift.domain(90, 2),
        max_steps=STEPS,
        save_strategy="steps",
        save_steps=3,
        learning_rate=3e-3,
    )


def _before(owner: Any, name: str, when: Callable[..., bool] = lambda *args: True) -> Callable[[int], None]:
    """The process dies where a function is called for the n-th time."""

    def install(n: int) -> None:
        left, function = [n], getattr(owner, name)

        def dying(*args: Any, **kwargs: Any) -> Any:
            left[0] -= when(*args)
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        setattr(owner, name, dying)

    return install


def _trains(trainer: Any, model: Any, inputs: Any, *more: Any) -> bool:
    return model.training


def _of_the_hand_over(source: Any, target: Any) -> bool:
    return "handing-over" in str(source)


# A moment, and out of how many of its occurrences one is drawn.
POINTS: dict[str, tuple[Callable[[int], None], int]] = {
    "in training": (_before(AdaptationTrainer, "compute_loss", _trains), 3 * STEPS),
    "in training again": (_before(AdaptationTrainer, "compute_loss", _trains), 3 * STEPS),
    "while a model is half written": (killing.MOMENTS["model_half_written"], 6),
    "while an optimizer is half written": (killing.MOMENTS["optimizer_half_written"], 6),
    "before a checkpoint has its name": (killing.MOMENTS["before_the_rename"], 6),
    "while predicting": (_before(candidate_predictions, "predict_rows"), 12),
    "before predictions are kept": (_before(StoredPredictions, "save"), 4),
    "between predictions and their record": (_before(candidate_folder, "write_whole"), 4),
    "while checkpoints are removed": (_before(candidate_folder, "remove_checkpoints"), 4),
    "while judging": (_before(adapting, "judge"), 1),
    "before the model is written": (_before(hand_over, "correct_head"), 1),
    "while the model is handed over": (_before(folder_replacement.os, "replace", _of_the_hand_over), 6),
}
MOMENTS = {name: install for name, (install, _) in POINTS.items()}


def drawn(seed: int = 11) -> dict[str, int]:
    """For each moment, which of its occurrences is meant."""
    draw = np.random.default_rng(seed)
    return {name: int(draw.integers(1, most + 1)) for name, (_, most) in POINTS.items()}
