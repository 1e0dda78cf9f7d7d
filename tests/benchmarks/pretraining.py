"""What learning from the target's texts gives, beside `adapt`: pre-training, masked words in training, and rounds of
self-training; resumable, one JSON line a case.

    python tests/benchmarks/pretraining.py --data DIR --shifts press-pubmed --seeds 1 2 3 --more rounds
    python tests/benchmarks/pretraining.py --data DIR --shifts press-pubmed --seeds 1 2 3 --start pretrained
    python tests/benchmarks/pretraining.py --table docs/results/pretraining.jsonl

A case is one call of `adapt`: three models of the source, their mean and its student. `--more rounds` adds two rounds
of self-training, `--more joint` the same three, mean and student with masked words of the target beside the source's
labels (`masked_lm`). `--start pretrained` trains MiniLM on masked words of both domains first, at a gentle rate and
anchored to its sentence space, with paragraphs of biomedical articles as pool; `--start contrast` on two readings of
each text instead (SimCSE). `--effort quick` makes one model of the source alone.
Columns called oracle read the target's test labels; nothing is chosen by them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
from bank import SHIFTS, backbone_of, splits_of

STANDARD: dict[str, dict[str, Any]] = {
    "source-only": {},
    "source-only-2": {"seed": 1000},
    "source-only-3": {"seed": 2000},
    "mean": {"mean_of": ["source-only", "source-only-2", "source-only-3"]},
    "student": {"student_of": "mean", "start": "source-only"},
}
WORDS = {"objectives": ["masked_lm"]}
LISTS: dict[str, dict[str, dict[str, Any]]] = {
    "quick": {"source-only": {}},
    "standard": STANDARD,
    "rounds": {
        "student-2": {"round_of": ["mean", "student"]},
        "student-3": {"round_of": ["mean", "student-2"]},
    },
    "joint": {
        "joint": {"training": WORDS},
        "joint-2": {"training": WORDS, "seed": 1000},
        "joint-3": {"training": WORDS, "seed": 2000},
        "joint-mean": {"mean_of": ["joint", "joint-2", "joint-3"]},
        "joint-student": {"student_of": "joint-mean", "start": "joint"},
    },
    "joint-one": {"joint": {"training": WORDS}},
}
PRETRAINING: dict[str, dict[str, Any]] = {
    "pretrained": {"num_train_epochs": 2.0, "learning_rate": 5e-5, "sentence_anchor": 1.0, "max_length": 128},
    "contrast": {"num_train_epochs": 1.0, "learning_rate": 3e-5, "mask_probability": 0.0, "sentence_contrast": 1.0},
}
POOL_ROWS = 500  # of the pool for masked words


def pretrained(data: Path, output: Path, shift: str, seed: int, start: str, model: str) -> tuple[str, dict[str, Any]]:
    """Folder of the model after pre-training on the texts of both domains, made once, and what it came to."""
    from datasets import load_dataset

    from hftransfer import PretrainingConfig, choose_rows, pretrain

    folder = output / f"{shift}.{seed}.start-{start}"
    facts = folder.with_name(f"{folder.name}.json")
    if not facts.is_file():
        column = "tokens" if shift.startswith("news") else "text"
        domains = splits_of(data, shift)
        source, target = (domains[role]["train"].select_columns([column]) for role in ("source", "target"))
        if column == "text" and start == "pretrained":  # the tagging shift's own articles are the pool's
            files = str(data / "biomed_unlabeled" / "craft_paragraphs.csv")
            pool = load_dataset("csv", data_files=files, split="train").select_columns([column])
            chosen = choose_rows(pool, target, POOL_ROWS, seed=seed, progress=False)
            source = {"source": source, "pool": pool.select(chosen.rows)}
        args = PretrainingConfig(
            str(folder), seed=seed, use_cpu=True, report_to="none", disable_tqdm=True, logging_steps=25,
            save_strategy="no", overwrite_output_dir=True, **PRETRAINING[start],
        )  # fmt: skip
        began = time.time()
        result = pretrain(model, target, source, args=args)
        facts.write_text(json.dumps({"held_out": result.scores, "pretraining_seconds": round(time.time() - began)}))
    return str(folder), json.loads(facts.read_text())


def run_case(options: argparse.Namespace, shift: str, seed: int) -> dict[str, Any]:
    from hftransfer import AdaptationConfig, adapt

    _, model = backbone_of(shift, options.models)
    facts: dict[str, Any] = {}
    if options.start in PRETRAINING:
        model, facts = pretrained(options.data, options.runs, shift, seed, options.start, model)
    case = options.runs / f"{shift}.{seed}.{options.start}"
    recipes = {name: recipe for key in (options.effort, *options.more) for name, recipe in LISTS[key].items()}
    args = AdaptationConfig(
        str(case), seed=seed, use_cpu=True, report_to="none", disable_tqdm=True, logging_steps=50, **SHIFTS[shift]
    )
    domains = splits_of(options.data, shift)
    result = adapt(
        model,
        domains["source"]["train"],
        domains["target"]["train"],
        validation=domains["source"]["validation"],
        test={role: splits["test"] for role, splits in domains.items() if "test" in splits},
        candidates={name: {"about": name} | recipe for name, recipe in recipes.items()},
        args=args,
    )
    print(result, flush=True)
    line: dict[str, Any] = {"shift": shift, "seed": seed, "start": options.start, **facts, "chosen": result.chosen}
    line["refused"] = {c.name: c.refused for c in result.facts.candidates if getattr(c, "refused", None)}
    return line | accuracies(case, result)


def accuracies(case: Path, result: Any) -> dict[str, dict[str, float]]:
    """Test accuracies of all models of a case, on the source and (oracle) on the target."""
    found: dict[str, dict[str, float]] = {"source": {}, "oracle": {}}
    for path in sorted(case.glob("_candidates/*/predictions.npz")):
        with np.load(path) as arrays:
            for role, labels in (("source", "source_test_labels"), ("target", "target_test_labels_oracle")):
                y, logits = arrays[labels], arrays[f"{role}_test_logits"]
                right = (logits.argmax(1) == y)[y >= 0]
                found["oracle" if role == "target" else role][path.parent.name] = round(float(right.mean()), 4)
    for candidate in result.facts.candidates:
        if "accuracy" in candidate.oracle:
            found["oracle"].setdefault(candidate.name, round(candidate.oracle["accuracy"], 4))
    return found


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def keep(path: Path, line: dict[str, Any]) -> None:
    """The line in the file, in the place of an earlier one of the same case."""
    case = [line[key] for key in ("shift", "seed", "start")]
    lines = [*(x for x in read(path) if [x["shift"], x["seed"], x["start"]] != case), line]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(x) + "\n" for x in lines))


def table(lines: list[dict[str, Any]]) -> str:
    """Markdown: oracle accuracy of each kind of model, over seeds, and its difference from the plain one."""
    alone = ("source-only", "source-only-2", "source-only-3")
    kinds = {
        "the source alone": (alone, "plain"),
        "pre-trained on masked words, then the source": (
            ("source-only", "source-only-2", "source-only-3"),
            "pretrained",
        ),
        "pre-trained by contrast, then the source": (alone, "contrast"),
        "masked words beside the source": (("joint", "joint-2", "joint-3"), "plain"),
        "student": (("student",), "plain"),
        "student, pre-trained on masked words": (("student",), "pretrained"),
        "student, pre-trained by contrast": (("student",), "contrast"),
        "student of masked words": (("joint-student",), "plain"),
    }
    rows = ["| shift | model | runs | source | target (oracle) |", "|---|---|---|---|---|"]
    learnt = (line["shift"] for line in lines if line["start"] in PRETRAINING or "joint" in line["oracle"])
    for shift in dict.fromkeys(learnt):
        for kind, (names, start) in kinds.items():
            cell = [line for line in lines if (line["shift"], line["start"]) == (shift, start)]
            values = {
                role: [100 * line[role][name] for line in cell for name in names if name in line[role]]
                for role in ("source", "oracle")
            }
            if values["oracle"]:
                shown = " | ".join(spread(values[role]) for role in ("source", "oracle"))
                rows.append(f"| {shift} | {kind} | {len(values['oracle'])} | {shown} |")
    return "\n".join(rows)


def table_of_rounds(lines: list[dict[str, Any]]) -> str:
    """Markdown: oracle accuracy before and after rounds of self-training, and that of the round that was not kept."""
    rows = [
        "| shift | seed | student | after the rounds | second round's student, kept or not |",
        "|---|---|---|---|---|",
    ]
    for line in lines:
        oracle = {name: 100 * value for name, value in line["oracle"].items()}
        if "student-2" in oracle:
            kept = [name for name in ("student", "student-2", "student-3") if name not in line["refused"]]
            shown = [f"{oracle[name]:.1f}" for name in ("student", kept[-1], "student-2")]
            rows.append(f"| {line['shift']} | {line['seed']} | {' | '.join(shown)} |")
    return "\n".join(rows)


def spread(values: list[float]) -> str:
    deviation = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{deviation}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--models", type=Path, default=Path("../shared/models"))
    parser.add_argument("--runs", type=Path, default=Path("runs/pretraining"), help="where candidates are kept")
    parser.add_argument("--shifts", nargs="+", choices=[name for name in SHIFTS if "-" in name or name == "sample"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--start", choices=("plain", *PRETRAINING), default="plain")
    parser.add_argument("--effort", choices=("quick", "standard"), default="standard")
    parser.add_argument("--more", nargs="*", choices=("rounds", "joint", "joint-one"), default=[])
    parser.add_argument("--out", type=Path, default=Path("runs/pretraining.jsonl"))
    parser.add_argument("--table", type=Path, help="print the table of such a file, and stop")
    options = parser.parse_args()
    if options.table is None:
        for shift in options.shifts:
            for seed in options.seeds:
                line = run_case(options, shift, seed)
                keep(options.out, line)
    lines = read(options.table or options.out)
    print(table(lines), table_of_rounds(lines), sep="\n\n")


if __name__ == "__main__":
    main()
