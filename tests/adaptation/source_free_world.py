"""A tiny source-free world: a source model with its numbers, and a target that nobody has labelled."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import killing_adaptations
import numpy as np
import runs
import tiny
import tiny_shift
import torch

from hftransfer import SourceFreeRule, adapt_source_free, save_model_and_card

FREQUENCIES = (0.7, 0.2, 0.1)


class TakesAll(SourceFreeRule):
    """A rule that takes whatever was adapted, also a model that answers as its start does."""

    def judge(self, *arguments, **how):
        return dataclasses.replace(super().judge(*arguments, **how), accepted=True, failed=())


ANY = TakesAll()


def save_source_model(folder: Path, dropout: float = 0.1, **settings) -> str:
    """Folder of a tiny model that was trained on the source and carries its numbers."""
    dropouts = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    trained = runs.trainer(
        folder / "source",
        model=tiny.bert(tiny_shift.class_names(3), **dropouts),
        objectives=None,
        train_dataset=tiny_shift.domain(300, 9),
        eval_dataset={"source": tiny_shift.domain(240, 2)},
        max_steps=80,
        per_device_train_batch_size=16,
        learning_rate=3e-3,
        logging_steps=100,
        **settings,
    )
    trained.train()
    save_model_and_card(trained, {})
    return str(folder / "source")


def target(rows: int = 96, seed: int = 1, frequencies=FREQUENCIES, labelled: bool = False):
    return tiny_shift.domain(rows, seed, frequencies, labelled)


def run(model, folder, rows=None, **how):
    """`adapt_source_free` on the target; what it takes goes by its name, the rest to the config."""
    names = (
        "method",
        "predictions",
        "labels",
        "epsilon",
        "source_numbers",
        "correct_start",
        "test",
        "rule",
        "processing_class",
    )
    own = {name: how.pop(name) for name in names if name in how}
    return adapt_source_free(model, target() if rows is None else rows, args=tiny_shift.config(folder, **how), **own)


def answers(rows, right: float = 0.8, seed: int = 3) -> np.ndarray:
    """An interface's probabilities, right on most rows."""
    draw = np.random.default_rng(seed)
    labels = np.asarray(rows["label"])
    classes = rows.features["label"].num_classes
    named = np.where(draw.random(len(labels)) < right, labels, draw.integers(classes, size=len(labels)))
    return 0.7 * np.eye(classes)[named] + 0.3 / classes


# ---- in forked processes


def on_some(model: str, folder: str, rows_of_a_process: int) -> None:
    """A run whose steps do not blow rounding up, as those of Adam do; two passes over the target."""
    torch.set_num_threads(1)
    rows, test = target(), target(40, 4, labelled=True)
    settings = {"optim": "sgd", "learning_rate": 0.05, "per_device_train_batch_size": rows_of_a_process}
    run(model, Path(folder), rows, test=test, rule=ANY, num_train_epochs=2, **settings)


def killed_in(model: str, folder: str, moment: str | None = None, n: int = 1) -> None:
    """A run of two epochs; killed when the moment has come for the n-th time."""
    torch.set_num_threads(1)
    if moment is not None:
        killing_adaptations.MOMENTS[moment](n)
    run(model, Path(folder), rule=ANY, num_train_epochs=2)
