"""Methods x seeds x policies on the two real news-to-medical shifts; resumable, one JSON line a finished cell.

    python tests/benchmarks/news_to_medical.py --data DIR --task press --policy full --seeds 1 2 3

Checkpoints are the last ones; nothing is chosen by target labels. Columns called oracle read them. The
target-trained model sees as many epochs of 2,000 labelled target rows. A learning rate is chosen by what source-only
training has on the source's validation rows:

    python tests/benchmarks/news_to_medical.py --data DIR --task press --policy lora --methods source-only --seeds 1 \
      --split validation --learning_rate 2e-3
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterable
from pathlib import Path

CONTROL = "no objective"  # target rows run beside the source's, and nothing is asked of them
METHODS = {
    "source-only": {},
    CONTROL: {},
    "mmd": {"mmd": 0.1},
    "dann": {"dann": 0.1},
    "cdan": {"cdan": 0.1},
    "cdan_e": {"cdan_e": 0.1},
    "supcon": {"supcon": 0.1},
    "nt_xent": {"nt_xent": 0.03},
    "nt_xent, weight 0.1": {"nt_xent": 0.1},
    "mmd, full strength": {"mmd": 1.0},
    "dann, full strength": {"dann": 1.0},
    "dann, slow discriminator": {"dann": 0.1},
    "cdan, slow discriminator": {"cdan": 0.1},
    "source-only, mlls": {},
    "mmd, mlls": {"mmd": 0.1},
    "dann, mlls": {"dann": 0.1},
    "target-trained (oracle)": {},
}
MORE: dict[str, dict] = {  # settings beside the objectives
    "dann, slow discriminator": {"objective_lr_multiplier": 1.0},
    "cdan, slow discriminator": {"objective_lr_multiplier": 1.0},
    "source-only, mlls": {"label_shift": "mlls", "label_shift_task": "bias"},
    "mmd, mlls": {"label_shift": "mlls"},
    "dann, mlls": {"label_shift": "mlls"},
}
MOST_ORACLE = 2000  # target rows that the target-trained model sees: about as many as the sources have
RATES = {"full": 1e-4, "lora": 2e-3}
SIZES = {"press": ("press", "pubmed"), "pos": ("news", "biomed")}


def load(data: Path, task: str, split: str, limit: int | None = None):
    from datasets import ClassLabel, load_dataset

    source, target = SIZES[task]
    sets = {}
    for domain in (source, target):
        if task == "press":
            d = load_dataset("csv", data_files=str(data / f"press_pubmed_causal/{domain}_{split}.csv"), split="train")
            names = ["no_relationship", "correlational", "conditional_causal", "direct_causal"]
            d = d.cast_column("label", ClassLabel(names=names))
        else:
            d = load_dataset(
                "parquet", data_files=str(data / f"news_biomed_pos/{domain}_{split}.parquet"), split="train"
            )
            d = d.rename_column("pos", "label").select_columns(["tokens", "label"])
        sets[domain] = d.select(range(min(limit, len(d)))) if limit else d
    return sets[source], sets[target]


def run_cell(
    data: Path,
    task: str,
    method: str,
    policy: str,
    seed: int,
    epochs: float,
    bf16: bool,
    learning_rate: float,
    split: str,
) -> dict:
    from peft import LoraConfig

    from hftransfer import AdaptationConfig, AdaptationTrainer

    source, target = load(data, task, "train")
    source_held, target_held = load(data, task, split)
    oracle = method.startswith("target-trained")
    if oracle:
        source = target.select(range(min(MOST_ORACLE, len(target))))
    args = AdaptationConfig(
        output_dir=f"runs/benchmark-{task}-{method.replace(', ', '-').replace(' ', '-')}-{policy}-{seed}",
        overwrite_output_dir=True,
        objectives=METHODS[method],
        **MORE.get(method, {}),
        num_train_epochs=epochs,
        learning_rate=learning_rate,
        seed=seed,
        bf16=bf16,
        use_cpu=True,
        save_strategy="no",
        disable_tqdm=True,
        logging_steps=100,
    )
    trainer = AdaptationTrainer(
        "sentence-transformers/all-MiniLM-L6-v2",
        args,
        train_dataset=source,
        target_dataset=target if METHODS[method] or method in MORE or method == CONTROL else None,
        eval_dataset={"source": source_held, "target": target_held},
        peft_config=LoraConfig(r=8, lora_alpha=16) if policy == "lora" else None,
    )
    began = time.time()
    trainer.train()
    seconds = time.time() - began
    metrics = trainer.evaluate()
    keep = ("accuracy", "macro_f1", "entropy", "diversity")
    results = {k.removeprefix("eval_"): v for k, v in metrics.items() if k.endswith(keep)}
    return {"task": task, "method": method, "policy": policy, "seed": seed, "epochs": epochs, "bf16": bf16,
            "learning_rate": learning_rate, "split": split, "seconds": round(seconds, 1), **results}  # fmt: skip


def table(rows: list[dict], methods: Iterable[str] = METHODS) -> str:
    """Mean ± sd over seeds, in per cent; methods in their order."""
    lines = [
        "| policy | method | seeds | source acc | target acc (oracle) | target macro F1 (oracle) |",
        "|---|---|---|---|---|---|",
    ]
    groups: dict[tuple, list[dict]] = {}
    for row in rows:
        groups.setdefault((row["policy"], row["method"]), []).append(row)
    order = {m: i for i, m in enumerate(methods)}
    for (policy, method), cells in sorted(groups.items(), key=lambda g: (g[0][0], order[g[0][1]])):
        columns = []
        for key in ("source_accuracy", "target_oracle_accuracy", "target_oracle_macro_f1"):
            values = [100 * c[key] for c in cells]
            spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
            columns.append(f"{statistics.mean(values):.1f}{spread}")
        lines.append(f"| {policy} | {method} | {len(cells)} | {' | '.join(columns)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--task", choices=SIZES, default="press")
    parser.add_argument("--policy", choices=("full", "lora"), default="full")
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--epochs", type=float, default=2.0)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--learning_rate", type=float, default=None, help="default: " + str(RATES))
    parser.add_argument("--split", choices=("test", "validation"), default="test")
    parser.add_argument("--out", type=Path, default=Path("runs/news_to_medical.jsonl"))
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out.exists() else []
    for seed in args.seeds:
        for method in args.methods:
            key = {
                "task": args.task,
                "method": method,
                "policy": args.policy,
                "seed": seed,
                "epochs": args.epochs,
                "bf16": args.bf16,
                "learning_rate": args.learning_rate or RATES[args.policy],
                "split": args.split,
            }
            if any(all(row[k] == v for k, v in key.items()) for row in rows):
                continue
            row = run_cell(args.data, **key)
            rows.append(row)
            with args.out.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)
    shown = {"task": args.task, "epochs": args.epochs, "split": args.split}
    rate = lambda policy: args.learning_rate or RATES[policy]  # noqa: E731
    rows = [r for r in rows if all(r[k] == v for k, v in shown.items()) and r["learning_rate"] == rate(r["policy"])]
    print(table(rows))


if __name__ == "__main__":
    main()
