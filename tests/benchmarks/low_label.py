"""Few labels of a new domain: methods x fractions x seeds; resumable, one JSON line a cell.

    python tests/benchmarks/low_label.py --task press --data ../shared/data --fractions 0.15 0.3 0.5 1.0 --seeds 1 2 3
    python tests/benchmarks/low_label.py --task cifar10 --models ../shared/models --seeds 1 2 3

`press`: MiniLM is trained on the press releases first, once a seed, and that model is fine-tuned on PubMed sentences
of the same classes. `cifar10`: MobileNetV1 0.25 with its ImageNet weights and a new head is fine-tuned on 3,000 images
of CIFAR-10, made 96 x 96; all of the labels (`--fractions 1`) is the classic comparison of a linear probe,
fine-tuning and LP-FT. LwF and Co-Tuning keep the old head beside the new one there.

Every method sees the same fraction of the labelled rows, the classes in proportion, and has the same epochs and the
same rate, but the linear probe and LoRA, whose rates are their own. Nothing is chosen by test labels: checkpoints are
the last ones, and rates were chosen by validation rows (`--split validation --learning_rate`, one seed). Weights of
objectives are the papers'.

WiSE-FT's rows are weights between the start's and those of fine-tuning, running statistics of batch norm like all
others; a new head, which has no start, is the fine-tuned one. "The start" is what the model scores with no label of
the new domain, where its head is of the same classes.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from low_label_tasks import METHODS, TASKS, Task

START = "the start"  # with no label of the new domain
WISE = (0.25, 0.5, 0.75)  # shares of the fine-tuned weights, beside the start's; reported, not chosen
SETTINGS: dict[str, Any] = {
    "overwrite_output_dir": True,
    "use_cpu": True,
    "save_strategy": "no",
    "report_to": "none",
    "disable_tqdm": True,
    "logging_steps": 100,
}


def some(data: Any, fraction: float, seed: int) -> Any:
    """A fraction of each class's rows, at least one, in the order of the data."""
    by_class = defaultdict(list)
    for i, label in enumerate(data["label"]):
        by_class[label].append(i)
    draw, chosen = random.Random(seed), []
    for label in sorted(by_class):
        rows = by_class[label]
        chosen += draw.sample(rows, max(1, round(fraction * len(rows))))
    return data.select(sorted(chosen))


def trainer_of(model: Any, rows: Any, folder: Path, seed: int, most_steps: int, **settings: Any) -> Any:
    from peft import LoraConfig

    from hftransfer import AdaptationConfig, AdaptationTrainer

    lora = LoraConfig(r=8, lora_alpha=16) if settings.pop("lora", False) else None
    args = AdaptationConfig(output_dir=str(folder), seed=seed, max_steps=most_steps, **{**SETTINGS, **settings})
    return AdaptationTrainer(str(model), args, rows, peft_config=lora)


def scores(trainer: Any, held_out: Any) -> dict[str, float]:
    """Accuracy and macro F1 on labelled rows of the domain that was trained on."""
    found = trainer.evaluate({"source": held_out})
    return {k: round(100 * found[f"eval_source_{k}"], 2) for k in ("accuracy", "macro_f1")}


def start_of(task: Task, name: str, args: argparse.Namespace, seed: int) -> Path:
    """The model that every method starts from: a checkpoint, or one that is made once a seed."""
    checkpoint = task.checkpoint(args.models, args.runs)
    if task.before is None:
        return Path(checkpoint)
    made = args.runs / f"{name}-{seed}"
    if not (made / "config.json").is_file():
        rows = some(task.before(args.data, "train"), args.share, seed)
        settings = {**task.settings, "learning_rate": task.rates["all"]}
        trainer = trainer_of(checkpoint, rows, made, seed, args.most_steps, **settings)
        trainer.train()
        trainer.save_model()
    return made


def wise(start: Path, trainer: Any, held_out: Any) -> dict[str, dict[str, float]]:
    """Scores of weights between the start's and the fine-tuned ones (Wortsman et al., 2022); costs no training."""
    from safetensors.torch import load_file

    before, model = load_file(start / "model.safetensors"), trainer.model.model
    after = {k: v.clone() for k, v in model.state_dict().items()}
    alike = [k for k, v in after.items() if v.is_floating_point() and k in before and before[k].shape == v.shape]
    found = {}
    for share in WISE:
        model.load_state_dict(after | {k: (1 - share) * before[k].float() + share * after[k] for k in alike})
        found[f"WiSE-FT {share:g}"] = scores(trainer, held_out)
    model.load_state_dict(after)
    return found


def table(rows: list[dict]) -> str:
    """Mean ± sd of accuracy over seeds, methods down, fractions across."""
    cells: dict[tuple[str, float], list[float]] = defaultdict(list)
    for row in rows:
        cells[row["method"], row["fraction"]].append(row["accuracy"])
    methods, fractions = list(dict.fromkeys(m for m, _ in cells)), sorted({f for _, f in cells})
    lines = ["| method | " + " | ".join(f"{100 * f:g} % of the labels" for f in fractions) + " |"]
    lines.append("|---" * (1 + len(fractions)) + "|")
    for method in methods:
        shown = []
        for fraction in fractions:
            values = cells.get((method, fraction), [])
            spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
            shown.append(f"{statistics.mean(values):.1f}{spread} ({len(values)})" if values else "")
        lines.append(f"| {method} | {' | '.join(shown)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=TASKS, default="press")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--models", type=Path, default=Path("../shared/models"))
    parser.add_argument("--fractions", type=float, nargs="+", default=[0.15, 0.3, 0.5, 1.0])
    parser.add_argument("--methods", nargs="+", choices=METHODS, help="all that have a meaning there, when absent")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--learning_rate", type=float, default=None, help="instead of the task's own, to choose it")
    parser.add_argument("--epochs", type=float, default=None, help="instead of the task's own")
    parser.add_argument("--split", choices=("test", "validation"), default="test")
    parser.add_argument("--out", type=Path, default=Path("runs/low_label.jsonl"))
    parser.add_argument("--runs", type=Path, default=Path("runs/low_label"), help="where starts are made and kept")
    parser.add_argument("--most_steps", type=int, default=-1, help="to try the script; rows are not comparable")
    parser.add_argument("--share", type=float, default=1.0, help="of each class's rows, to try the script")
    args = parser.parse_args()
    task = TASKS[args.task]
    epochs = args.epochs or task.settings["num_train_epochs"]
    shown = {"task": args.task, "split": args.split, "epochs": epochs}
    for method in args.methods or ():
        if method in task.left_out:
            parser.error(f"{method} is left out of {args.task}: {task.left_out[method]}.")
    for folder in (args.runs, args.out.parent):
        folder.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out.exists() else []

    def write(row: dict[str, Any]) -> None:
        rows.append(row)
        with args.out.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)

    def finished(key: dict[str, Any]) -> bool:
        return any(all(row[k] == v for k, v in key.items()) for row in rows)

    for seed in args.seeds:
        start = start_of(task, args.task, args, seed)
        labelled, held_out = (some(task.load(args.data, s), args.share, seed) for s in ("train", args.split))
        key = {**shown, "learning_rate": task.rates["all"], "method": START, "fraction": 0.0, "seed": seed}
        if not (task.new_head or finished(key)):
            as_it_is = trainer_of(start, labelled, args.runs / "cell", seed, args.most_steps)
            write({**key, "rows": 0, **scores(as_it_is, held_out), "seconds": 0.0})
        for fraction in args.fractions:
            chosen = some(labelled, fraction, seed)
            for method in args.methods or task.methods():
                settings = task.settings_of(method, start)
                settings["learning_rate"] = args.learning_rate or settings["learning_rate"]
                settings["num_train_epochs"] = epochs
                key = {**shown, "learning_rate": settings["learning_rate"]}
                key |= {"method": method, "fraction": fraction, "seed": seed}
                if finished(key):
                    continue
                began = time.time()
                trainer = trainer_of(start, chosen, args.runs / "cell", seed, args.most_steps, **settings)
                trainer.train()
                seconds = round(time.time() - began, 1)
                found = wise(start, trainer, held_out) if method == "fine-tuning" else {}
                found[method] = scores(trainer, held_out)  # last: its line says that the cell is finished
                for name, numbers in found.items():
                    write({**key, "method": name, "rows": len(chosen), **numbers, "seconds": seconds})
    rates = {args.learning_rate} if args.learning_rate else set(task.rates.values())
    rows = [row for row in rows if all(row[k] == v for k, v in shown.items()) and row["learning_rate"] in rates]
    print(table(rows))


if __name__ == "__main__":
    main()
