"""Which files are read as which split: paths letter by letter, split names of all kinds, what is left aside."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny
from bad_listing import FILES, FOLDERS
from datasets import Dataset, DatasetDict

from hftransfer.cli.run_options import sources_by_name
from hftransfer.data.domain_loading import load_domain, load_shift
from hftransfer.data.split_names import choose_splits, split_of, split_words


def write(path: Path, rows: int = 6, mark: str = "", labels=("up", "down"), **columns) -> Path:
    """A csv or jsonl file whose texts begin with `mark`, or else with the path's name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = [{"text": f"{mark or path.name} w{i}", "label": labels[i % len(labels)], **columns} for i in range(rows)]
    if path.suffix.lower() == ".csv":
        lines = [",".join(data[0]), *(",".join(map(str, row.values())) for row in data)]
    else:
        lines = [json.dumps(row) for row in data]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def marks(dataset) -> set[str]:
    return {text.rpartition(" ")[0] for text in dataset["text"]}


# ---- names of splits


@pytest.mark.parametrize(
    ("split", "names"),
    [
        ("train", "train training Train TRAINING trainset Train-Data"),
        ("validation", "dev val valid validation eval Dev EVAL evaluation development valset"),
        ("test", "test testing Test TESTING testset test_split test_images images-test"),
        (None, "latest contest test_2 test_tube trains trainer data set split value evaluate attestation validated"),
    ],
)
def test_whole_names_of_splits(split, names):
    assert {name: split_of(name) for name in names.split()} == dict.fromkeys(names.split(), split)


@pytest.mark.parametrize(
    ("name", "splits"),
    [
        ("news-train", {"train"}),
        ("test_2", {"test"}),
        ("train-00000-of-00002", {"train"}),
        ("NewsTest", {"test"}),
        ("TRAIN2", {"train"}),
        ("latest news", set()),
        ("train_val", {"train", "validation"}),
        ("évaltest", set()),
    ],
)
def test_words_of_splits_in_longer_names(name, splits):
    assert set(split_words(name).values()) == splits


def test_stored_splits_by_whole_names_then_by_the_only_longer_one():
    assert choose_splits(["train", "Eval", "testing", "unsupervised"]) == (
        {"train": "train", "validation": "Eval", "test": "testing"},
        {"unsupervised": "its name says no split"},
    )
    assert choose_splits(["train_sft", "test_sft"])[0] == {"train": "train_sft", "test": "test_sft"}
    chosen, aside = choose_splits(["train", "validation_matched", "validation_mismatched"])
    assert (set(chosen), set(aside)) == ({"train"}, {"validation_matched", "validation_mismatched"})


# ---- paths, letter by letter


@pytest.mark.parametrize(
    "name",
    [
        "s[1].csv", "v [2]/x.csv", "a::b.csv", "all*.csv", "what?.csv", "n_{split}.csv", " lead and trail .csv",
        "~x.csv", "~/x.csv", "a=b.csv", "k=v/x.csv", "owner/name", "#1%20.csv", "ä ü.csv", "sample", "x.CSV",
        "{a,b}.csv", "file:/x.csv", "owner/name:config", "https:/x.org/a.csv", "$HOME.csv", "a\\b.csv", "-x.csv",
        "c:d.csv", "hf:/a/b.csv",
    ],
)  # fmt: skip
def test_a_path_that_exists_is_that_path(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    for other in (
        "s1.csv",
        "v 2/x.csv",
        "a.csv",
        "b.csv",
        "alle.csv",
        "what1.csv",
        "n_train.csv",
        "x.csv",
        "name.csv",
    ):
        write(tmp_path / other, mark="another")
    path = Path(tmp_path, name)
    write(path if path.suffix.lower() == ".csv" else path / "x.csv", mark="mine")
    data = load_domain(name, "source")["train"]
    assert marks(data) == {"mine"}
    assert len(data) == 6


def test_a_folder_whose_name_looks_like_a_pattern(tmp_path):
    folder = tmp_path / "v [2]" / "{split} *"
    for split in ("train", "test"):
        write(folder / f"{split}.csv")
    assert set(load_domain(str(folder), "source")) == {"train", "test"}


@pytest.mark.parametrize(
    ("specs", "out"),
    [
        (["x.csv"], {"source": "x.csv"}),
        (["a=x.csv"], {"a": "x.csv"}),
        (["a=x=y.csv"], {"a": "x=y.csv"}),
        (["there=x.csv"], {"source": "there=x.csv"}),
        (["there=x.csv", "b=there=x.csv"], {"source_0": "there=x.csv", "b": "there=x.csv"}),
        (["fold=1/x.csv"], {"source": "fold=1/x.csv"}),
        (["fold=1/x_{split}.csv"], {"source": "fold=1/x_{split}.csv"}),
        (["fold={split}.csv"], {"source": "fold={split}.csv"}),
        (["other={split}.csv"], {"other": "{split}.csv"}),
        (["my-news=x.csv"], {"source": "my-news=x.csv"}),
        (["d/e=x.csv"], {"source": "d/e=x.csv"}),
    ],
)
def test_an_equals_sign_in_a_path_names_no_source(tmp_path, monkeypatch, specs, out):
    monkeypatch.chdir(tmp_path)
    for name in ("there=x.csv", "fold=1/y.csv", "fold=train.csv"):
        write(tmp_path / name)
    assert sources_by_name(specs) == out


# ---- splits of folders, patterns and stored datasets


@pytest.mark.parametrize(
    ("files", "splits"),
    [
        (["Train.csv", "Test.csv"], {"train": {"Train.csv"}, "test": {"Test.csv"}}),
        (["TRAIN.csv", "DEV.csv", "TESTING.csv"],
         {"train": {"TRAIN.csv"}, "validation": {"DEV.csv"}, "test": {"TESTING.csv"}}),
        (["news-train.csv", "news-val.csv", "test_2.csv"],
         {"train": {"news-train.csv"}, "validation": {"news-val.csv"}, "test": {"test_2.csv"}}),
        (["data/train-00000-of-00002.csv", "data/train-00001-of-00002.csv", "data/test-00000-of-00001.csv"],
         {"train": {"train-00000-of-00002.csv", "train-00001-of-00002.csv"}, "test": {"test-00000-of-00001.csv"}}),
        (["train/x.csv", "train/y.csv", "Test/x2.csv"], {"train": {"x.csv", "y.csv"}, "test": {"x2.csv"}}),
        (["training/a.csv", "testing/b.csv", "eval/c.csv"],
         {"train": {"a.csv"}, "validation": {"c.csv"}, "test": {"b.csv"}}),
        (["a.csv", "b.csv"], {"train": {"a.csv", "b.csv"}}),
        (["a.csv", "test.csv"], {"train": {"a.csv"}, "test": {"test.csv"}}),
        (["train_test_split/train.csv", "train_test_split/test.csv"], {"train": {"train.csv"}, "test": {"test.csv"}}),
        (["a.csv", "b.jsonl"], {"train": {"a.csv", "b.jsonl"}}),
        (["train.csv", "latest.csv"], {"train": {"train.csv"}}),
        (["train.csv", ".cache/test.csv", "__MACOSX/validation.csv", ".hidden.csv"], {"train": {"train.csv"}}),
    ],
)  # fmt: skip
def test_splits_of_a_folder(tmp_path, files, splits):
    for name in files:
        write(tmp_path / name)
    found = load_domain(str(tmp_path), "source")
    assert {split: marks(part) for split, part in found.items()} == splits
    assert {split: len(part) for split, part in found.items()} == {s: 6 * len(names) for s, names in splits.items()}


@pytest.mark.parametrize(
    ("pattern", "files", "splits"),
    [
        ("n_{split}.jsonl", ["n_train.jsonl", "n_dev.jsonl", "n_test.jsonl"], {"train", "validation", "test"}),
        ("n_{split}.jsonl", ["n_Training.jsonl", "n_EVAL.jsonl", "n_extra.jsonl"], {"train", "validation"}),
        ("{split}/x.csv", ["Train/x.csv", "testing/x.csv", "other/x.csv"], {"train", "test"}),
        ("{split}/{split}.csv", ["train/train.csv", "test/test.csv", "val/test.csv"], {"train", "test"}),
        ("[a] {split}*.csv", ["[a] train*.csv", "a train1.csv", "[a] valid*.csv"], {"train", "validation"}),
    ],
)  # fmt: skip
def test_splits_of_a_pattern(tmp_path, pattern, files, splits):
    for name in files:
        write(tmp_path / name)
    found = load_domain(str(tmp_path / pattern), "source")
    assert set(found) == splits
    assert all(len(marks(part)) == 1 for part in found.values())


def test_splits_of_a_saved_dataset(tmp_path):
    parts = {name: tiny.domain(n) for name, n in (("train", 9), ("eval", 6), ("testing", 3), ("unlabelled", 5))}
    DatasetDict(parts).save_to_disk(tmp_path / "saved")
    shift = load_shift({"source": str(tmp_path / "saved")}, None, 0.1, 1)
    assert len(shift.train["source"]) == 9
    assert len(shift.validation["source"]) == 6
    assert len(shift.test["source"]) == 3
    (line,) = [line for line in shift.summaries["source"].lines() if line.startswith("left aside")]
    assert "'unlabelled', 5 rows" in line


def test_the_splits_of_a_hub_dataset(monkeypatch):
    parts = DatasetDict({name: tiny.domain(6) for name in ("Train", "dev", "unsupervised")})
    monkeypatch.setattr("hftransfer.data.saved_datasets.hub_reachable", lambda: True)
    monkeypatch.setattr("datasets.load_dataset", lambda name, config: parts)
    shift = load_shift({"source": "owner/name"}, None, 0.1, 1)
    assert set(shift.validation) == {"source"}
    assert "left aside: split 'unsupervised', 6 rows (its name says no split)" in shift.summaries["source"].lines()
    assert "validation: 6 rows of split 'dev'" in shift.summaries["source"].lines()


# ---- several files of a split


def test_csv_and_jsonl_are_read_together(tmp_path):
    write(tmp_path / "a.csv", labels=(1, 2))
    write(tmp_path / "b.jsonl", labels=(1, 2))
    data = load_domain(str(tmp_path), "source")["train"]
    assert set(data["label"]) == {"1", "2"}
    assert data["__origin__"][6].startswith("0 (b.jsonl")


@pytest.mark.parametrize(
    ("one", "other", "labels"),
    [("1", "2.5", [1.0, 2.5]), ("1", '"a"', ["1", "a"]), ("2.5", '"a"', ["2.5", "a"]), ("null", "3", [None, "3"])],
)
def test_numbers_beside_others_widen_and_beside_text_are_text(tmp_path, one, other, labels):
    (tmp_path / "a.jsonl").write_text(f'{{"text": "w1", "label": {one}}}\n')
    (tmp_path / "b.jsonl").write_text(f'{{"text": "w2", "label": {other}}}\n')
    assert load_domain(str(tmp_path), "source")["train"]["label"][:] == labels


def test_a_column_that_calls_all_rows_train_or_something_else_is_any_column(tmp_path):
    for values in (("train", "Train"), ("news", "test"), ("train", "")):
        lines = [f"w{i},up,{value}" for i, value in enumerate(values)]
        (tmp_path / "a.csv").write_text("\n".join(["text,label,split", *lines]) + "\n")
        assert len(load_domain(str(tmp_path / "a.csv"), "source")["train"]) == 2


def test_a_test_set_may_call_its_rows_so(tmp_path):
    (tmp_path / "b.csv").write_text("text,label,split\nw1,up,test\nw2,down,test\n")
    source = str(write(tmp_path / "a.csv"))
    assert len(load_shift({"source": source}, None, 0.2, 1, {"source": str(tmp_path / "b.csv")}).test["source"]) == 2


def test_a_train_split_that_is_too_small_is_named(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\nw1,up\n")
    with pytest.raises(ValueError, match=r"source '.*a\.csv': A train split of 1 row.*validation_fraction to 0"):
        load_shift({"source": str(tmp_path / "a.csv")}, None, 0.1, 1)


def test_columns_in_another_order_are_the_same_columns(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\nw1,up\n")
    (tmp_path / "b.csv").write_text("label,text\ndown,w2\n")
    data = load_domain(str(tmp_path), "source")["train"]
    assert (data["text"], data["label"]) == (["w1", "w2"], ["up", "down"])


# ---- the summary


def test_everything_that_was_read_and_left_aside_is_said(tmp_path):
    folder = tmp_path / "news"
    write(folder / "train.csv", 20, id=7)
    write(folder / "Test.csv", 5)
    write(folder / "extra.csv")
    for name in ("README.md", "LICENSE", "more.xlsx", "no\ntes.txt", "plot.png", ".cache/x.csv"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"x")
    shift = load_shift({"source": str(folder)}, str(write(tmp_path / "medical.csv")), 0.1, 1)
    assert shift.summaries["source"].lines({"text", "label"}) == [
        "train: 18 rows of train.csv",
        "validation: 2 rows held out of train",
        "test: 5 rows of Test.csv",
        "columns: text, label (unused: id)",
        "left aside: extra.csv (no split in the name); more.xlsx, 'no\\ntes.txt'; 2 other files (LICENSE, README.md); "
        "1 image",
    ]
    assert shift.summaries["target"].lines({"text"}) == [
        "train: 6 rows of medical.csv",
        "columns: text (unused: label)",
    ]


def test_test_sets_that_stand_elsewhere(tmp_path):
    write(tmp_path / "a" / "train.csv")
    write(tmp_path / "b" / "Test.csv", 4)
    write(tmp_path / "c.csv", 3)
    shift = load_shift(
        {"one": str(tmp_path / "a"), "two": str(write(tmp_path / "two.csv", 10))},
        str(write(tmp_path / "t.csv")),
        0.2,
        1,
        {"one": str(tmp_path / "b"), "target": str(tmp_path / "c.csv")},
    )
    assert {name: len(part) for name, part in shift.test.items()} == {"one": 4, "two": 2, "target": 3}
    assert "test: 4 rows of Test.csv" in shift.summaries["test of one"].lines()


# ---- bad ones


def build(home: Path, files: dict) -> None:
    for name, content in files.items():
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, tuple):
            path.symlink_to(content[0])
        elif isinstance(content, int):
            write(path, content)
        elif content is None:
            path.mkdir()
        else:
            path.write_bytes(content)


BAD = FILES | FOLDERS


@pytest.mark.parametrize(("given", "error", "culprit", "remedy"), BAD.values(), ids=BAD.keys())
def test_the_loader_says_what_is_wrong(tmp_path, monkeypatch, given, error, culprit, remedy):
    monkeypatch.chdir(tmp_path)
    spec, files, *role = given
    build(tmp_path, files)
    with pytest.raises(error) as found:
        load_domain(spec, *(role or ["source"]))
    message = str(found.value)
    assert culprit in message
    assert remedy in message
    assert "\n" not in message
    assert len(message) < 700


def test_the_same_file_by_another_name_is_no_target(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.csv")
    with pytest.raises(ValueError, match=r"target './a.csv' is a source too \(source\): there is nothing to adapt to"):
        load_shift({"source": "a.csv"}, "./a.csv", 0.1, 1)


def test_a_saved_part_says_which_split_it_was(tmp_path):
    DatasetDict(train=tiny.domain(6)).save_to_disk(tmp_path / "dict")
    Dataset.from_dict({"text": ["w1"] * 8, "label": [0, 1] * 4}, split="test").save_to_disk(tmp_path / "part")
    shift = load_shift({"source": str(tmp_path / "part")}, str(tmp_path / "dict"), 0.25, 1)
    assert "it was saved as the split 'test'" in shift.summaries["source"].lines()
