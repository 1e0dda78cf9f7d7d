"""Source-free adaptation on digits: a model trained on one set is adapted to the other without its rows; resumable.

    python tests/benchmarks/source_free.py --data DIR --task mnist-usps --seeds 1 2 3

The source model is that of tests/benchmarks/images.py: a ResNet of three blocks, 32 x 32, from scratch, two epochs,
saved with its numbers. `adapt_source_free` then has its folder and the target's training images, and nothing else, at
half the source's learning rate. Columns called oracle read the target's test labels; nothing is chosen by them.
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
    data: Path, runs: Path, task: str, method: str, seed: int, epochs: float, batch_size: int
) -> dict[str, Any]:
    from hftransfer import adapt_source_free

    source, target = task.split("-")
    model, source_seconds = source_model(data, source, runs / f"{task}-{seed}-source", seed)
    rows, folder = load(data, target, "train"), runs / f"{task}-{seed}-{method.replace(' ', '-')}-{batch_size}"
    how: dict[str, Any] = {"method": method}
    start: Any = str(model)
    if method not in ("shot_im", "shot"):
        given, names = answers(model, rows, folder, seed)
        if method == "labels alone":
            given = [names[k] for k in given.argmax(1)]
        how, start = {"predictions": given, "labels": names}, DIGITS
    began = time.time()
    rate = RATE if "predictions" in how else RATE / 2
    result = adapt_source_free(
        start,
        rows.remove_columns("label"),
        folder,
        test=load(data, target, "test"),
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
        "verdict": result.verdict,
        "failed": list(result.judgement.failed),
        "agreement": result.judgement.agreement,
        "votes": list(result.judgement.votes),
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
    parser.add_argument("--runs", type=Path, default=Path("runs/source_free"))
    parser.add_argument("--out", type=Path, default=Path("runs/source_free.jsonl"))
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    done = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out.exists() else []
    for seed in args.seeds:
        for method in args.methods:
            key = {"task": args.task, "method": method, "seed": seed, "epochs": args.epochs}
            key["batch_size"] = args.batch_size
            if any(all(row[k] == v for k, v in key.items()) for row in done):
                continue
            row = run_cell(args.data, args.runs, **key)
            with args.out.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
