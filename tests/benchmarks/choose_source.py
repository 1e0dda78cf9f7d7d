"""How often `choose_source` puts the source first that is the best to fine-tune on: reviews and Office, each domain in
turn as the target of the others; resumable, one JSON line a cell.

    python tests/benchmarks/choose_source.py --data DIR --models DIR --seeds 1 2
    python tests/benchmarks/choose_source.py --table docs/results/choose_source.jsonl

Reviews: MiniLM, fine-tuned on each domain as in `bank.py`. Office: MobileNetV1 0.25, fine-tuned by `images.py`, whose
lines are read. Accuracies are of the target's test rows; the ranking reads train rows, and none of their labels.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from bank import REVIEWS, TEXT
from images import OFFICE, SMALLEST
from images import load as load_images
from machine import describe

PLACES = ("first", "second", "third")
MINILM = "sentence-transformers/all-MiniLM-L6-v2"
IMAGES = Path(__file__).parents[2] / "docs/results/images.jsonl"


def review(data: Path, domain: str, split: str) -> Any:
    from datasets import load_dataset

    files = str(data / f"amazon_reviews/{domain}_{split}.csv")
    return load_dataset("csv", data_files=files, split="train").select_columns(["text", "label"])


def tuned(data: Path, source: str, seed: int) -> dict[str, Any]:
    """Test accuracy on each of the other domains of a model that was fine-tuned on one."""
    from hftransfer import AdaptationConfig, AdaptationTrainer

    args = AdaptationConfig(
        output_dir=f"runs/choose-source-{source}-{seed}",
        overwrite_output_dir=True,
        seed=seed,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        logging_steps=100,
        **TEXT,
    )
    others = {domain: review(data, domain, "test") for domain in REVIEWS if domain != source}
    trainer = AdaptationTrainer(MINILM, args, review(data, source, "train"), eval_dataset=others)
    trainer.train()
    found = trainer.evaluate()
    return {"source": source, "seed": seed} | {
        "accuracy": {name: found[f"eval_{name}_oracle_accuracy"] for name in others}
    }


def ranked(data: Path, models: Path, target: str) -> dict[str, Any]:
    """What the choice says of one target."""
    from hftransfer import choose_source

    if target in REVIEWS:
        model, domains, load, more = MINILM, REVIEWS, review, {"max_length": TEXT["max_length"]}
    else:
        model, domains, load, more = str(models / SMALLEST), OFFICE, load_images, {}
    sources = {name: load(data, name, "train") for name in domains if name != target}
    choice = choose_source(model, sources, load(data, target, "train"), progress=False, **more)
    first = {name: round(scores.first, 3) for name, scores in choice.sources.items()}
    disagree = any(note.startswith("the criteria disagree") for note in choice.tables()[0].notes)
    return {"target": target, "first": first, "disagree": disagree}


def tuned_on_images() -> list[dict[str, Any]]:
    """Source-only cells of `images.py`."""
    rows = [json.loads(line) for line in IMAGES.read_text().splitlines()]
    pairs = [(row, *row["task"].split("-")) for row in rows if row["method"] == "source-only"]
    return [
        {"source": source, "seed": row["seed"], "accuracy": {target: row["target_oracle_accuracy"]}}
        for row, source, target in pairs
        if source in OFFICE and row["mobilenet"] == SMALLEST and row["split"] == "test"
    ]


def table(rows: list[dict[str, Any]]) -> str:
    """Sources of each target, as they were ranked, with the mean accuracy of models that were fine-tuned on them."""
    cells = [row for row in rows if "accuracy" in row] + tuned_on_images()
    lines = [
        "| target | ranked, with how often each is first | criteria | fine-tuned on it | the best is |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        if "first" not in row:
            continue
        means = {
            name: 100 * statistics.mean(c["accuracy"][row["target"]] for c in cells if name == c["source"]
                                        and row["target"] in c["accuracy"])
            for name in row["first"]
        }  # fmt: skip
        place = list(means).index(max(means, key=lambda name: means[name])) + 1
        ranks = ", ".join(f"{name} {100 * share:.0f} %" for name, share in row["first"].items())
        accuracies = ", ".join(f"{value:.1f}" for value in means.values())
        agreed = "disagree" if row["disagree"] else "agree"
        lines.append(f"| {row['target']} | {ranks} | {agreed} | {accuracies} | {PLACES[place - 1]} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--models", type=Path, default=Path("../shared/models"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/choose_source.jsonl"))
    parser.add_argument("--table", type=Path, help="show what there is, and run nothing")
    args = parser.parse_args()
    out = args.table or args.out
    rows = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
    if args.table is None:
        print(describe())
        out.parent.mkdir(parents=True, exist_ok=True)
        done = {(row.get("target"), row.get("source"), row.get("seed")) for row in rows}
        work = [(target, None, None) for target in (*REVIEWS, *OFFICE)]
        work += [(None, source, seed) for seed in args.seeds for source in REVIEWS]
        for target, source, seed in work:
            if (target, source, seed) in done:
                continue
            row = ranked(args.data, args.models, target) if target else tuned(args.data, source, seed)
            rows.append(row)
            with out.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
