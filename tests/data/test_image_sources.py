"""Where images come from: folders by class, files with paths, parquet with the pictures inside."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pictures
import pytest
import tiny
from datasets import Dataset, Image

from hftransfer.data.domain_arguments import undecoded
from hftransfer.data.domain_loading import load_domain
from hftransfer.data.image_decoding import open_image


def shown(dataset) -> list[bytes]:
    return sorted(open_image(row["image"], "x").tobytes() for row in undecoded(dataset))


def made(rows: int, seed: int = 0) -> list[bytes]:
    return sorted(image.tobytes() for image in pictures.pictures(rows, seed)["image"])


def test_a_folder_with_splits_and_classes(tmp_path):
    folder = pictures.write_folder(tmp_path / "pets", {"train": 9, "validation": 6, "test": 3})
    splits = load_domain(folder, "source")
    assert {name: len(part) for name, part in splits.items()} == {"train": 9, "validation": 6, "test": 3}
    names = splits["train"].features["label"].names
    assert set(names) == set(tiny.LABELS)
    assert shown(splits["train"]) == made(9)
    first = undecoded(splits["train"])[0]
    assert Path(first["image"]["path"]).parent.name == names[first["label"]]
    assert first["image"]["bytes"] is None  # read when it is needed, not before


def test_a_folder_of_classes_is_a_train_split(tmp_path):
    pictures.write_folder(tmp_path, {"pets": 6})
    (splits,) = [load_domain(str(tmp_path / "pets"), "source")]
    assert set(splits) == {"train"}
    assert len(splits["train"].features["label"].names) == 3


def test_a_folder_without_classes_has_no_labels(tmp_path):
    pictures.write_folder(tmp_path, {"pets": 5}, labelled=False)
    splits = load_domain(str(tmp_path / "pets"), "target")
    assert splits["train"].column_names == ["image"]
    assert shown(splits["train"]) == made(5)


def images_and(folder: Path, rows: int = 6) -> list[dict]:
    """Files under `folder/files`, and rows that name them from `folder`."""
    (folder / "files").mkdir(parents=True)
    out = []
    for i, row in enumerate(pictures.pictures(rows)):
        row["image"].save(folder / "files" / f"{i}.png")
        out.append({"image": f"files/{i}.png", "label": tiny.LABELS[row["label"]]})
    return out


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "pattern"])
def test_paths_in_a_file_are_taken_from_its_folder(tmp_path, monkeypatch, kind):
    folder = tmp_path / "there"
    rows = images_and(folder)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    if kind == "jsonl":
        (folder / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    elif kind == "parquet":
        Dataset.from_list(rows).to_parquet(folder / "a.parquet")
    else:
        Dataset.from_list(rows).to_csv(folder / ("a_train.csv" if kind == "pattern" else "a.csv"))
    name = {"jsonl": "a.jsonl", "parquet": "a.parquet", "csv": "a.csv", "pattern": "a_{split}.csv"}[kind]
    data = load_domain(f"../there/{name}", "source")["train"]
    assert shown(data) == made(6)
    assert set(data["label"]) == set(tiny.LABELS)


def test_absolute_paths_stay_and_another_column_may_hold_them(tmp_path):
    rows = [
        {"photo": str(tmp_path / r["image"]), "image": "not one", "label": r["label"]} for r in images_and(tmp_path)
    ]
    (tmp_path / "sub").mkdir()
    Dataset.from_list(rows).to_csv(tmp_path / "sub" / "a.csv")
    data = load_domain(str(tmp_path / "sub" / "a.csv"), "source", image_column="photo")["train"]
    assert data[0]["photo"] == rows[0]["photo"]
    assert data[0]["image"] == "not one"


def test_pictures_in_a_parquet_file(tmp_path):
    pictures.pictures(6).to_parquet(tmp_path / "a.parquet")
    data = load_domain(str(tmp_path / "a.parquet"), "source")["train"]
    assert isinstance(data.features["image"], Image)
    assert shown(data) == made(6)
    shutil.rmtree(tmp_path)
    assert np.asarray(data[0]["image"]).shape == (12, 12, 3)


def test_an_empty_folder_is_refused(tmp_path):
    (tmp_path / "pets").mkdir()
    with pytest.raises(ValueError, match="the folder cannot be read as a dataset") as found:
        load_domain(str(tmp_path / "pets"), "source")
    assert "images in folders named by class (train/cat/1.png, or cat/1.png)" in str(found.value)
