"""Few labels of the new domain: methods x fractions x seeds on press -> pubmed; resumable, one JSON line a cell.

    python tests/benchmarks/low_label.py --data ../shared/data --fractions 0.15 0.3 0.5 1.0 --seeds 1 2 3

MiniLM is trained on the press releases first, once a seed. That model is then fine-tuned on a fraction of the labelled
PubMed rows, the same rows for every method, the classes in proportion, and scored on PubMed's test split. Every method
has the same epochs and the same rate, but the linear probe and LoRA, whose rates are their own. Nothing is chosen by
test labels: checkpoints are the last ones. Weights are the papers'.
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

from news_to_medical import load

ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
METHODS: dict[str, dict[str, Any]] = {
    "fine-tuning": {},
    "linear probe": {"freeze": "head", "learning_rate": 1e-2},
    "LP-FT": {"lp_epochs": 1.0},
    "LoRA": {"lora": True, "learning_rate": 2e-3},
    "L2-SP": {"objectives": {"l2_sp": {"head": "start"}}, "weight_decay": 0.0},
    "BSS": {"objectives": {"bss": 1.0}},
    "L2-SP + BSS": {"objectives": {"l2_sp": {"head": "start"}, "bss": 1.0}, "weight_decay": 0.0},
    "DELTA": {"objectives": {"delta": {"weight": 0.01}}, "weight_decay": 0.0},
    "LwF": {"objectives": {"lwf": 1.0}},
    "Co-Tuning": {"objectives": {"co_tuning": 2.3}},
    "Bi-Tuning": {"objectives": {"bi_tuning": 1.0}},
}
WISE = (0.25, 0.5, 0.75)  # shares of the fine-tuned weights, beside the start's; reported, not chosen
SETTINGS: dict[str, Any] = {
    "num_train_epochs": 3,
    "learning_rate": 1e-4,
    "overwrite_output_dir": True,
    "use_cpu": True,
    "save_strategy": "no",
    "disable_tqdm": True,
    "logging_steps": 100,
}
SPLIT = "test"


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


def train(model: Any, rows: Any, folder: Path, seed: int, most_steps: int, **settings: Any) -> Any:
    from peft import LoraConfig

    from hftransfer import AdaptationConfig, AdaptationTrainer

    lora = LoraConfig(r=8, lora_alpha=16) if settings.pop("lora", False) else None
    args = AdaptationConfig(output_dir=str(folder), seed=seed, max_steps=most_steps, **{**SETTINGS, **settings})
    trainer = AdaptationTrainer(str(model), args, rows, peft_config=lora)
    trainer.train()
    return trainer


def scores(trainer: Any, held_out: Any) -> dict[str, float]:
    """Accuracy and macro F1 on labelled rows of the domain that was trained on."""
    found = trainer.evaluate({"source": held_out})
    return {k: round(100 * found[f"eval_source_{k}"], 2) for k in ("accuracy", "macro_f1")}


def source_model(data: Path, folder: Path, seed: int, most_steps: int, share: float) -> Path:
    """The model that every method starts from; made once a seed."""
    made = folder / f"press-{seed}"
    if not (made / "config.json").is_file():
        press = some(load(data, "press", "train")[0], share, seed)
        train(ENCODER, press, made, seed, most_steps).save_model()
    return made


def wise(start: Path, trainer: Any, held_out: Any) -> dict[str, dict[str, float]]:
    """Scores of weights between the start's and the fine-tuned ones (Wortsman et al., 2022); costs no training."""
    from safetensors.torch import load_file

    before, model = load_file(start / "model.safetensors"), trainer.model.model
    after = {k: v.clone() for k, v in model.state_dict().items()}
    found = {}
    for share in WISE:
        mixed = {k: v if not v.is_floating_point() else (1 - share) * before[k] + share * v for k, v in after.items()}
        model.load_state_dict(mixed)
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
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--fractions", type=float, nargs="+", default=[0.15, 0.3, 0.5, 1.0])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--out", type=Path, default=Path("runs/low_label.jsonl"))
    parser.add_argument("--most_steps", type=int, default=-1, help="to try the script; rows are not comparable")
    parser.add_argument("--share", type=float, default=1.0, help="of each class's rows, to try the script")
    args = parser.parse_args()
    folder = args.out.parent
    folder.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out.exists() else []
    for seed in args.seeds:
        start = source_model(args.data, folder, seed, args.most_steps, args.share)
        labelled, held_out = (some(load(args.data, "press", s)[1], args.share, seed) for s in ("train", SPLIT))
        for fraction in args.fractions:
            chosen = some(labelled, fraction, seed)
            for method in args.methods:
                key = {"method": method, "fraction": fraction, "seed": seed}
                if any(all(row[k] == v for k, v in key.items()) for row in rows):
                    continue
                began = time.time()
                trainer = train(start, chosen, folder / "low-label", seed, args.most_steps, **METHODS[method])
                seconds = round(time.time() - began, 1)
                found = wise(start, trainer, held_out) if method == "fine-tuning" else {}
                found[method] = scores(trainer, held_out)  # last: its line says that the cell is finished
                for name, numbers in found.items():
                    row = {**key, "method": name, "rows": len(chosen), **numbers, "seconds": seconds}
                    rows.append(row)
                    with args.out.open("a") as file:
                        file.write(json.dumps(row) + "\n")
                    print(json.dumps(row), flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
