"""Keys of images: equal for equal files, or for equal pixels, in every form that images are stored in."""

from __future__ import annotations

import numpy as np
import pictures
import pytest
from datasets import Dataset, Features, Image, Value

from hftransfer.data.duplicate_rows import matching_rows
from hftransfer.data.image_decoding import ImageError
from hftransfer.data.image_keys import image_keys, image_sizes, pixels_are_cheap

RNG = np.random.default_rng(0)
PICTURES = [pictures.picture(i, RNG) for i in (0, 1, 2, 0)]


def stored(form: str, folder, rows=PICTURES, kind: str = "PNG") -> Dataset:
    files = [pictures.png(picture, kind) for picture in rows]
    if form == "paths":
        folder.mkdir(exist_ok=True)
        for i, data in enumerate(files):
            (folder / f"{i}.{kind}").write_bytes(data)
        return Dataset.from_dict({"image": [str(folder / f"{i}.{kind}") for i in range(len(files))]})
    if form == "bytes":
        return Dataset.from_dict({"image": files}, features=Features(image=Value("binary")))
    if form == "arrays":
        return Dataset.from_dict({"image": [np.asarray(picture).tolist() for picture in rows]})
    return Dataset.from_dict({"image": rows}, features=Features(image=Image()))


def pairs(one: Dataset, other: Dataset, by_pixels: bool = False) -> list[list[int]]:
    keys = image_keys({"one": one, "other": other}, "image", by_pixels)
    return matching_rows(keys["one"], keys["other"]).tolist()


@pytest.mark.parametrize("by_pixels", [False, True])
@pytest.mark.parametrize("form", ["paths", "bytes", "arrays", "features"])
def test_equal_images_have_equal_keys(form, by_pixels, tmp_path):
    one = stored(form, tmp_path / "one")
    other = stored(form, tmp_path / "other", [PICTURES[2], pictures.picture(1, RNG), PICTURES[0], PICTURES[2]])
    assert pairs(one, other, by_pixels) == [[0, 2], [2, 0], [3, 2]]


def test_pixels_are_equal_where_files_differ(tmp_path):
    png, bmp = stored("paths", tmp_path / "png"), stored("bytes", tmp_path, kind="BMP")
    assert pairs(png, bmp) == []
    assert pairs(png, bmp, by_pixels=True) == [[i, i] for i in range(4)]
    assert pairs(stored("arrays", tmp_path), png, by_pixels=True) == [[i, i] for i in range(4)]


def test_files_that_cannot_be_read_have_no_key(tmp_path):
    data = Dataset.from_dict({"image": [str(tmp_path / "none.png"), str(tmp_path / "none.png")]})
    keys = image_keys({"source": data}, "image")
    assert keys["source"].to_pylist() == [None, None]
    with pytest.raises(ImageError, match="source row 0: there is no file"):
        image_keys({"source": data}, "image", by_pixels=True)


def test_small_sets_are_cheap_to_decode(tmp_path, monkeypatch):
    data = {"source": stored("paths", tmp_path / "a")}
    assert pixels_are_cheap(data, "image")
    monkeypatch.setattr("hftransfer.data.image_keys.PIXELS_UP_TO", 100)
    assert not pixels_are_cheap(data, "image")


@pytest.mark.parametrize("form", ["paths", "bytes", "arrays", "features"])
def test_sizes_are_widths_and_heights(form, tmp_path):
    rows = [PICTURES[0], PICTURES[1].resize((20, 9))] + [PICTURES[2].convert("L")] * (form != "arrays")
    sizes, modes = image_sizes(stored(form, tmp_path / "a", rows), "image")
    assert sizes.tolist() == [[12, 12], [20, 9], [12, 12]][: len(rows)]
    assert modes == ({"RGB": 2} if form == "arrays" else {"RGB": 2, "L": 1})
