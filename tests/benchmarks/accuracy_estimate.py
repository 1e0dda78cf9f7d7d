"""Estimates of the target accuracy against the truth, on stored predictions of trained models.

    python tests/benchmarks/accuracy_estimate.py [BANK]

BANK is a folder of SHIFT.CANDIDATE.SEED.npz files: logits of source_validation, source_test and target_train,
target_validation, target_test, with labels. Estimates are made from source validation and target train rows; labels of
the target, which stand in arrays called oracle, only judge them, on target validation and test rows.

Cases: source-only models, corrected for label shift where the test believes it; the same models uncorrected; students,
whose weights are the mean of the source-only estimates; source-only models whose target is resampled to other class
frequencies (binary tasks, or all with --resample); and source test rows in place of the target (no shift). Members are
the source-only models of the shift.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hftransfer import Predictions, estimate_accuracy, estimate_label_shift
from hftransfer.selection.calibration import calibrated
from hftransfer.selection.class_frequencies import LabelShiftEstimate
from hftransfer.selection.target_accuracy import TargetAccuracy

PRIORS = {2: ([0.2, 0.8], [0.8, 0.2], [0.35, 0.65]), 3: ([0.2, 0.3, 0.5],), 4: ([0.1, 0.2, 0.3, 0.4],)}
HANDED_OVER = (
    "source-only, no shift believed",
    "corrected",
    "student",
    "resampled, corrected",
    "resampled, no shift believed",
)


@dataclass
class Stored:
    """One file of the bank."""

    shift: str
    candidate: str
    source: np.ndarray
    labels: np.ndarray
    target: np.ndarray
    held_out: np.ndarray
    source_test: np.ndarray
    source_test_labels: np.ndarray
    target_oracle: np.ndarray
    held_out_oracle: np.ndarray

    @classmethod
    def load(cls, path: Path) -> Stored:
        shift, candidate, _ = path.stem.split(".")
        with np.load(path) as file:
            arrays = {name: np.asarray(file[name]) for name in file.files if name != "note"}
        logits = {name: values.astype(np.float64) for name, values in arrays.items() if name.endswith("logits")}
        return cls(
            shift,
            candidate,
            logits["source_validation_logits"],
            arrays["source_validation_labels"],
            logits["target_train_logits"],
            np.concatenate([logits["target_validation_logits"], logits["target_test_logits"]]),
            logits["source_test_logits"],
            arrays["source_test_labels"],
            arrays["target_train_labels_oracle"],
            np.concatenate([arrays["target_validation_labels_oracle"], arrays["target_test_labels_oracle"]]),
        )

    def predictions(self) -> Predictions:
        return Predictions(self.source, self.labels, self.target)

    def resampled(self, frequencies: np.ndarray, draw: np.random.Generator) -> tuple[Stored, np.ndarray]:
        """The same with a target of other class frequencies, and the rows of the target that it keeps."""

        def rows(labels: np.ndarray) -> np.ndarray:
            counts = np.bincount(labels, minlength=len(frequencies))
            total = (counts / frequencies).min()
            classes = enumerate(frequencies)
            return np.concatenate(
                [draw.permutation(np.flatnonzero(labels == k))[: int(total * share)] for k, share in classes]
            )

        kept, held_out = rows(self.target_oracle), rows(self.held_out_oracle)
        changed = replace(
            self,
            target=self.target[kept],
            held_out=self.held_out[held_out],
            held_out_oracle=self.held_out_oracle[held_out],
        )
        return changed, kept


@dataclass
class Case:
    """Predictions whose accuracy is to be estimated, and the truth."""

    group: str
    predictions: Predictions
    weights: np.ndarray | None
    members: list[np.ndarray] | None
    truth: float


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    return float((logits.argmax(1) == labels).mean())


def corrected(probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    joint = probabilities * weights
    return joint / joint.sum(1, keepdims=True)


def source_only_cases(model: Stored, members: list[np.ndarray] | None, prefix: str = "") -> Iterator[Case]:
    shift = estimate_label_shift(model.predictions(), resamples=0)
    truth = accuracy(model.held_out, model.held_out_oracle)
    if not shift.believed:
        group = f"{prefix}no shift believed" if prefix else "source-only, no shift believed"
        yield Case(group, model.predictions(), None, members, truth)
        return
    yield Case(f"{prefix}uncorrected, weights", model.predictions(), shift.weights, members, truth)
    yield Case(f"{prefix}uncorrected, no weights", model.predictions(), None, members, truth)
    logits = [np.log(shift.corrected(z)) for z in (model.source, model.target, model.held_out)]
    if members is not None:
        members = [corrected(p, shift.weights) for p in members]
    predictions = Predictions(logits[0], model.labels, logits[1])
    truth = accuracy(logits[2], model.held_out_oracle)
    yield Case(f"{prefix}corrected", predictions, shift.weights, members, truth)


def cases(bank: Path, resample: bool) -> Iterator[Case]:
    stored = [Stored.load(path) for path in sorted(bank.glob("*.npz"))]
    draw = np.random.default_rng(0)
    shifts: dict[str, list[tuple[Stored, LabelShiftEstimate]]] = {}
    for model in stored:
        if model.candidate == "source-only":
            estimate = estimate_label_shift(model.predictions(), resamples=0)
            shifts.setdefault(model.shift, []).append((model, estimate))
    for model in stored:
        runs = shifts.get(model.shift, [])
        if model.candidate.startswith("student"):
            weights = np.mean([estimate.weights for _, estimate in runs], axis=0)
            members = [estimate.corrected(run.target) for run, estimate in runs]
            truth = accuracy(model.held_out, model.held_out_oracle)
            yield Case("student", model.predictions(), weights, members, truth)
            continue
        members = [calibrated(run.target, estimate.temperature) for run, estimate in runs]
        independent = members if model.candidate == "source-only" else None  # pretrained otherwise: not of these runs
        yield from source_only_cases(model, independent)
        no_shift = Predictions(model.source, model.labels, model.source_test)
        yield Case("no shift", no_shift, None, None, accuracy(model.source_test, model.source_test_labels))
        classes = model.source.shape[1]
        if model.candidate == "source-only" and model.target_oracle.min() >= 0 and (resample or classes == 2):
            for frequencies in PRIORS.get(classes, ()):
                changed, kept = model.resampled(np.array(frequencies), draw)
                yield from source_only_cases(changed, [p[kept] for p in members], "resampled, ")


@dataclass
class Result:
    group: str
    truth: float
    estimates: dict[str, float]
    inside: bool
    width: float
    known: bool


def judge(case: Case) -> Result:
    single = TargetAccuracy(case.predictions, case.weights, case.members)
    estimates = {"source accuracy": float(np.average(single.right, weights=single.row_weights)), **single()}
    estimates["average of the estimates"] = float(np.mean(list(single().values())))
    estimate = estimate_accuracy(case.predictions, case.weights, case.members)
    estimates["**handed out**"] = estimate.value
    inside = estimate.low <= case.truth <= estimate.high
    return Result(case.group, case.truth, estimates, inside, estimate.high - estimate.low, estimate.known)


def table(results: list[Result]) -> str:
    names = list(dict.fromkeys(name for result in results for name in result.estimates))
    names = [name for name in names if "**" not in name] + ["**handed out**"]
    lines = ["| estimate | mean error | bias | largest error | 80 % interval covers |", "|---|---|---|---|---|"]
    for name in names:
        errors = 100 * np.array([r.estimates[name] - r.truth for r in results if name in r.estimates])
        covers = f"{100 * np.mean([r.inside for r in results]):.0f} %" if "**" in name else ""
        line = f"{name} | {np.abs(errors).mean():.1f} | {errors.mean():+.1f} | {np.abs(errors).max():.1f} | {covers}"
        lines.append(f"| {line} |")
    return "\n".join(lines)


def groups(results: list[Result]) -> str:
    lines = [
        "| cases | number | source accuracy, error | mean error | bias | covers | width | cannot tell |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for group in sorted({r.group for r in results}, key=lambda g: (g not in HANDED_OVER, g)):
        chosen = [r for r in results if r.group == group]
        errors = 100 * np.array([r.estimates["**handed out**"] - r.truth for r in chosen])
        naive = 100 * np.array([r.estimates["source accuracy"] - r.truth for r in chosen])
        covers, width = np.mean([r.inside for r in chosen]), np.mean([r.width for r in chosen])
        figures = f"{np.abs(naive).mean():.1f} | {np.abs(errors).mean():.1f} | {errors.mean():+.1f}"
        cannot_tell = sum(not r.known for r in chosen)
        lines.append(
            f"| {group} | {len(chosen)} | {figures} | {100 * covers:.0f} % | {100 * width:.0f} | {cannot_tell} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bank", nargs="?", type=Path, default=Path("../shared/bank"))
    parser.add_argument("--resample", action="store_true", help="resample targets of more than two classes too")
    parser.add_argument("--without_members", action="store_true", help="no predictions of independent runs")
    args = parser.parse_args()
    chosen = cases(args.bank, args.resample)
    if args.without_members:
        chosen = (replace(case, members=None) for case in chosen)
    results = [judge(case) for case in chosen]
    if not results:
        parser.error(f"{args.bank} has no .npz files")
    handed_over = [r for r in results if r.group in HANDED_OVER]
    told = [r for r in handed_over if r.known]
    print(f"Models as they are handed over (points of accuracy), {len(handed_over)} cases:\n\n{table(handed_over)}\n")
    if len(told) < len(handed_over):
        print(f"Those of them where it can tell, {len(told)}:\n\n{table(told)}\n")
    print(f"By kind of case:\n\n{groups(results)}")


if __name__ == "__main__":
    main()
