"""Two processes predict what one does, and each has all of it."""

from __future__ import annotations

import blobs
import numpy as np
import predicting
import pytest
import tiny
from processes import forked


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("predictions")
    assert forked(predicting.run, str(path), processes=2, log=path / "log") == 0, (path / "log").read_text()[-6000:]
    return path


@pytest.mark.parametrize("kind", ["text", "image"])
def test_two_processes_predict_what_one_does(folder, tmp_path, kind):
    """Also where batch norms of the processes have seen other rows: their mean is what counts."""
    if kind == "text":
        expected = predicting.arrays(predicting.text_trainer(tmp_path), tiny.domain(21, 5))
    else:
        expected = predicting.arrays(predicting.image_trainer(tmp_path, rank=0.5), blobs.domain(15, 3))
    for rank in (0, 1):
        with np.load(folder / f"{kind}-{rank}.npz") as arrays:
            assert set(arrays.files) == set(expected)
            for name, value in expected.items():
                np.testing.assert_array_equal(arrays[name], value)
