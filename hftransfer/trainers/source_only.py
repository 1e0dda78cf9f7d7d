"""Source-only baseline: the same model trained without the target, which adaptation is compared with."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import nn
from transformers import TrainerCallback

from .config import AdaptationConfig
from .results import score_test_splits, write_scores
from .saving.written_files import COMPARISON
from .trainer import AdaptationTrainer


def train_source_only(trainer: AdaptationTrainer, test_splits: Mapping[str, Any]) -> dict[str, float]:
    """Scores of a trainer's model trained on the sources alone, with the same seed and settings.

    The scores are kept in the output folder with the first checkpoint, and a resumed run reads them there instead of
    training again. The trainer itself is left as it is.

    Args:
        trainer: made from a model's name or with `model_init`, and not trained yet.
        test_splits: encoded test splits by name, from `Prepared.encode_test_splits`.

    Returns:
        The scores that `score_test_splits` gives.

    Raises:
        TypeError: the trainer was made from a loaded model, of which there is no second one.
        ValueError: the scores of the run that is resumed cannot be read.

    Example:
        >>> trainer = AdaptationTrainer("runs/teacher", AdaptationConfig("out", max_steps=1), news, medical)
        >>> train_source_only(trainer, trainer.prepared.encode_test_splits({"source": news}))
    """
    if isinstance(trainer.constructor_arguments["model"], nn.Module):
        raise TypeError(
            "train_source_only trains a second model: make the trainer from a model's name or with model_init, not "
            "from a loaded model."
        )
    file = Path(str(trainer.args.output_dir)) / COMPARISON
    if trainer.args.resume_from_checkpoint and file.is_file():
        try:
            scores = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{file} cannot be read: {error}. Remove it, and it is made again.") from error
    else:
        scores = _train_and_score(trainer, test_splits, file.parent)
    trainer.add_callback(KeepComparison(scores))
    return scores


class KeepComparison(TrainerCallback):
    """Source-only scores, written with the first checkpoint: until then, an older run may be in the folder."""

    def __init__(self, scores: dict[str, float]):
        self.scores = scores

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            write_scores(args.output_dir, COMPARISON, self.scores)


def source_only_config(args: AdaptationConfig, output_dir: Path) -> AdaptationConfig:
    """Settings of the source-only run: without those of target, saving and pushing."""
    config = copy.copy(args)
    config.objectives, config.teacher, config.reveal_target_labels = None, None, 0
    config.label_shift, config.adabn = "none", False
    config.output_dir, config.overwrite_output_dir, config.resume_from_checkpoint = str(output_dir), True, None
    config.save_strategy, config.push_to_hub, config.load_best_model_at_end = "no", False, False
    return config


def _train_and_score(trainer: AdaptationTrainer, test_splits: Mapping[str, Any], folder: Path) -> dict[str, float]:
    settings = {
        **trainer.constructor_arguments,
        "target_dataset": None,
        "args": source_only_config(trainer.args, folder),
    }
    try:
        baseline = AdaptationTrainer(**settings)
        baseline.train()
        return score_test_splits(baseline, test_splits)
    finally:
        with suppress(OSError):  # it stays if something is in it: an older run's scores
            folder.rmdir()
