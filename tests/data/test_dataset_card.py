"""Dataset cards: the files that a README.md names by split are those splits, as on the Hub."""

from __future__ import annotations

from pathlib import Path

import pytest
from datasets import Dataset

from hftransfer.data.domain_loading import load_domain, load_shift

HEAD = "---\nlicense: mit\nconfigs:\n{0}\n---\n# Data\n"


def build(folder: Path, names: dict[str, int], card: str | None) -> str:
    for number, (name, rows) in enumerate(names.items()):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("text,label\n" + "".join(f"w{number} w{i},{('up', 'down')[i % 2]}\n" for i in range(rows)))
    if card is not None:
        (folder / "README.md").write_text(card)
    return str(folder)


def sizes(folder: str) -> dict[str, int]:
    return {split: len(part) for split, part in load_domain(folder, "source").items()}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ("- data_files: data/a.csv", {"train": 6}),
        ("- data_files: [data/a.csv, data/b.csv]", {"train": 10}),
        ("- data_files:\n  - {split: train, path: data/a.csv}\n  - {split: test, path: data/b.csv}",
         {"train": 6, "test": 4}),
        ("- data_files:\n  - {split: train, path: [data/a.csv]}\n  - {split: dev, path: 'other/*.csv'}",
         {"train": 6, "validation": 3}),
        ("- data_files: {train: data/a.csv, extra: data/b.csv}", {"train": 6}),
        ("- data_dir: data\n  data_files: {train: a.csv, test: 'b*'}", {"train": 6, "test": 4}),
        ("- data_files: '**/?.csv'", {"train": 13}),
        ("- data_files: other", {"train": 3}),
        ("- {config_name: small, data_files: data/b.csv}\n- {config_name: default, data_files: data/a.csv}",
         {"train": 6}),
        ("- {config_name: small, data_files: data/b.csv, default: true}\n- {config_name: x, data_files: data/a.csv}",
         {"train": 4}),
    ],
)  # fmt: skip
def test_files_are_those_that_the_card_names(tmp_path, config, expected):
    folder = build(tmp_path / "d", {"data/a.csv": 6, "data/b.csv": 4, "other/c.csv": 3}, HEAD.format(config))
    assert sizes(folder) == expected


def test_what_the_card_does_not_name_is_left_aside_by_name(tmp_path):
    card = HEAD.format("- data_files: {train: data/a.csv, extra: data/b.csv}")
    folder = build(tmp_path / "d", {"data/a.csv": 6, "data/b.csv": 4, "other/c.csv": 3}, card)
    said = load_shift({"source": folder}, None, 0, 1).summaries["source"].left_aside
    assert said[0].startswith("data/b.csv ('extra' of README.md: ")
    assert said[1:] == ("other/c.csv (not named in README.md)", "1 other file (README.md)")


@pytest.mark.parametrize(
    "card",
    [
        None,
        "# Data\n",
        "---\nlicense: mit\n---\n",
        "---\nconfigs: [: :\n---\n",
        HEAD.format("- config_name: default"),
        HEAD.format("- data_files: https://example.org/a.csv"),
    ],
)
def test_a_card_that_names_no_files_here_changes_nothing(tmp_path, card):
    assert sizes(build(tmp_path / "d", {"train.csv": 6, "test.csv": 4}, card)) == {"train": 6, "test": 4}


def test_folders_of_saved_splits_are_splits(tmp_path):
    rows = Dataset.from_dict({"text": ["w1", "w2", "w3"], "label": ["up", "down", "up"]})
    for name, size in (("train", 3), ("testing", 2)):
        rows.select(range(size)).save_to_disk(tmp_path / "all" / name)
    assert sizes(str(tmp_path / "all")) == {"train": 3, "test": 2}
    rows.save_to_disk(tmp_path / "other" / "mine")
    with pytest.raises(ValueError, match=r"`save_to_disk` wrote \(mine\), and none is named train. Give one of them"):
        load_domain(str(tmp_path / "other"), "source")
