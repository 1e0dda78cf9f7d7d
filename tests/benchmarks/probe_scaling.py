"""Scale and penalty of a linear probe, by cross-validation on labelled rows: Office's domains, one after the other.

    python tests/benchmarks/probe_scaling.py --data DIR --models DIR

Each feature divided by its own deviation, or all by one number, with scikit-learn's C: accuracy and loss on rows held
out. No other domain is read. The last column is what `cross_validated_strength` takes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from images import OFFICE, SMALLEST, load
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from hftransfer import Embedder
from hftransfer.embeddings.few_shot.unit_spread import UnitSpread
from hftransfer.selection.transferability.probe_strength import STRENGTHS, cross_validated_strength

SCALERS = {"each": (StandardScaler(), (1e-3, 1e-2, 1e-1, 1.0)), "one": (UnitSpread(), STRENGTHS)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--models", type=Path, default=Path("../shared/models"))
    args = parser.parse_args()
    print("| domain | scale | C | accuracy | loss | taken |", "|---|---|---|---|---|---|", sep="\n")
    for domain in OFFICE:
        rows = load(args.data, domain, "train")
        x = Embedder(str(args.models / SMALLEST), progress=False).fit_transform(list(rows["image"])).astype(float)
        y = np.array(rows["label"])
        taken = cross_validated_strength(x, y)
        for name, (scaler, strengths) in SCALERS.items():
            for strength in strengths:
                model = make_pipeline(scaler, LogisticRegression(C=strength, max_iter=2000))
                folds = StratifiedKFold(5, shuffle=True, random_state=0)
                p = cross_val_predict(model, x, y, cv=folds, method="predict_proba")
                right, loss = (p.argmax(1) == y).mean(), -np.log(p[np.arange(len(y)), y]).mean()
                mark = "yes" if name == "one" and strength == taken else ""
                print(f"| {domain} | {name} | {strength:g} | {100 * right:.1f} | {loss:.3f} | {mark} |", flush=True)


if __name__ == "__main__":
    main()
