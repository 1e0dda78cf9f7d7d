"""One, five and sixteen labels a class: prototypes, a probe, pairs and SetFit; resumable, one JSON line a cell.

    python tests/benchmarks/few_shot.py --task reviews --data ../shared/data
    python tests/benchmarks/few_shot.py --task objects --data ../shared/data --models ../shared/models
    setfit-env/bin/python tests/benchmarks/few_shot.py --task reviews --methods SetFit --text_encoder FOLDER

`reviews`: sentiment of Amazon reviews of kitchen ware, two classes, every second of 400 test rows, MiniLM. `objects`:
Office's Amazon pictures, ten classes, 240 test rows, MobileNetV1 0.25 with its ImageNet weights. A seed draws so many
training rows of each class; all methods see the same rows. Nothing is chosen: all settings are the defaults of their
library, but texts are cut at 64 tokens, and an epoch of our pairs has 2,000 at most, which binds for five and sixteen
objects a class.

SetFit (https://pypi.org/project/setfit) needs an environment of its own, and this script no hftransfer there.
Its encoder is the same folder. It reads no images.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
OURS = {"nearest prototype": "prototype", "probe": "probe", "pairs": "pairs"}
SETFIT = "SetFit"
MAX_LENGTH, MOST_PAIRS, TEST_ROWS = 64, 2000, 200
Rows = tuple[list[Any], list[str]]


def reviews(data: Path, split: str) -> Rows:
    with (data / "amazon_reviews" / f"kitchen_{split}.csv").open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    return [row["text"] for row in table], [row["label"] for row in table]


def objects(data: Path, split: str) -> Rows:
    from datasets import Image, load_dataset

    file = str(data / "office10" / f"amazon_{split}.parquet")
    table = load_dataset("parquet", data_files={"rows": file}, split="rows")
    return list(table.cast_column("image", Image(decode=False))["image"]), list(table["label_name"])


TASKS: dict[str, Callable[[Path, str], Rows]] = {"reviews": reviews, "objects": objects}


def drawn(labels: list[str], shots: int, seed: int) -> list[int]:
    """So many rows of each class."""
    draw, of_class = np.random.default_rng([seed, shots]), defaultdict(list)
    for row, label in enumerate(labels):
        of_class[label].append(row)
    return [int(row) for label in sorted(of_class) for row in draw.choice(of_class[label], shots, replace=False)]


def ours(method: str, train: Rows, test: Rows, seed: int, args: argparse.Namespace) -> tuple[list[str], dict]:
    from hftransfer import FewShotClassifier, PairSettings

    is_text = args.task == "reviews"
    classifier = FewShotClassifier(
        args.text_encoder if is_text else str(args.models / "mobilenet_v1_0.25_128"),
        OURS[method],
        pairs=PairSettings(max_pairs=MOST_PAIRS, seed=seed) if method == "pairs" else None,
        max_length=MAX_LENGTH if is_text else None,
        device="cpu",
        cache_dir=False if method == "pairs" else str(args.out.parent / "few_shot_features"),
        progress=False,
    ).fit(*train)
    steps = classifier.training_.steps if classifier.training_ else 0
    return [str(label) for label in classifier.predict(test[0])], {"steps": steps}


def setfit(train: Rows, test: Rows, seed: int, args: argparse.Namespace) -> tuple[list[str], dict]:
    import setfit
    from datasets import Dataset
    from transformers import set_seed

    set_seed(seed)
    model = setfit.SetFitModel.from_pretrained(args.text_encoder, labels=sorted(set(train[1])), device="cpu")
    model.model_body.max_seq_length = MAX_LENGTH
    settings = setfit.TrainingArguments(
        output_dir=str(args.out.parent / "setfit"), seed=seed, report_to="none", save_strategy="no"
    )
    rows = Dataset.from_dict({"text": train[0], "label": train[1]})
    trainer = setfit.Trainer(model, settings, train_dataset=rows)
    trainer.train()
    predicted = [str(label) for label in model.predict(test[0], show_progress_bar=False)]
    return predicted, {"steps": trainer.st_trainer.state.global_step, "version": setfit.__version__}


def table(rows: list[dict], task: str, shots: list[int]) -> str:
    """Mean ± sd over seeds of accuracy, methods down; what was not run says so."""
    lines = [f"| {task} | " + " | ".join(f"{n} a class" for n in shots) + " |", "|---" * (1 + len(shots)) + "|"]
    for method in (*OURS, SETFIT):
        cells = []
        for n in shots:
            values = [row["accuracy"] for row in rows if (row["method"], row["shots"]) == (method, n)]
            spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
            empty = "no images" if (method, task) == (SETFIT, "objects") else "not run"
            cells.append(f"{statistics.mean(values):.1f}{spread} ({len(values)})" if values else empty)
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=TASKS, default="reviews")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--models", type=Path, default=Path("../shared/models"))
    parser.add_argument("--text_encoder", default=MINILM, help="Hub id or folder")
    parser.add_argument("--methods", nargs="*", choices=[*OURS, SETFIT], default=list(OURS))
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 5, 16])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--out", type=Path, default=Path("runs/few_shot.jsonl"))
    args = parser.parse_args()
    if SETFIT in args.methods and args.task == "objects":
        parser.error("SetFit reads no images.")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out.exists() else []
    train, test = TASKS[args.task](args.data, "train"), TASKS[args.task](args.data, "test")
    every = max(1, len(test[1]) // TEST_ROWS)
    test = test[0][::every], test[1][::every]
    for seed in args.seeds:
        for shots in args.shots:
            chosen = drawn(train[1], shots, seed)
            few = [train[0][row] for row in chosen], [train[1][row] for row in chosen]
            for method in args.methods:
                key = {"task": args.task, "method": method, "shots": shots, "seed": seed}
                if any(all(row[k] == v for k, v in key.items()) for row in rows):
                    continue
                began = time.process_time()
                predicted, facts = (
                    setfit(few, test, seed, args) if method == SETFIT else ours(method, few, test, seed, args)
                )
                accuracy = 100 * float(np.mean(np.array(predicted) == np.array(test[1])))
                row = {**key, "accuracy": round(accuracy, 2), **facts}
                row["processor_seconds"] = round(time.process_time() - began, 1)
                rows.append(row)
                with args.out.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                print(json.dumps(row), flush=True)
    print(table([row for row in rows if row["task"] == args.task], args.task, args.shots))


if __name__ == "__main__":
    main()
