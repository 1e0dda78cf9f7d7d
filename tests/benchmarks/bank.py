"""Bank of candidates' predictions on real shifts, made by `adapt`: rules are studied on it without training.

    python tests/benchmarks/bank.py --data DIR --shifts press-pubmed sample --seeds 1 2 3
    python tests/benchmarks/bank.py --table docs/results/adapt.jsonl
    python tests/benchmarks/bank.py --study [--output runs/bank]

`--study` sets the rule beside each validator alone and beside always the last model, on the finished cases.
Each case is one call of `adapt`, which goes on where it was stopped and trains nothing twice. Models are thrown away
when a case is done; predictions stay in OUTPUT/SHIFT.SEED/_candidates/NAME/predictions.npz, and lines and table are
what the present rule makes of them. Target labels stand in arrays called oracle; only the table reads them. Texts:
MiniLM, 2 epochs at 2e-4, batches of 16, at most 80 tokens. Digits: a ResNet of three blocks from scratch. Office:
MobileNet V1 0.25.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from images import DIGITS, SMALLEST
from images import load as load_images
from selection_rule import HEAD, SINGLE, Case, judged, outcome, single
from selection_rule import line as summary

TEXT = {"num_train_epochs": 2.0, "learning_rate": 2e-4, "per_device_train_batch_size": 16, "max_length": 80}
DIGIT_SETTINGS = {"num_train_epochs": 2.0, "learning_rate": 2e-3, "per_device_train_batch_size": 32, "image_size": 32}
OFFICE_SETTINGS = {
    "num_train_epochs": 10.0,
    "learning_rate": 1e-4,
    "head_lr_multiplier": 10.0,
    "per_device_train_batch_size": 32,
    "augment_flip": True,
}
REVIEWS = ("books", "dvd", "electronics", "kitchen")
SHIFTS = {
    "press-pubmed": TEXT,
    "sample": TEXT | {"max_length": 64},
    "kitchen-books": TEXT,
    "books-kitchen": TEXT,
    "news-biomed": TEXT | {"learning_rate": 1e-4, "label_column": "label"},
    "mnist-usps": DIGIT_SETTINGS,
    "usps-mnist": DIGIT_SETTINGS,
    "amazon-webcam": OFFICE_SETTINGS,
    "webcam-amazon": OFFICE_SETTINGS,
    "amazon-dslr": OFFICE_SETTINGS,
}
CANDIDATES = {  # beside the list of the effort
    "mmd": {"about": "mmd, classes weighted", "training": {"objectives": {"mmd": 0.1}, "label_shift": "mlls"}},
    "im": {"about": "information maximisation", "training": {"objectives": {"im": 0.1}}},
    "spoiled": {"about": "a huge weight", "training": {"objectives": {"mmd": {"weight": 1000.0}}}},
}


def splits_of(data: Path, shift: str) -> dict[str, dict[str, Any]]:
    """Data sets of source and target by split."""
    from datasets import load_dataset

    from hftransfer import load_sample_corpus, load_shift

    source, _, target = shift.partition("-")
    if shift == "sample":
        corpus = load_sample_corpus()
        halves = {"source": "news", "target": "medical"}
        return {
            role: {name.split("_")[1]: rows for name, rows in corpus.items() if name.startswith(half)}
            for role, half in halves.items()
        }
    folder = {"press": "press_pubmed_causal", "news": "news_biomed_pos"}.get(source, "amazon_reviews")
    if source in ("press", *REVIEWS):
        loaded = load_shift(
            {"source": str(data / folder / f"{source}_{{split}}.csv")}, str(data / folder / f"{target}_{{split}}.csv")
        )
        return {
            "source": {"train": loaded.train["source"], "validation": loaded.validation["source"]}
            | {"test": loaded.test["source"]},
            "target": {"train": loaded.target, "test": loaded.test["target"]},
        }
    domains: dict[str, dict[str, Any]] = {"source": {}, "target": {}}
    for role, domain in (("source", source), ("target", target)):
        for split in ("train", "validation", "test"):
            if source == "news":
                files = str(data / folder / f"{domain}_{split}.parquet")
                rows = load_dataset("parquet", data_files=files, split="train")
                domains[role][split] = rows.rename_column("pos", "label").select_columns(["tokens", "label"])
            else:
                domains[role][split] = load_images(data, domain, split)
    return domains


def backbone_of(shift: str, models: Path) -> tuple[str, Any]:
    """Kind of input, and the model to start from."""
    if SHIFTS[shift] == DIGIT_SETTINGS:
        return "image", DIGITS
    if SHIFTS[shift] == OFFICE_SETTINGS:
        return "image", str(models / SMALLEST)
    return "text", "sentence-transformers/all-MiniLM-L6-v2"


def run_case(data: Path, models: Path, output: Path, shift: str, seed: int, effort: str, more: list[str]) -> None:
    from hftransfer import AdaptationConfig, adapt
    from hftransfer.adaptation.candidate_list import candidate_list

    modality, model = backbone_of(shift, models)
    args = AdaptationConfig(
        str(output / f"{shift}.{seed}"), seed=seed, use_cpu=True, report_to="none", disable_tqdm=True,
        logging_steps=100, save_strategy="no", **SHIFTS[shift],
    )  # fmt: skip
    domains = splits_of(data, shift)
    recipes = {
        recipe.name: {
            key: list(value) if isinstance(value, tuple) else value
            for key in (
                "about",
                "seed",
                "training",
                "mean_of",
                "average_of",
                "student_of",
                "start",
                "adabn_of",
                "probe",
            )
            if (value := getattr(recipe, key))
        }
        for recipe in candidate_list(effort, modality, from_scratch=isinstance(model, dict))
    }
    recipes |= {name: CANDIDATES[name] for name in more}
    case = output / f"{shift}.{seed}"
    result = adapt(
        model,
        domains["source"]["train"],
        domains["target"]["train"],
        validation=domains["source"]["validation"],
        test={role: splits["test"] for role, splits in domains.items() if "test" in splits},
        candidates=recipes,
        args=args,
    )
    print(result)
    (case / "candidates.json").write_text(json.dumps(recipes))
    for weights in case.glob("_candidates/*/*.safetensors"):
        weights.unlink()


def stored_outcomes(case: Path) -> list[Any]:
    """Candidates of a finished case, from its stored predictions."""
    from hftransfer.adaptation.candidate_list import read_candidates
    from hftransfer.adaptation.candidate_maker import CandidateMaker
    from hftransfer.adaptation.candidate_run import CandidateOutcome, ModelFacts
    from hftransfer.adaptation.stored_predictions import StoredPredictions

    recipes = read_candidates(json.loads((case / "candidates.json").read_text()))
    maker = CandidateMaker(None, recipes)  # type: ignore[arg-type]  # it makes means only, for which nothing is run
    for recipe in recipes:
        if recipe.mean_of:
            maker.outcomes[recipe.name] = maker.mean(recipe)
            continue
        folder = case / "_candidates" / recipe.name
        record = json.loads((folder / "candidate.json").read_text())
        maker.outcomes[recipe.name] = CandidateOutcome(
            recipe,
            folder,
            StoredPredictions.load(folder / "predictions.npz"),
            record["seconds"],
            class_weights=record.get("class_weights"),
            model=ModelFacts(**record["model"]),
        )
    return list(maker.outcomes.values())


def collect(output: Path) -> list[dict[str, Any]]:
    """What the present rule makes of each finished case."""
    from hftransfer.adaptation.judging import judge
    from hftransfer.adaptation.report_facts import accuracy_of, oracle_metrics
    from hftransfer.selection.rule import SelectionRule

    lines = []
    for case in sorted(path.parent for path in output.glob("*/adaptation.json")):
        shift, _, seed = case.name.rpartition(".")
        outcomes = stored_outcomes(case)
        verdicts = judge(outcomes, SelectionRule(), outcomes[0].model.class_names)
        judged = {entry.name: entry.predictions for entry in verdicts.entries}
        judged |= {
            outcome.name: outcome.predictions for outcome in outcomes if outcome.recipe.base or outcome.recipe.probe
        }
        estimate = verdicts.accuracy
        lines.append(
            {
                "shift": shift,
                "seed": int(seed),
                "verdict": verdicts.chosen.verdict,
                "chosen": verdicts.chosen.name,
                "estimated_accuracy": [estimate.value, estimate.low, estimate.high]
                if estimate is not None and estimate.known
                else None,
                "refused": verdicts.judgement.refused,
                "oracle": {
                    name: oracle_metrics(p.target_test_logits, p.target_test_labels_oracle)
                    for name, p in judged.items()
                },
                "source_test_accuracy": {
                    name: accuracy_of(p.source_test_logits, p.source_test_labels) for name, p in judged.items()
                },
                "seconds": {o.name: o.seconds for o in outcomes if o.seconds},
            }
        )
    return lines


def study(output: Path) -> str:
    """Markdown: what the rule, each validator alone, and always the last model come to on finished cases."""
    from hftransfer.adaptation.judging import contender, judge
    from hftransfer.adaptation.report_facts import accuracy_of
    from hftransfer.selection.rule import SelectionRule

    cases = []
    for folder in sorted(path.parent for path in output.glob("*/adaptation.json")):
        outcomes = stored_outcomes(folder)
        verdicts = judge(outcomes, SelectionRule(), outcomes[0].model.class_names)
        entries = sorted(verdicts.entries, key=lambda entry: entry is not verdicts.base)  # source-only first
        accuracies = {
            entry.name: 100
            * accuracy_of(entry.predictions.target_test_logits, entry.predictions.target_test_labels_oracle)
            for entry in entries
        }
        spoiled = [entry.name for entry in entries if entry.name.startswith("spoiled")]
        contenders = [contender(entry, entry is verdicts.base) for entry in entries]
        cases.append(Case(folder.name, "as it is", "adapt", contenders, accuracies, verdicts.shift, spoiled))
    rows = [HEAD, summary("the rule", [judged(case, SelectionRule()) for case in cases])]
    for name in (*SINGLE, "cot", "snd", "mixval_inter"):
        rows.append(summary(f"`{name}` alone", [single(case, name) for case in cases]))
    students = [case for case in cases if "student" in case.accuracies]
    rows.append(summary("always the student", [outcome(case, "student") for case in students]))
    return "\n".join(rows)


def table(lines: list[dict[str, Any]]) -> str:
    """Markdown: oracle accuracy of source-only, of what was handed over and of the best model, and the estimate."""
    rows = ["| shift | seed | handed over | source-only | handed over | best | estimate | on the source |"]
    rows.append("|" + "---|" * 8)
    for line in lines:
        oracle = {name: 100 * scores["accuracy"] for name, scores in line["oracle"].items()}
        source = {name: 100 * value for name, value in line["source_test_accuracy"].items()}
        estimate, chosen = line["estimated_accuracy"], line["chosen"]
        shown = "cannot tell" if estimate is None else "{:.1f} ({:.1f} to {:.1f})".format(*(100 * x for x in estimate))
        models = [name for name in oracle if not name.startswith("mean")]
        best = max(models, key=oracle.__getitem__)
        rows.append(
            f"| {line['shift']} | {line['seed']} | {chosen} | {oracle['source-only']:.1f} | {oracle[chosen]:.1f} | "
            f"{oracle[best]:.1f}: {best} | {shown} | {source['source-only']:.1f}, {source[chosen]:.1f} |"
        )
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--models", type=Path, default=Path("../shared/models"))
    parser.add_argument("--output", type=Path, default=Path("runs/bank"))
    parser.add_argument("--shifts", nargs="+", choices=SHIFTS, default=list(SHIFTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--effort", default="standard")
    parser.add_argument("--more", nargs="*", choices=CANDIDATES, default=[])
    parser.add_argument("--again", action="store_true", help="train a case anew")
    parser.add_argument("--lines", type=Path, help="write a line of each finished case to this file")
    parser.add_argument("--study", action="store_true", help="compare the rule with single validators, and stop")
    parser.add_argument("--table", type=Path, help="print the table of such a file, and stop")
    args = parser.parse_args()
    if args.study:
        print(study(args.output))
        return
    if args.table is None:
        for shift in args.shifts:
            for seed in args.seeds:
                case = args.output / f"{shift}.{seed}"
                if args.again:
                    shutil.rmtree(case, ignore_errors=True)
                if not (case / "adaptation.json").is_file():
                    run_case(args.data, args.models, args.output, shift, seed, args.effort, args.more)
    lines = (
        collect(args.output) if args.table is None else [json.loads(x) for x in args.table.read_text().splitlines()]
    )
    if args.lines is not None:
        args.lines.write_text("".join(json.dumps(line) + "\n" for line in lines))
    print(table(lines))


if __name__ == "__main__":
    main()
