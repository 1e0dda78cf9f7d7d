"""Source-free adaptation on digits: a model trained on one set is adapted to the other without its rows; resumable.

    python tests/benchmarks/source_free.py --data DIR --task mnist-usps --seeds 1 2 3
    python tests/benchmarks/source_free.py --data DIR --task usps-mnist --seeds 1 --methods shot_im --rows three

The source model is that of tests/benchmarks/images.py: a ResNet of three blocks, 32 x 32, from scratch, two epochs,
saved with its numbers. `adapt_source_free` then has its folder and the target's training images, and nothing else, at
half the source's learning rate. `--rows`, `--learning_rate` and `--batch_size` make runs that do harm, which the
verdict has to notice. Columns called oracle read the target's test labels; nothing is chosen by them.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from images import DIGITS, load

METHODS = ("shot_im", "shot", "predictions", "labels alone")
RATE = 2e-3
ROWS = ("all", "three", "skewed", "few", "noise")  # three classes; frequencies up to ten to one; 1,500 rows


def settings(folder: Path, seed: int, **more: Any) -> Any:
    from hftransfer import AdaptationConfig

    common = {
        "overwrite_output_dir": True,
        "image_size": 32,
        "augment": "weak",
        "per_device_train_batch_size": 32,
        "seed": seed,
        "use_cpu": True,
        "save_strategy": "no",
        "disable_tqdm": True,
        "logging_steps": 100,
        "report_to": "none",
    }
    return AdaptationConfig(output_dir=str(folder), **common | more)


def source_model(data: Path, source: str, folder: Path, seed: int) -> tuple[Path, float]:
    """Folder of the source model, trained once, and the seconds that it took."""
    from hftransfer import AdaptationTrainer, save_model_and_card

    started = time.time()
    if not (folder / "model.safetensors").is_file():
        trainer = AdaptationTrainer(
            DIGITS,
            settings(folder, seed, num_train_epochs=2.0, learning_rate=RATE),
            train_dataset=load(data, source, "train"),
            eval_dataset={"source": load(data, source, "validation")},
        )
        trainer.train()
        save_model_and_card(trainer, {})
    return folder, time.time() - started


def target_rows(data: Path, domain: str, split: str, kind: str, seed: int) -> Any:
    """The target's rows: all, or those of a shift in which adapting does harm."""
    import numpy as np
    import PIL.Image
    from datasets import Dataset

    rows = load(data, domain, split)
    labels, draw = np.array(rows["label"]), np.random.default_rng(seed)
    if kind == "all":
        return rows
    if kind == "noise":
        squares = [np.kron(draw.random((7, 7)), np.ones((4, 4))) for _ in range(min(3000, len(rows)))]
        images = [PIL.Image.fromarray((255 * square).astype(np.uint8)) for square in squares]
        numbers = draw.integers(10, size=len(images))  # nobody could say what is on them
        return Dataset.from_dict({"image": images, "label": numbers}).cast_column("label", rows.features["label"])
    if kind == "three":
        kept = np.flatnonzero(np.isin(labels, draw.permutation(10)[:3]))
    elif kind == "skewed":
        shares = np.geomspace(1, 0.1, 10)[draw.permutation(10)]
        kept = np.flatnonzero(draw.random(len(labels)) < shares[labels])
    else:
        kept = np.sort(draw.permutation(len(labels))[:1500])
    return rows.select(kept)


def answers(model: Path, rows: Any, target: Path, seed: int) -> Any:
    """Probabilities that the source model, as an interface, gives target rows."""
    import numpy as np

    from hftransfer import SourceFreeTrainer
    from hftransfer.trainers.prediction_pass import predict_rows

    images = rows.remove_columns("label")
    trainer = SourceFreeTrainer(str(model), settings(target, seed, objectives={"im": 1.0}), images)
    logits = predict_rows(trainer, trainer.prepared.train.domain_rows[-1], features=None).logits.astype(np.float64)
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    return exponentials / exponentials.sum(1, keepdims=True), list(trainer.label_space.names)


def run_cell(
    data: Path,
    runs: Path,
    task: str,
    method: str,
    seed: int,
    epochs: float,
    batch_size: int,
    rows: str = "all",
    learning_rate: float | None = None,
) -> dict[str, Any]:
    from hftransfer import adapt_source_free

    source, target = task.split("-")
    model, source_seconds = source_model(data, source, runs / f"{task}-{seed}-source", seed)
    train, test = (target_rows(data, target, split, rows, seed) for split in ("train", "test"))
    name = f"{task}-{seed}-{method.replace(' ', '-')}-{batch_size}"
    name += "" if rows == "all" else f"-{rows}"
    folder = runs / (name if learning_rate is None else f"{name}-{learning_rate:g}")
    how: dict[str, Any] = {"method": method}
    start: Any = str(model)
    if method not in ("shot_im", "shot"):
        given, names = answers(model, train, folder, seed)
        if method == "labels alone":
            given = [names[k] for k in given.argmax(1)]
        how, start = {"predictions": given, "labels": names}, DIGITS
    began = time.time()
    rate = learning_rate or (RATE if "predictions" in how else RATE / 2)
    result = adapt_source_free(
        start,
        train.remove_columns("label"),
        folder,
        test=test,
        args=settings(
            folder, seed, num_train_epochs=epochs, learning_rate=rate, per_device_train_batch_size=batch_size
        ),
        **how,
    )
    shift = None if result.shift is None else str(result.shift)
    return {
        "task": task,
        "method": method,
        "seed": seed,
        "epochs": epochs,
        "batch_size": batch_size,
        "rows": rows,
        "learning_rate": learning_rate,
        "verdict": result.verdict,
        "failed": list(result.judgement.failed),
        "agreement": result.judgement.agreement,
        "votes": list(result.judgement.votes),
        "reasons": list(result.judgement.reasons),
        "shift": shift,
        "seconds": round(time.time() - began, 1),
        "source_seconds": round(source_seconds, 1),
        "oracle": {name.removeprefix("the "): value for name, value in result.facts.oracle.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--task", choices=("mnist-usps", "usps-mnist"), default="mnist-usps")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--epochs", type=float, default=5.0, help="over the target")
    parser.add_argument("--batch_size", type=int, default=64, help="of target rows; SHOT's authors take 64")
    parser.add_argument("--rows", choices=ROWS, default="all", help="of the target")
    parser.add_argument("--learning_rate", type=float, help="half the source's when absent; as much for a student")
    parser.add_argument("--runs", type=Path, default=Path("runs/source_free"))
    parser.add_argument("--out", type=Path, default=Path("runs/source_free.jsonl"))
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    done = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out.exists() else []
    for seed in args.seeds:
        for method in args.methods:
            key = {"task": args.task, "method": method, "seed": seed, "epochs": args.epochs}
            key |= {"batch_size": args.batch_size, "rows": args.rows, "learning_rate": args.learning_rate}
            if any(all(row.get(k) == v for k, v in key.items()) for row in done):
                continue
            row = run_cell(args.data, args.runs, **key)
            with args.out.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
