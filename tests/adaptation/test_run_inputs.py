"""Key of an adaptation: what candidates are made of is part of it, weights of rows as well."""

from __future__ import annotations

import tiny
from tiny_shift import config

from hftransfer.adaptation.run_inputs import RunInputs


def key(folder, weights=None, **settings) -> str:
    source = tiny.domain(8) if weights is None else tiny.domain(8).add_column("weight", weights)
    target = tiny.domain(8, seed=1, labelled=False)
    args = config(folder, **settings)
    return RunInputs("a-model", args, {"source": source}, {"source": tiny.domain(8, seed=2)}, target).key()


def test_weights_of_rows_are_part_of_the_key(tmp_path):
    """Candidates trained with other weights are not taken for these; unread, they change nothing of the rows."""
    keys = [key(tmp_path, weights) for weights in (None, [1.0] * 8, [1.0] * 7 + [2.0])]
    assert len(set(keys)) == 3
    assert keys[2] == key(tmp_path, [1.0] * 7 + [2.0])
    unread = {"weight_column": "none"}
    assert key(tmp_path, [1.0] * 8, **unread) == key(tmp_path, [2.0] * 8, **unread)
