"""Names of domains, sets and models are texts: two that are written alike are refused, and neither is lost."""

from __future__ import annotations

import pytest
import runs
import tiny

from hftransfer import choose_source, rank_checkpoints, relate_domains
from hftransfer.adaptation.given_domains import load_domains
from hftransfer.models.interpolation import _paths_by_name
from hftransfer.pretraining.unlabelled_domains import unlabelled_domains
from hftransfer.trainers.setup.row_weights import read_row_weights

ALIKE = {1: tiny.domain(12), "1": tiny.domain(12, seed=1)}
NOBODY = {"model": "never loaded", "cache_dir": False}


CASES = {
    "sources of a run": ("train_dataset", lambda folder: runs.trainer(folder, train_dataset=ALIKE)),
    "sets to evaluate on": ("eval_dataset", lambda folder: runs.trainer(folder, eval_dataset=ALIKE)),
    "sources to choose from": (
        "sources",
        lambda folder: choose_source(**NOBODY, sources=ALIKE, target=tiny.domain(12)),
    ),
    "domains to relate": ("sources", lambda folder: relate_domains(**NOBODY, domains=ALIKE)),
    "checkpoints": ("models", lambda folder: rank_checkpoints({1: "a", "1": "b"}, tiny.domain(12))),
    "models to average": ("models", lambda folder: _paths_by_name({1: "a", "1": "b"})),
    "texts without labels": ("source", lambda folder: unlabelled_domains(None, ALIKE)),
    "weights": ("source_weights", lambda folder: read_row_weights("source_weights", {1: 2.0, "1": 3.0})),
    "sources of adapt": (
        "source",
        lambda folder: load_domains(ALIKE, tiny.domain(12), None, None, 0.2, runs.config(folder)),
    ),
    "validation rows of adapt": (
        "validation",
        lambda folder: load_domains({"1": ALIKE[1]}, ALIKE["1"], ALIKE, None, 0.2, runs.config(folder)),
    ),
}


@pytest.mark.parametrize(("what", "call"), CASES.values(), ids=CASES.keys())
def test_two_names_that_are_written_alike_are_refused(what, call, tmp_path):
    with pytest.raises(ValueError, match=f"{what} holds the names 1 and '1', which are written alike: rename one"):
        call(tmp_path)
