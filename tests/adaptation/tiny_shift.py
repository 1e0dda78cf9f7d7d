"""A tiny shift for `adapt`: sentences whose last word tells the class four times in five."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from unittest import mock

import numpy as np
import runs
import tiny
from datasets import ClassLabel, Dataset, Features, Value

from hftransfer import AdaptationConfig, AdaptationTrainer, adapt
from hftransfer.reporting import adaptation_report
from hftransfer.reporting.report_pictures import ReportPictures
from hftransfer.selection import class_frequencies

FREQUENCIES = (0.7, 0.2, 0.1)


def domain(
    rows: int, seed: int, frequencies=(1 / 3, 1 / 3, 1 / 3), labelled: bool = True, clear: float = 0.8
) -> Dataset:
    """Sentences of as many classes as there are frequencies, whose cue tells the class in `clear` of them."""
    draw = np.random.default_rng(seed)
    classes = len(frequencies)
    names = class_names(classes)
    labels = draw.choice(classes, rows, p=frequencies)
    cues = np.where(draw.random(rows) < clear, labels, draw.integers(classes, size=rows))
    texts = [
        " ".join([*draw.choice(tiny.WORDS, draw.integers(2, 8)), names[cue]]) + f" w{number % 40}"
        for number, cue in enumerate(cues)
    ]
    features = Features(text=Value("string"), label=ClassLabel(names=list(names)))
    rows_with_labels = Dataset.from_dict({"text": texts, "label": labels.tolist()}, features=features)
    return rows_with_labels if labelled else rows_with_labels.remove_columns("label")


def class_names(classes: int) -> tuple[str, ...]:
    """Names of up to five classes, which are words: one that the vocabulary lacks and one for itself after three."""
    return (*tiny.LABELS, "other", "[MASK]")[:classes]


def save_model(folder: Path, classes: int = 3) -> str:
    """Folder of a tiny model that has seen the task, so that a few steps more are enough."""
    trained = runs.trainer(
        folder / "run",
        model=tiny.bert(class_names(classes)),
        objectives=None,
        train_dataset=domain(300, 9, (1 / classes,) * classes),
        max_steps=100,
        per_device_train_batch_size=16,
        learning_rate=3e-3,
        logging_steps=100,
    )
    trained.train()
    trained.save_model(str(folder / "model"))
    return str(folder / "model")


def config(folder: Path, **settings) -> AdaptationConfig:
    defaults = {
        "num_train_epochs": 1,
        "learning_rate": 1e-3,
        "per_device_train_batch_size": 16,
        "use_cpu": True,
        "report_to": "none",
        "disable_tqdm": True,
        "logging_steps": 50,
    }
    return AdaptationConfig(str(folder), **defaults | settings)


def run(
    model: str,
    folder: Path,
    frequencies=FREQUENCIES,
    source_rows: int = 160,
    draws: bool = False,
    exact: bool = False,
    **how,
):
    """`adapt` on the shift; what it takes goes by its name, the rest to the config. The report's pictures, a third of
    what a tiny run takes, are drawn when asked for, and estimates of class frequencies are exact when asked for."""
    names = (
        "effort",
        "candidates",
        "rounds",
        "peft_config",
        "rule",
        "source",
        "target",
        "validation",
        "test",
        "ask",
        "answers",
    )
    own = {k: how.pop(k) for k in names if k in how}
    own.setdefault("source", domain(source_rows, 0))
    own.setdefault("target", domain(240, 1, frequencies, labelled=False))
    own.setdefault("validation", domain(240, 2))
    own.setdefault("test", {"source": domain(60, 3), "target": domain(120, 4, frequencies)})
    undrawn = mock.patch.object(adaptation_report, "draw_pictures", return_value=ReportPictures())
    with nullcontext() if draws else undrawn, nullcontext() if exact else with_short_estimates():
        return adapt(model, own.pop("source"), own.pop("target"), args=config(folder, **how), **own)


def with_short_estimates():
    """Context in which estimates of class frequencies are left off early: most of what judging tiny models takes."""
    return mock.patch.object(class_frequencies, "EM_STEPS", 30)


def training_runs(monkeypatch) -> list[str]:
    """Names of the candidates that train from now on."""
    names, train = [], AdaptationTrainer.train

    def counted(trainer, *args, **kwargs):
        names.append(Path(trainer.args.output_dir).name)
        return train(trainer, *args, **kwargs)

    monkeypatch.setattr(AdaptationTrainer, "train", counted)
    return names


def result_of(folder: Path) -> dict:
    """What `adaptation.json` holds, but for seconds."""
    result = json.loads((folder / "adaptation.json").read_text())
    result.pop("seconds")
    return result
