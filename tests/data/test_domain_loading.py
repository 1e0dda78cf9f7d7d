"""Domains by name: files, folders, patterns, saved datasets, the sample and the Hub, each with its errors."""

from __future__ import annotations

import pytest
import tiny
from datasets import DatasetDict

from hftransfer import load_sample_corpus
from hftransfer.data.domain_loading import load_domain
from hftransfer.data.row_origins import ORIGIN, visible


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with one domain in every form."""
    folder = tmp_path_factory.mktemp("home")
    data = tiny.domain(12)
    data = data.remove_columns("label").add_column("label", [tiny.LABELS[i] for i in data["label"]])
    data.to_csv(folder / "d.csv")
    data.to_csv(folder / "d.tsv", sep="\t")
    data.to_json(folder / "d.jsonl")
    data.to_json(folder / "d.json", lines=False)
    data.to_parquet(folder / "d.parquet")
    data.save_to_disk(folder / "saved")
    DatasetDict(train=data, valid=data.select(range(3))).save_to_disk(folder / "saved_dict")
    for name, rows in (("train", 12), ("dev", 4), ("test", 5)):
        (folder / "splits").mkdir(exist_ok=True)
        data.select(range(rows)).to_csv(folder / "splits" / f"{name}.csv")
        data.select(range(rows)).to_parquet(folder / f"news_{name.replace('dev', 'validation')}.parquet")
    (folder / "only_test").mkdir()
    data.to_csv(folder / "only_test" / "test.csv")
    (folder / "nothing").mkdir()
    (folder / "headless").mkdir()
    (folder / "headless" / "notes.md").write_text("no data")
    for name, content in (
        ("empty.csv", ""),
        ("header.csv", "text,label\n"),
        ("broken.json", '{"text": '),
        ("broken.parquet", "PAR0"),
        ("ragged.csv", "text,label\na,up\nb,up,more\n"),
        ("notes.txt", "text"),
    ):
        (folder / name).write_text(content)
    (folder / "latin.csv").write_bytes("text,label\ncafé,up\n".encode("latin-1"))
    return folder


@pytest.mark.parametrize("name", ["d.csv", "d.tsv", "d.jsonl", "d.json", "d.parquet", "saved"])
def test_one_file_is_a_train_split(home, name):
    (split, data), *others = load_domain(str(home / name), "source").items()
    assert (split, others) == ("train", [])
    assert visible(data.column_names) == ["text", "label"]
    assert (ORIGIN in data.column_names) is (name != "saved")  # what a message calls a row
    assert data["text"] == tiny.domain(12)["text"]
    assert data["label"][:3] == ["down", "up", "flat"]


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("splits", {"train": 12, "validation": 4, "test": 5}),
        ("splits/{split}.csv", {"train": 12, "validation": 4, "test": 5}),
        ("news_{split}.parquet", {"train": 12, "validation": 4, "test": 5}),
        ("saved_dict", {"train": 12, "validation": 3}),
    ],
)
def test_several_files_are_splits(home, name, sizes):
    assert {k: len(v) for k, v in load_domain(str(home / name), "target").items()} == sizes


def test_the_sample_has_two_halves():
    corpus = load_sample_corpus()
    for role, half in (("source", "news"), ("target", "medical")):
        found = load_domain("sample", role)
        assert set(found) == {"train", "validation", "test"}
        assert found["train"]["text"] == corpus[f"{half}_train"]["text"]


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("gone.csv", FileNotFoundError, "there is no such file or folder"),
        ("gone/{split}.csv", FileNotFoundError, r"there is no file '.*gone/train\.csv'"),
        ("only_test", ValueError, "has no train split; it has test"),
        ("nothing", ValueError, r"cannot be read as a dataset .*train\.csv, validation\.csv"),
        ("headless", ValueError, r"cannot be read as a dataset .*train\.csv, validation\.csv"),
        ("empty.csv", ValueError, "is empty: it has no rows"),
        ("header.csv", ValueError, "is empty: it has a header but no rows"),
        ("broken.json", ValueError, "line 1"),
        ("broken.parquet", ValueError, "cannot be read as parquet: "),
        ("ragged.csv", ValueError, "line 3"),
        ("latin.csv", ValueError, "line 2: .*--encoding cp1252"),
        ("notes.txt", ValueError, r"files must end in \.csv, \.tsv, \.json, \.jsonl, \.parquet"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_role(home, name, error, message):
    with pytest.raises(error, match=message) as found:
        load_domain(str(home / name), "source")
    assert str(found.value).startswith(f"source {str(home / name)!r}")
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("spec", ["owner/name", "owner/name:config", "imdb"])
def test_a_hub_id_without_the_hub(spec):
    with pytest.raises(FileNotFoundError, match=f"target '{spec}': .*the Hub is out of reach or does not have it"):
        load_domain(spec, "target")


def test_a_mistyped_sample_and_no_name_at_all():
    with pytest.raises(FileNotFoundError, match="Did you mean 'sample'"):
        load_domain("smaple", "source")
    with pytest.raises(ValueError, match="source is empty: give `sample`, a Hub id, a folder or a file"):
        load_domain("", "source")


def test_an_encoding_is_said_for_every_text_format(tmp_path):
    for name, content in (
        ("a.csv", "text,label\ncafé,up\n"),
        ("a.tsv", "text\tlabel\ncafé\tup\n"),
        ("a.jsonl", '{"text": "café", "label": "up"}\n'),
        ("a.json", '[{"text": "café", "label": "up"}]'),
    ):
        (tmp_path / name).write_bytes(content.encode("latin-1"))
        with pytest.raises(ValueError, match="--encoding"):
            load_domain(str(tmp_path / name), "source")
        assert load_domain(str(tmp_path / name), "source", encoding="latin-1")["train"]["text"] == ["café"]
