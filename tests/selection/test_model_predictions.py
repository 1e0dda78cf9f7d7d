"""Predictions are checked when they are made, and survive a file."""

from __future__ import annotations

import numpy as np
import pytest

from hftransfer.selection.model_predictions import Predictions

SOURCE, LABELS, TARGET = np.zeros((4, 3)), [0, 1, 2, 0], np.ones((5, 3))


def test_what_does_not_fit_is_named():
    broken = np.ones((5, 3))
    broken[2, 1] = np.nan
    for arrays, message in (
        ({"source_labels": [0, 1]}, r"source_labels has shape \(2,\) where source_logits has 4 rows"),
        ({"source_labels": [0, 1, 3, 0]}, "class ids from 0 to 2"),
        ({"source_labels": [0, 1, -100, 0]}, "class ids from 0 to 2"),
        ({"target_logits": np.ones((5, 2))}, "target_logits has 2 columns where 3 are needed"),
        ({"target_logits": np.ones((0, 3))}, "target_logits must be a matrix of at least one row"),
        ({"target_logits": np.ones(3)}, r"not of shape \(3,\)"),
        ({"target_logits": broken}, "target_logits is not finite in row 2"),
        ({"source_features": np.ones((3, 2))}, "source_features has 3 rows where 4 are needed"),
        (
            {"source_features": np.ones((4, 2)), "target_features": np.ones((5, 3))},
            "target_features has 3 columns where 2 are needed",
        ),
        ({"reference_probabilities": np.ones((4, 3))}, "reference_probabilities has 4 rows where 5"),
    ):
        with pytest.raises(ValueError, match=message):
            Predictions(**{"source_logits": SOURCE, "source_labels": LABELS, "target_logits": TARGET} | arrays)


def test_a_file_keeps_every_array(tmp_path):
    draw = np.random.default_rng(0)
    p = Predictions(draw.normal(size=(4, 3)), LABELS, draw.normal(size=(5, 3)), np.ones((4, 2)), np.ones((5, 2)))
    p.save(tmp_path / "p.npz")
    again = Predictions.load(tmp_path / "p.npz")
    for name in ("source_logits", "source_labels", "target_logits", "source_features", "target_features"):
        assert np.array_equal(getattr(again, name), getattr(p, name)), name
    assert [f.name for f in tmp_path.iterdir()] == ["p.npz"]


def test_a_file_that_is_none_is_named(tmp_path):
    (tmp_path / "text.npz").write_text("no arrays")
    with pytest.raises(ValueError, match=r"text\.npz cannot be read as predictions"):
        Predictions.load(tmp_path / "text.npz")
    np.savez(tmp_path / "other.npz", x=np.ones(3))
    with pytest.raises(ValueError, match="lacks source_logits, source_labels, target_logits"):
        Predictions.load(tmp_path / "other.npz")
