"""Methods x seeds on image shifts: digits from scratch, office objects with a small pretrained MobileNet; resumable.

    python tests/benchmarks/images.py --data DIR --task mnist-usps --seeds 1 2 3

Digits: a ResNet of three blocks, 32 x 32, from scratch; images are resized as they are, so MNIST keeps its margin and
USPS fills the frame. Office: an ImageNet-pretrained MobileNet (V1 0.25 unless `--mobilenet` names another),
fine-tuned, the new head at ten times the rate of the rest, as CDAN's authors do. Checkpoints are the last ones;
nothing is chosen by target labels. Columns called oracle read them. A learning rate is chosen by source-only training
on the source's validation rows (`--split validation --learning_rate`).
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from news_to_medical import table

FROZEN = ", frozen batch norm"
BATCH_NORM = "batch norm alone"  # target rows run through the model beside the source's, and nothing reads them
METHODS: dict[str, dict] = {
    "source-only": {},
    BATCH_NORM: {},
    "mmd": {"mmd": 0.1},
    "dann": {"dann": 0.1},
    "cdan": {"cdan": 0.1},
    "cdan_e": {"cdan_e": 0.1},
    "coral": {"coral": 0.1},
    "supcon": {"supcon": 0.1},
    "nt_xent": {"nt_xent": 0.03},
    "nt_xent, weight 0.1": {"nt_xent": 0.1},
    "mcc": {"mcc": 0.1},
    **{kind: {kind: 1.0} for kind in ("im", "dsan", "cmd", "prototype", "mdd")},  # the best on digits
    "cmd, weight 0.1": {"cmd": 0.1},
    "mdd, weight 0.1": {"mdd": 0.1},
    "coral, weight 100": {"coral": 100.0},
    "dann, full strength": {"dann": 1.0},
    "cdan, full strength": {"cdan": 1.0},
    "mmd, full strength": {"mmd": 1.0},
    "source-only, frozen batch norm": {},
    "mmd, frozen batch norm": {"mmd": 0.1},
    "dann, frozen batch norm": {"dann": 0.1},
    "cdan, frozen batch norm": {"cdan": 0.1},
    "target-trained (oracle)": {},
}
DIGITS = {
    "model_type": "resnet",
    "embedding_size": 16,
    "hidden_sizes": [16, 32, 64],
    "depths": [1, 1, 1],
    "layer_type": "basic",
}
OFFICE = ("amazon", "webcam", "dslr")
SMALLEST = "mobilenet_v1_0.25_128"
MOBILENETS = [SMALLEST, "mobilenet_v1_0.5_160", "mobilenet_v1_0.75_192", "mobilenet_v2_1.0_224"]
TASKS = ["mnist-usps", "usps-mnist", *(f"{s}-{t}" for s in OFFICE for t in OFFICE if s != t)]


def load(data: Path, domain: str, split: str) -> Any:
    """A domain with columns `image` and `label`."""
    import PIL.Image
    from datasets import ClassLabel, Dataset, Image, load_dataset

    if domain in ("mnist", "usps"):
        arrays = np.load(data / f"digits_mnist_usps/{domain}_{split}.npz")
        rows = {"image": [PIL.Image.fromarray(array) for array in arrays["image"]], "label": arrays["label"].tolist()}
        return Dataset.from_dict(rows).cast_column("label", ClassLabel(names=[str(k) for k in range(10)]))
    folder, name = ("cifar10_subset", split) if domain == "cifar10" else ("office10", f"{domain}_{split}")
    files = str(data / f"{folder}/{name}.parquet")
    names = json.loads((data / f"{folder}/labels.json").read_text())
    rows = load_dataset("parquet", data_files=files, split="train").select_columns(["image", "label"])
    names = [names[str(k)] for k in range(len(names))] if isinstance(names, dict) else names
    return rows.cast_column("label", ClassLabel(names=names)).cast_column("image", Image())


def run_cell(
    data: Path,
    models: Path,
    task: str,
    method: str,
    seed: int,
    epochs: float,
    learning_rate: float,
    split: str,
    mobilenet: str,
) -> dict:
    from hftransfer import AdaptationConfig, AdaptationTrainer

    source, target = task.split("-")
    digits = source in ("mnist", "usps")
    oracle = method.startswith("target-trained")
    args = AdaptationConfig(
        output_dir=f"runs/images-{task}-{method.replace(', ', '-').replace(' ', '-')}-{seed}",
        overwrite_output_dir=True,
        objectives=METHODS[method],
        batch_norm="frozen" if method.endswith(FROZEN) else "joint",
        image_size=32 if digits else None,
        augment="weak",
        augment_flip=not digits,
        num_train_epochs=epochs,
        learning_rate=learning_rate,
        head_lr_multiplier=1.0 if digits else 10.0,
        per_device_train_batch_size=32,
        seed=seed,
        use_cpu=True,
        save_strategy="no",
        disable_tqdm=True,
        logging_steps=100,
    )
    trainer = AdaptationTrainer(
        DIGITS if digits else str(models / mobilenet),
        args,
        train_dataset=load(data, target if oracle else source, "train"),
        target_dataset=load(data, target, "train") if METHODS[method] or method == BATCH_NORM else None,
        eval_dataset={"source": load(data, source, split), "target": load(data, target, split)},
    )
    began = time.time()
    trainer.train()
    seconds = time.time() - began
    metrics = trainer.evaluate()
    keep = ("accuracy", "macro_f1", "entropy", "diversity")
    results = {k.removeprefix("eval_"): v for k, v in metrics.items() if k.endswith(keep)}
    return {"task": task, "method": method, "policy": "full", "seed": seed, "epochs": epochs,
            "learning_rate": learning_rate, "split": split, "mobilenet": mobilenet, "seconds": round(seconds, 1),
            **results}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--models", type=Path, default=Path("../shared/models"))
    parser.add_argument("--task", choices=TASKS, default="mnist-usps")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--epochs", type=float, default=None, help="default: 2 on digits, 10 on office")
    parser.add_argument("--learning_rate", type=float, default=None, help="default: 2e-3 on digits, 1e-4 on office")
    parser.add_argument("--split", choices=("test", "validation"), default="test")
    parser.add_argument("--out", type=Path, default=Path("runs/images.jsonl"))
    parser.add_argument("--mobilenet", choices=MOBILENETS, default=SMALLEST, help="of office: a folder of --models")
    args = parser.parse_args()
    digits = args.task in TASKS[:2]
    shown = {
        "task": args.task,
        "epochs": args.epochs or (2.0 if digits else 10.0),
        "learning_rate": args.learning_rate or (2e-3 if digits else 1e-4),
        "split": args.split,
        "mobilenet": args.mobilenet,
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out.exists() else []
    for seed in args.seeds:
        for method in args.methods:
            key = {**shown, "method": method, "seed": seed}
            if any(all(row[k] == v for k, v in key.items()) for row in rows):
                continue
            row = run_cell(args.data, args.models, **key)
            rows.append(row)
            with args.out.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)
    print(table([r for r in rows if all(r[k] == v for k, v in shown.items())], METHODS))


if __name__ == "__main__":
    main()
