"""Accuracy by how many target labels were asked for, chosen and at random; resumable, one JSON line a cell.

    python tests/benchmarks/asking.py --data DIR --seeds 1 2 3 --counts 20 50 100 300
    python tests/benchmarks/asking.py --table
    python tests/benchmarks/asking.py --simulate

`adapt` makes its candidates once a seed, at effort `standard`. Each cell answers questions with the target's own
labels. *Chosen* are the questions that `ask` writes, *random* are as many rows at random, and *alone* are the same
random rows where source-only is the one candidate, so that nothing was adapted. Accuracies are of the target's test
split, by which nothing is chosen. `--simulate` needs no data: how far the estimate from answers lies
from the truth, beside that from the random half alone.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
from bank import SHIFTS, backbone_of, splits_of

WAYS = ("chosen", "random", "alone")


def fill(questions: Path, answers: Path, target: Any) -> None:
    """Answers to questions: the target's own labels."""
    names = getattr(target.features["label"], "names", None)
    labels = [names[label] for label in target["label"]] if names else target["label"]
    with questions.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    answers.parent.mkdir(parents=True, exist_ok=True)
    with answers.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(row | {"label": labels[int(row["row"])]} for row in rows)


def random_questions(asked: Path, path: Path, target: Any, inputs: dict[str, Any], count: int, seed: int) -> None:
    """Question file of rows drawn alike, of the same population as another file."""
    from hftransfer.adaptation.candidate_predictions import CandidatePredictor
    from hftransfer.adaptation.given_domains import load_domains
    from hftransfer.adaptation.question_file import Question, TargetCells, write_questions
    from hftransfer.adaptation.run_inputs import RunInputs

    with asked.open(encoding="utf-8-sig", newline="") as file:
        first = next(csv.DictReader(file))
    population, classes = int(first["drawn_from"]), first["classes"].split(" | ")
    data = load_domains(inputs["source"], target, inputs["validation"], None, 0.0, inputs["args"])
    run = RunInputs(inputs["model"], inputs["args"], data.train, {}, data.target)
    rows = CandidatePredictor(run, population).rows_to_predict
    drawn = np.random.default_rng((seed, count)).permutation(rows)[:count]
    questions = [Question(k + 1, int(row), 1 / (population - k), population) for k, row in enumerate(drawn)]
    write_questions(path, questions, TargetCells(run, "sequence-classification", classes))


def run_cell(data: Path, models: Path, output: Path, shift: str, seed: int, count: int, way: str) -> dict[str, Any]:
    from hftransfer import AdaptationConfig, adapt

    alone = way == "alone"
    case = output / f"{shift}.{seed}{'.alone' * alone}"
    domains = splits_of(data, shift)
    args = AdaptationConfig(
        str(case), seed=seed, use_cpu=True, report_to="none", disable_tqdm=True, logging_steps=100, **SHIFTS[shift]
    )
    (_, model), source, target = backbone_of(shift, models), domains["source"]["train"], domains["target"]["train"]
    how: dict[str, Any] = {
        "validation": domains["source"]["validation"],
        "test": {role: splits["test"] for role, splits in domains.items() if "test" in splits},
        "args": args,
    }
    more = {"candidates": {"source-only": {}}} if alone else {}
    answers = None
    if count:
        asked = adapt(model, source, target, **how, **more, ask=count).questions
        assert asked is not None
        answers = output / "answers" / f"{shift}.{seed}.{way}-{count}.csv"
        if way != "chosen":
            answers.parent.mkdir(parents=True, exist_ok=True)
            random_questions(asked, answers, target, {"model": model, "source": source} | how, count, seed)
            asked = answers
        fill(asked, answers, target)
    result = adapt(model, source, target, **how, **more, answers=answers)
    oracle = {c.name: c.oracle["accuracy"] for c in result.facts.candidates if "accuracy" in c.oracle}
    estimate = result.estimated_accuracy
    assert estimate is not None
    row: dict[str, Any] = {"shift": shift, "seed": seed, "count": count, "way": way, "chosen": result.chosen}
    row |= {"estimate": [estimate.value, estimate.low, estimate.high], "oracle": oracle}
    return row | {"comparisons": [str(c) for c in result.answers.comparisons] if result.answers else []}


def table(rows: list[dict[str, Any]]) -> str:
    """Test accuracy of what was handed over, of the models made with answers, and how far the estimate was off."""
    lines = [
        "| shift | labels | drawn | seeds | handed over | trained on answers | probe with answers | estimate off by |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for shift, count, way in sorted({(row["shift"], row["count"], row["way"]) for row in rows}):
        cell = [row for row in rows if (row["shift"], row["count"], row["way"]) == (shift, count, way)]
        handed = [100 * row["oracle"][row["chosen"]] for row in cell]
        made = [
            [100 * row["oracle"][name] for row in cell if name in row["oracle"]]
            for name in ("trained-on-answers", "probe-with-answers")
        ]
        off = statistics.mean(abs(100 * row["estimate"][0] - h) for row, h in zip(cell, handed, strict=True))
        shown = [spread(handed), *(spread(values) if values else "" for values in made), f"{off:.1f}"]
        lines.append(f"| {shift} | {count} | {way if count else ''} | {len(cell)} | {' | '.join(shown)} |")
    return "\n".join(lines)


def spread(values: list[float]) -> str:
    deviation = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{deviation}"


def simulate(rows: int = 400, repeats: int = 300) -> str:
    """Accuracy of a model that is right on four rows in five, from answers with weights and from the random half."""
    from hftransfer.selection.answers import accuracy_of_answers, answer_weights, answered_scores
    from hftransfer.selection.questions import draw_questions, question_scores

    draw = np.random.default_rng(0)
    labels, features = draw.integers(2, size=rows), draw.normal(size=(rows, 8))
    p = 1 / (1 + np.exp(-1.2 * (2 * labels - 1) - 1.5 * draw.normal(size=rows)))
    probabilities = np.stack([1 - p, p], 1)
    scores, right = question_scores(probabilities, []), probabilities.argmax(1) == labels
    lines = [f"The truth is {100 * right.mean():.1f}.", "", "| answers | weighted | random half | plain share |"]
    lines.append("|---|---|---|---|")
    for count in (20, 50, 100):
        found: list[list[float]] = [[], [], []]
        for seed in range(repeats):
            asked = draw_questions(scores, features, count, seed=seed)
            weights = answer_weights(np.arange(1, count + 1), asked.chances, rows, count)
            answered = answered_scores("model", np.log(probabilities[asked.rows]), labels[asked.rows])
            found[0].append(100 * accuracy_of_answers(answered, weights).value)
            found[1].append(100 * float(right[np.random.default_rng(seed).permutation(rows)[: count // 2]].mean()))
            found[2].append(100 * float(answered.right.mean()))
        lines.append(f"| {count} | {' | '.join(map(spread, found))} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--models", type=Path, default=Path("../shared/models"))
    parser.add_argument("--runs", type=Path, default=Path("runs/asking"), help="where candidates are kept")
    parser.add_argument("--shift", default="press-pubmed", choices=[name for name in SHIFTS if "-" in name])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--counts", type=int, nargs="+", default=[0, 20, 50, 100, 300])
    parser.add_argument("--ways", nargs="+", default=list(WAYS[:2]), choices=WAYS)
    parser.add_argument("--out", type=Path, default=Path("runs/asking.jsonl"))
    parser.add_argument("--table", action="store_true", help="show what there is, and run nothing")
    parser.add_argument("--simulate", action="store_true", help="on arrays alone")
    args = parser.parse_args()
    if args.simulate:
        print(simulate())
        return
    args.out.parent.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out.exists() else []
    cells = [(s, c, w) for s in args.seeds for c in args.counts for w in (args.ways if c else args.ways[:1])]
    for seed, count, way in [] if args.table else cells:
        key = {"shift": args.shift, "seed": seed, "count": count, "way": way}
        if any(all(row[k] == v for k, v in key.items()) for row in rows):
            continue
        rows.append(run_cell(args.data, args.models, args.runs, args.shift, seed, count, way))
        with args.out.open("a") as file:
            file.write(json.dumps(rows[-1]) + "\n")
        print(json.dumps(rows[-1]), flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
