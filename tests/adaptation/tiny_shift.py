"""A tiny shift for `adapt`: sentences whose last word tells the class four times in five."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import runs
import tiny
from datasets import ClassLabel, Dataset, Features, Value

from hftransfer import AdaptationConfig, adapt

FREQUENCIES = (0.7, 0.2, 0.1)


def domain(rows: int, seed: int, frequencies=(1 / 3, 1 / 3, 1 / 3), labelled: bool = True) -> Dataset:
    draw = np.random.default_rng(seed)
    labels = draw.choice(3, rows, p=frequencies)
    cues = np.where(draw.random(rows) < 0.8, labels, draw.integers(3, size=rows))
    texts = [
        " ".join([*draw.choice(tiny.WORDS, draw.integers(2, 8)), tiny.LABELS[cue]]) + f" w{number % 40}"
        for number, cue in enumerate(cues)
    ]
    features = Features(text=Value("string"), label=ClassLabel(names=list(tiny.LABELS)))
    rows_with_labels = Dataset.from_dict({"text": texts, "label": labels.tolist()}, features=features)
    return rows_with_labels if labelled else rows_with_labels.remove_columns("label")


def save_model(folder: Path) -> str:
    """Folder of a tiny model that has seen the task, so that a few steps more are enough."""
    trained = runs.trainer(
        folder / "run",
        objectives=None,
        train_dataset=domain(300, 9),
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


def run(model: str, folder: Path, frequencies=FREQUENCIES, source_rows: int = 160, **how):
    """`adapt` on the shift; what it takes goes by its name, the rest to the config."""
    own = {
        k: how.pop(k)
        for k in ("effort", "candidates", "peft_config", "rule", "target", "validation", "ask", "answers")
        if k in how
    }
    own.setdefault("target", domain(240, 1, frequencies, labelled=False))
    own.setdefault("validation", domain(240, 2))
    test = {"source": domain(60, 3), "target": domain(120, 4, frequencies)}
    return adapt(model, domain(source_rows, 0), own.pop("target"), args=config(folder, **how), test=test, **own)


def result_of(folder: Path) -> dict:
    """What `adaptation.json` holds, but for seconds."""
    result = json.loads((folder / "adaptation.json").read_text())
    result.pop("seconds")
    return result
