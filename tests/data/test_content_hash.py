"""Content hashes: equal for equal content, and for nothing else."""

from __future__ import annotations

import numpy as np
import pictures
import pytest
import tiny
from datasets import Dataset, Features, Image, Value

from hftransfer.data.content_hash import StoredImage, dataset_hash, row_hash

ROWS = ["a", "b", "ab", "", ["a", "b"], ["ab"], [], ["a", ["b"]], b"a", np.zeros(2), np.zeros(2, np.float32), 0, None]


def test_no_two_values_run_together():
    hashes = [row_hash(value) for value in [*ROWS, np.zeros((1, 2)), np.zeros((2, 1)), StoredImage.of(b"b")]]
    assert len(set(hashes)) == len(hashes)
    assert hashes[: len(ROWS)] == [row_hash(value) for value in ROWS]


def test_a_path_counts_as_what_its_file_holds(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_bytes(b"one")
    second.write_bytes(b"one")
    same = {row_hash(StoredImage.of(value)) for value in (first, str(second), b"one", {"path": None, "bytes": b"one"})}
    assert len(same) == 1
    second.write_bytes(b"two")
    assert row_hash(StoredImage.of(second)) not in same
    second.unlink()
    assert row_hash(StoredImage.of(second)) not in same  # whoever opens it says that it is gone


def test_a_data_set_is_its_rows_and_its_types():
    data = tiny.domain(30)
    assert dataset_hash(data) == dataset_hash(tiny.domain(30)) == dataset_hash(data.with_format("numpy"))
    assert dataset_hash(data, ["text"]) == dataset_hash(data.remove_columns("label"))
    changed = [
        data.select(range(29)),
        data.select([1, 0, *range(2, 30)]),
        data.cast_column("label", Value("int64")),
        data.map(lambda row, i: {"text": row["text"] + " w1" * (i == 17)}, with_indices=True),
        None,
    ]
    assert len({dataset_hash(data), *map(dataset_hash, changed)}) == 6


@pytest.mark.parametrize("by_path", [True, False])
def test_changed_images_are_other_data(by_path, tmp_path):
    hashes = []
    for image in pictures.pictures(2)["image"]:
        image.save(tmp_path / "a.png")
        value = str(tmp_path / "a.png") if by_path else (tmp_path / "a.png").read_bytes()
        hashes.append(dataset_hash(Dataset.from_dict({"image": [value]}, features=Features(image=Image()))))
    assert hashes[0] != hashes[1]
