"""Study of the selection rule on stored predictions: what it hands over, against choosing by target labels.

    python tests/benchmarks/selection_rule.py [../shared/bank] [--each]

Reads `SHIFT.CANDIDATE.SEED.npz` files of logits and labels; nothing is trained. Further shifts are made by drawing the
target's rows, train and test alike, to other class frequencies. A case is one set of contenders, with each source-only
run in turn as the one to beat:

- quick: source-only, and its correction where the estimate is believed;
- standard: further the mean of all source-only runs, as a reference, and one student (where the bank has none, a model
  that predicts as the mean does);
- thorough: further every other candidate of the bank;
- other domain: of two shifts that are each other's reverse, further the reverse's model, which was trained on target
  rows with their labels, or its mean with source-only: candidates that are often better for certain.

Planted cases add to standard one candidate that is spoiled on purpose. Accuracy is oracle, of all target rows that
have labels (other domain: of validation and test rows, which its models did not train on). The rule sees target
training rows (other domain: the same validation and test rows), never their labels. Columns: harm, the share of cases
more than 0.5 points below source-only of the same seed; share of the gain of choosing by target labels; regret, the
points that are missing to it; refused, contenders more than 2 points better than source-only that fail a gate; missed,
cases with such a contender where what is handed over is not 0.5 points better.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from hftransfer import Predictions, SelectionRule, estimate_label_shift, get_validator
from hftransfer.selection.calibration import fit_temperature
from hftransfer.selection.class_frequencies import LabelShiftEstimate
from hftransfer.selection.model_predictions import softmax
from hftransfer.selection.rule import Contender

HARM, HELPS = 0.5, 2.0
HEAD = "| choice | n | harm | worst | gain | share | regret | refused | missed |\n|" + "---|" * 9
SINGLE = (
    "entropy", "information", "nuclear_norm", "source_accuracy", "ensemble_agreement", "ensemble_confidence", "atc"
)  # fmt: skip
TWO = {"20/80": (20, 80), "80/20": (80, 20), "35/65": (35, 65), "65/35": (65, 35), "one class": (100, 0)}
FOUR = {
    "even": (25, 25, 25, 25),
    "source's": (21, 41, 11, 27),
    "reversed": (22, 11, 43, 24),
    "10/30/20/40": (10, 30, 20, 40),
    "60/20/10/10": (60, 20, 10, 10),
    "10/20/10/60": (10, 20, 10, 60),
    "classes 0, 1": (55, 45, 0, 0),
    "classes 2, 3": (0, 0, 35, 65),
    "classes 0, 3": (60, 0, 0, 40),
}
SPOILED = ("swapped", "collapsed", "collapsed on target", "swapped on target", "towards one class", "rows mixed up")


@dataclass(frozen=True)
class Model:
    """Logits of one candidate on source validation rows, target rows that judge, and further target rows."""

    source: np.ndarray
    source_labels: np.ndarray
    judged: np.ndarray
    judged_labels_oracle: np.ndarray
    test: np.ndarray
    test_labels_oracle: np.ndarray

    @classmethod
    def load(cls, path: Path) -> Model:
        with np.load(path) as file:
            test = [file[f"target_{split}_logits"] for split in ("validation", "test")]
            labels = [file[f"target_{split}_labels_oracle"] for split in ("validation", "test")]
            return cls(
                file["source_validation_logits"].astype(float),
                file["source_validation_labels"].astype(int),
                file["target_train_logits"].astype(float),
                file["target_train_labels_oracle"].astype(int),
                np.concatenate(test).astype(float),
                np.concatenate(labels).astype(int),
            )

    @property
    def classes(self) -> int:
        return self.source.shape[1]

    @property
    def accuracy(self) -> float:
        right = self.test.argmax(1) == self.test_labels_oracle
        if self.judged is not self.test and (self.judged_labels_oracle >= 0).all():
            right = np.concatenate([right, self.judged.argmax(1) == self.judged_labels_oracle])
        return float(100 * right.mean())

    def predictions(self) -> Predictions:
        return Predictions(self.source, self.source_labels, self.judged)

    def map(self, change: Callable[[np.ndarray], np.ndarray], source: bool = True) -> Model:
        return replace(
            self,
            source=change(self.source) if source else self.source,
            judged=change(self.judged),
            test=change(self.test),
        )

    def corrected(self, shift: LabelShiftEstimate) -> Model:
        return self.map(lambda z: np.log(np.maximum(shift.corrected(z), 1e-12)))

    def judged_on_test(self) -> Model:
        return replace(self, judged=self.test, judged_labels_oracle=self.test_labels_oracle)

    def drawn(self, judged: np.ndarray, test: np.ndarray) -> Model:
        return replace(
            self,
            judged=self.judged[judged],
            judged_labels_oracle=self.judged_labels_oracle[judged],
            test=self.test[test],
            test_labels_oracle=self.test_labels_oracle[test],
        )


@dataclass
class Case:
    """One set of contenders, the first of which is to be beaten."""

    shift: str
    target: str
    kind: str
    contenders: list[Contender]
    accuracies: dict[str, float]
    estimate: LabelShiftEstimate | None
    planted: list[str] = field(default_factory=list)


@dataclass
class Outcome:
    """What a choice did to one case."""

    gain: float
    best: float
    refused: int = 0
    helpful: int = 0
    planted_refused: dict[str, bool] = field(default_factory=dict)

    @property
    def missed(self) -> bool:
        return self.best > HELPS and self.gain <= HARM


def mean_of(models: list[Model]) -> Model:
    """Mean of calibrated probabilities, as logits."""
    temperatures = [fit_temperature(model.source, model.source_labels) for model in models]

    def mean(name: str) -> np.ndarray:
        parts = [softmax(getattr(m, name) / t) for m, t in zip(models, temperatures, strict=True)]
        return np.log(np.maximum(np.mean(parts, axis=0), 1e-12))

    return replace(models[0], source=mean("source"), judged=mean("judged"), test=mean("test"))


def rows_with(frequencies: tuple[int, ...], labels: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """As many rows as there can be with these class frequencies."""
    shares = np.array(frequencies) / sum(frequencies)
    counts = np.bincount(labels, minlength=len(shares))
    total = min(counts[k] / shares[k] for k in np.flatnonzero(shares))
    rows = [draw.permutation(np.flatnonzero(labels == k))[: int(total * shares[k])] for k in range(len(shares))]
    return np.sort(np.concatenate(rows))


def spoiled(model: Model, how: str, draw: np.random.Generator) -> Model:
    k, other = draw.permutation(model.classes)[:2]
    order = np.arange(model.classes)
    order[[k, other]] = order[[other, k]]
    one = np.eye(model.classes)[k]
    if how.startswith("swapped"):
        return model.map(lambda z: z[:, order], source=how == "swapped")
    if how.startswith("collapsed"):
        return model.map(lambda z: 0.2 * z + 12 * one, source=how == "collapsed")
    if how == "towards one class":
        return model.map(lambda z: z + 3 * one, source=False)

    def mixed_up(z: np.ndarray) -> np.ndarray:
        rows = draw.permutation(len(z))[: len(z) // 5]
        changed = z.copy()
        changed[rows] = z[draw.permutation(rows)]
        return changed

    return model.map(mixed_up, source=False)


class Shift:
    """All candidates of one shift of the bank, by name and seed."""

    def __init__(self, bank: Path, name: str):
        self.name = name
        self.plain: dict[str, Model] = {}
        self.more: dict[str, Model] = {}
        for path in sorted(bank.glob(f"{name}.*.npz")):
            candidate = path.name[len(name) + 1 : -len(".npz")]
            group = self.plain if candidate.startswith("source-only.") else self.more
            group[candidate] = Model.load(path)
        self.reverse = {path.name: path for path in sorted(bank.glob(f"{'-'.join(reversed(name.split('-')))}.*.npz"))}

    def targets(self) -> Iterator[tuple[str, dict[str, Model], dict[str, Model]]]:
        """The target as it is, and drawn to other class frequencies: source-only runs, and other candidates."""
        yield "as it is", self.plain, self.more
        first = next(iter(self.plain.values()))
        others = {2: TWO, 4: FOUR}.get(first.classes, {})
        if (first.judged_labels_oracle < 0).any():
            return
        for number, (target, frequencies) in enumerate(others.items()):
            draw = np.random.default_rng(number)
            rows = [rows_with(frequencies, y, draw) for y in (first.judged_labels_oracle, first.test_labels_oracle)]
            yield (
                target,
                {name: model.drawn(*rows) for name, model in self.plain.items()},
                {name: model.drawn(*rows) for name, model in self.more.items()},
            )

    def other_domain(self, plain: dict[str, Model], target: str) -> dict[str, Model]:
        """The reverse shift's models, judged on rows that these did not train on, and their mean with source-only."""
        candidates: dict[str, Model] = {}
        if self.name.count("-") != 1 or not self.reverse:
            return candidates
        whole = next(iter(self.plain.values()))
        rows = np.arange(len(whole.test_labels_oracle))
        if target != "as it is":
            draw = np.random.default_rng(list(TWO).index(target))
            rows_with(TWO[target], whole.judged_labels_oracle, draw)
            rows = rows_with(TWO[target], whole.test_labels_oracle, draw)
        for name, model in plain.items():
            path = self.reverse.get(f"{'-'.join(reversed(self.name.split('-')))}.{name}.npz")
            if path is None:
                continue
            with np.load(path) as file:
                test = [file[f"source_{split}_logits"].astype(float) for split in ("validation", "test")]
                source = file["target_validation_logits"].astype(float)
            z = np.concatenate(test)[rows]
            candidates[f"other domain, {name}"] = replace(model, source=source, judged=z, test=z)
            both = mean_of([model, candidates[f"other domain, {name}"]])
            candidates[f"both domains, {name}"] = both
        return candidates

    def cases(self) -> Iterator[Case]:
        for target, plain, more in self.targets():
            yield from self._cases(target, plain, more)

    def _cases(self, target: str, plain: dict[str, Model], more: dict[str, Model]) -> Iterator[Case]:
        def case(kind: str, models: list, estimate: LabelShiftEstimate | None, planted: list[str]) -> Case:
            contenders = [
                Contender(name, model.predictions(), number == 0, weights, name == "mean")
                for number, (name, model, weights) in enumerate(models)
            ]
            accuracies = {name: model.accuracy for name, model, _ in models}
            return Case(self.name, target, kind, contenders, accuracies, estimate, planted)

        def start(name: str, models: dict[str, Model]) -> tuple[list, LabelShiftEstimate | None]:
            own = estimate_label_shift(models[name].predictions(), resamples=0)
            listed = [(name, models[name], None)]
            if own.believed:
                listed.append((f"{name}, corrected", models[name].corrected(own), own.weights))
            return listed, own if own.believed else None

        def with_mean(models: dict[str, Model]) -> tuple[list, LabelShiftEstimate | None, Model]:
            mean = mean_of(list(models.values()))
            shift = estimate_label_shift(mean.predictions(), resamples=0)
            if not shift.believed:
                return [("mean", mean, None)], None, mean
            return [("mean", mean.corrected(shift), shift.weights)], shift, mean.corrected(shift)

        mean_entry, shift, mean = with_mean(plain)
        weights = None if shift is None else shift.weights
        trained = {name: None if "uncorrected" in name or "masked" in name else weights for name in more}
        students = [name for name in more if name.startswith("student-gentle.")]
        for number, name in enumerate(plain):
            begin, own = start(name, plain)
            yield case("quick", begin, own, [])
            begin += mean_entry
            candidates = [(n, more[n], trained[n]) for n in students] or [("as the mean", mean, weights)]
            for candidate in candidates:
                yield case("standard", [*begin, candidate], shift, [])
            if more:
                yield case("thorough", begin + [(n, model, trained[n]) for n, model in more.items()], shift, [])
            if number == 0:
                draw = np.random.default_rng(0)
                for how in SPOILED:
                    bad = [(how, spoiled(plain[name], how, draw), None)]
                    if shift is not None:
                        bad.append((f"{how}, corrected", spoiled(plain[name].corrected(shift), how, draw), weights))
                    yield case("planted", begin + bad, shift, [entry[0] for entry in bad])
        on_test = {name: model.judged_on_test() for name, model in plain.items()}
        others = self.other_domain(on_test, target)
        if others:
            mean_entry, shift, _ = with_mean(on_test)
            for name in plain:
                begin, _ = start(name, on_test)
                for candidate, model in others.items():
                    yield case("other domain", [*begin, *mean_entry, (candidate, model, None)], shift, [])


def judged(case: Case, rule: SelectionRule) -> Outcome:
    judgement = rule.judge(case.contenders, case.estimate)
    return outcome(case, judgement.chosen, judgement.refused)


def outcome(case: Case, chosen: str, refused: dict[str, str] | None = None) -> Outcome:
    base = case.contenders[0].name
    gains = {c.name: case.accuracies[c.name] - case.accuracies[base] for c in case.contenders if not c.reference}
    helpful = [name for name, gain in gains.items() if gain > HELPS and name not in case.planted]
    refused = refused or {}
    return Outcome(
        gains[chosen],
        max(gains.values()),
        sum(name in refused for name in helpful),
        len(helpful),
        {name: name in refused for name in case.planted},
    )


def single(case: Case, name: str) -> Outcome:
    """The choice of one validator alone, of calibrated predictions; source-only where scores are equal."""
    calibrated = {c.name: c.calibrated() for c in case.contenders}
    references = [c.name for c in case.contenders if c.reference] or list(calibrated)
    mean = np.mean([calibrated[reference].target_probabilities for reference in references], axis=0)
    validator = get_validator(name)
    scores = {
        c.name: round(validator.score(replace(calibrated[c.name], reference_probabilities=mean)), 9)
        for c in case.contenders
        if not c.reference
    }
    return outcome(case, max(scores, key=scores.__getitem__))


def line(title: str, outcomes: list[Outcome]) -> str:
    gains, best = (np.array([getattr(o, name) for o in outcomes]) for name in ("gain", "best"))
    helpful = sum(o.helpful for o in outcomes)
    cells = [
        title,
        str(len(outcomes)),
        f"{100 * (gains < -HARM).mean():.1f} %",
        f"{gains.min():+.1f}",
        f"{gains.mean():+.2f}",
        f"{100 * gains.sum() / best.sum():.0f} %" if best.sum() > 0 else "",
        f"{(best - gains).mean():.2f}",
        f"{sum(o.refused for o in outcomes)} of {helpful}",
        f"{100 * np.mean([o.missed for o in outcomes]):.1f} %",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bank", nargs="?", type=Path, default=Path("../shared/bank"))
    parser.add_argument(
        "--each", action="store_true", help="print every case where the rule did harm or missed a gain"
    )
    args = parser.parse_args()
    rule = SelectionRule()
    names = sorted({path.name.split(".")[0] for path in args.bank.glob("*.source-only.*.npz")})
    cases = [case for name in names for case in Shift(args.bank, name).cases()]
    outcomes = [judged(case, rule) for case in cases]
    real = [(case, o) for case, o in zip(cases, outcomes, strict=True) if case.kind != "planted"]

    print(HEAD)
    print(line("all", [o for _, o in real]))
    kinds = dict.fromkeys(case.kind for case, _ in real)
    for title, chosen in (
        ("targets as they are", lambda c: c.target == "as it is"),
        ("shift believed", lambda c: c.estimate is not None),
        ("shift not believed", lambda c: c.estimate is None),
        ("half the classes", lambda c: "class" in c.target),
        *((kind, lambda c, kind=kind: c.kind == kind) for kind in kinds),
        *((name, lambda c, name=name: c.shift == name) for name in names),
    ):
        print(line(title, [o for case, o in real if chosen(case)]))
    for name in SINGLE:
        print(line(f"`{name}` alone", [single(case, name) for case, _ in real]))
    planted = [(case, o) for case, o in zip(cases, outcomes, strict=True) if case.kind == "planted"]
    print("\n| planted | n | refused | handed over a model more than 0.5 below source-only | worst |\n|" + "---|" * 5)
    for how in SPOILED:
        here = [(c, o) for c, o in planted if how in c.planted]
        refused = [was for _, o in here for was in o.planted_refused.values()]
        harmed = sum(o.gain < -HARM for _, o in here)
        print(f"| {how} | {len(refused)} | {sum(refused)} | {harmed} | {min(o.gain for _, o in here):+.1f} |")
    halves = [c for c, _ in real if "class" in c.target and c.kind == "quick"]
    print(
        f"\nHalf the classes: the shift is believed in {sum(c.estimate is not None for c in halves)} of {len(halves)}."
    )
    if args.each:
        for case, o in real:
            if o.gain < -HARM or o.missed:
                verdict = "harm" if o.gain < -HARM else "missed"
                print(verdict, case.shift, case.target, case.kind, f"{o.gain:+.1f} of {o.best:+.1f}")


if __name__ == "__main__":
    main()
