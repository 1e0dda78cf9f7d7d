"""Image folders: which images are which split and class, by folders and by metadata; and image paths in tables."""

from __future__ import annotations

from pathlib import Path

import pictures
import pytest
from datasets import Dataset, Image

from hftransfer.data.domain_arguments import undecoded
from hftransfer.data.domain_loading import load_domain, load_shift
from hftransfer.data.image_paths import with_absolute_paths

PNG = pictures.png(pictures.pictures(1)[0]["image"])


def build(folder: Path, files, content: bytes = PNG) -> str:
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return str(folder)


def classes(dataset) -> list[str]:
    feature = dataset.features["label"]
    return [feature.names[v] if hasattr(feature, "names") else v for v in dataset["label"]]


@pytest.mark.parametrize(
    ("files", "splits"),
    [
        (["Train/a/1.png", "Train/b/2.png", "Test/a/3.png"], {"train": "ab", "test": "a"}),
        (["TRAINING/a/1.png", "TRAINING/b/2.png", "Dev/b/3.png", "eval_/x.txt"], {"train": "ab", "validation": "b"}),
        (["a/cam1/0.png", "a/cam2/0.png", "b/cam1/0.png"], {"train": "aab"}),
        (["train/a/cam1/0.png", "train/b/cam2/0.png", "val/a/cam9/0.png"], {"train": "ab", "validation": "a"}),
        (["a/1.png", "b/2.png", "test/a/3.png"], {"train": "ab", "test": "a"}),
        (["train_images/a/1.png", "train_images/b/2.png", "test_images/b/3.png"], {"train": "ab", "test": "b"}),
        (["a/1.PNG", "b/2.JPG", "b/3.Jpeg", "a/notes.md"], {"train": "abb"}),
        (["train/train/1.png", "train/test/2.png"], {"train": ["test", "train"]}),
        (["a/1.png", "b/2.png", ".cache/c/3.png", "a/.hidden.png"], {"train": "ab"}),
        (["train station/1.png", "test tube/2.png"], {"train": ["test tube", "train station"]}),
    ],
)
def test_splits_and_classes_by_folders(tmp_path, files, splits):
    found = load_domain(build(tmp_path / "f", files), "source")
    assert {split: sorted(classes(part)) for split, part in found.items()} == {
        split: sorted(names) for split, names in splits.items()
    }
    for part in found.values():
        assert part.features["label"].names == sorted(set(splits["train"]))


def test_the_summary_names_what_is_deeper_or_left_aside(tmp_path):
    files = [f"train/{name}/{i}.png" for name, n in (("cat", 3), ("dog", 5)) for i in range(n)]
    files += ["train/cat/cam1/9.png", "test/0.png", "test/1.png", "more/2.png", "loose.png", "train/list.txt"]
    shift = load_shift({"source": build(tmp_path / "f", files)}, None, 0.25, 1)
    assert shift.summaries["source"].lines({"image", "label"}) == [
        "train: 7 rows of train/",
        "validation: 2 rows held out of train",
        "columns: image, label",
        "no classes, being deeper: cam1",
        "left aside: 1 image in more/ (no split in the name); 1 image outside of the folders; "
        "2 images of the test split (not all in class folders); train/list.txt",
    ]
    assert shift.test["source"] is shift.validation["source"]


def test_a_target_needs_no_classes(tmp_path):
    assert load_domain(build(tmp_path / "a", ["0.png", "1.png"]), "target")["train"].column_names == ["image"]
    assert load_domain(build(tmp_path / "b", ["photos/0.png", "photos/1.png"]), "target")["train"].num_columns == 1
    mixed = load_domain(build(tmp_path / "c", ["0.png", "cat/1.png", "dog/1.png"]), "target")["train"]
    assert (len(mixed), mixed.column_names) == (3, ["image"])
    splits = load_domain(build(tmp_path / "d", ["train/0.png", "test/cat/1.png", "test/dog/2.png"]), "target")
    assert splits["train"].column_names == ["image"]
    assert classes(splits["test"]) == ["cat", "dog"]


def test_a_test_set_that_stands_elsewhere_keeps_its_only_class(tmp_path):
    source = build(tmp_path / "s", [f"{c}/{i}.png" for c in "ab" for i in range(4)])
    shift = load_shift({"source": source}, None, 0.25, 1, {"source": build(tmp_path / "t", ["test/a/1.png"])})
    assert classes(shift.test["source"]) == ["a"]


def test_columns_are_called_as_the_run_calls_them(tmp_path):
    folder = build(tmp_path / "f", ["a/1.png", "b/2.png"])
    data = load_domain(folder, "source", image_column="photo", label_column="kind")["train"]
    assert data.column_names == ["photo", "kind"]
    assert isinstance(data.features["photo"], Image)


@pytest.mark.parametrize("at", ["", "train/"])
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_metadata_names_the_images(tmp_path, at, kind):
    folder = tmp_path / "f"
    build(folder, [f"{at}{i}.png" for i in range(4)] + [f"{at}deep/5.png"])
    rows = [("1.png", "up"), ("0.png", "down"), ("deep/5.png", "up")]
    lines = ["file_name,label", *(f"{file},{label}" for file, label in rows)]
    if kind == "jsonl":
        lines = [f'{{"file_name": "{file}", "label": "{label}"}}' for file, label in rows]
    (folder / f"{at}metadata.{kind}").write_text("\n".join(lines) + "\n")
    shift = load_shift({"source": str(folder)}, None, 0, 1)
    data = undecoded(shift.train["source"])
    assert [Path(image["path"]).name for image in data["image"]] == ["1.png", "0.png", "5.png"]
    assert data["label"][:] == ["up", "down", "up"]
    assert data["__origin__"][0].startswith(f"0 (metadata.{kind}")
    assert "left aside: 2 images that no row names" in shift.summaries["source"].lines()


def test_metadata_of_splits_and_classes_of_folders(tmp_path):
    folder = tmp_path / "f"
    files = ["train/cat/0.png", "train/dog/1.png", "test/cat/2.png"]
    build(folder, files)
    (folder / "metadata.csv").write_text("file_name,place\n" + "".join(f"{file},lab\n" for file in files))
    splits = load_domain(str(folder), "source")
    assert {split: part["label"][:] for split, part in splits.items()} == {"train": ["cat", "dog"], "test": ["cat"]}
    assert splits["train"]["place"][:] == ["lab", "lab"]


# ---- paths in tables


@pytest.mark.parametrize(
    ("value", "relative"),
    [
        ("cats/1.png", True),
        ("data/1.png", True),
        ("a:b.png", True),
        ("iPhone/1.png", True),
        ("https://x.org/cats/1.png", False),
        ("s3://bucket/1.png", False),
        ("data:image/png;base64,iVBORw0KGgo=", False),
        ("iVBORw0KGgo" + "A1b" * 20, False),
        ("/9j/4AAQSkZJRgABAQ", False),
        ("R0lGOD" + "lhAQABAAAAACw" * 4, False),
        ("/cats/1.png", False),
    ],
)
def test_only_relative_paths_are_taken_from_a_folder(value, relative):
    data = Dataset.from_dict({"image": [value, None], "label": ["up", "down"]})
    moved = with_absolute_paths(data, "image", Path("/home"))
    assert moved["image"][:] == [f"/home/{value}" if relative else value, None]
    assert moved.column_names == ["image", "label"]


def test_names_of_class_folders_are_one_whoever_wrote_them(tmp_path):
    files = ["train/Caf\u00e9/0.png", "train/Tee/0.png", "test/Cafe\u0301/0.png", "test/Tee /0.png"]
    found = load_domain(build(tmp_path / "pets", files), "source")
    assert [classes(found[split]) for split in ("train", "test")] == [["Caf\u00e9", "Tee"]] * 2


def test_the_summary_names_pictures_that_are_not_read_empty_folders_and_links(tmp_path):
    folder = tmp_path / "pets"
    build(folder, ["cat/0.png", "dog/0.png"])
    (folder / "cat" / "1.HEIC").write_bytes(b"x")
    (folder / "dog" / "2.svg").write_bytes(b"x")
    (folder / "bird").mkdir()
    (folder / "tiger").symlink_to(folder / "cat")
    summary = load_shift({"source": str(folder)}, None, 0, 1).summaries["source"]
    assert summary.left_aside == (
        "cat/1.HEIC, dog/2.svg",
        "bird/ (empty)",
        "tiger/ (the same folder as cat/, read once)",
    )
    assert summary.splits["train"].rows == 2
