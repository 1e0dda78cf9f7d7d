"""What the recipe refuses: one message and exit status 1, before anything is trained or written."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import recipe
import tiny


@pytest.fixture(scope="module")
def world(tmp_path_factory, model_folder):
    """Two good domains, and files with something wrong in them."""
    folder = tmp_path_factory.mktemp("refusals")
    source = recipe.write_domain(folder, "news", 0, {"train": 12, "test": 6})
    target = recipe.write_domain(folder, "medical", 50, {"train": 12, "test": 6}, ("train",))
    header = "text,label\n"
    for name, content in {
        "header.csv": header,
        "notes.txt": "w1",
        "no_text.csv": "body\nw1\nw2\n",
        "empty_text.csv": 'text\nw1\n""\n',
        "no_label.csv": "text\nw1\nw2\nw3\n",
        "one_class.csv": header + "w1,up\n" * 9,
        "ragged.csv": header + "w1,up\nw2,up,down\n",
        "other_train.csv": "text\nw1\nw2\n",
        "other_test.csv": header + "w1,up\nw2,sideways\n",
        "other_validation.csv": header + "w1,up\nw2,left\n",
        "late_train.csv": "text\nw1\nw2\n",
        "late_test.csv": header + "w1,up\nw2,sideways\n",
    }.items():
        (folder / name).write_text(content)
    return SimpleNamespace(folder=folder, data={"source": source, "target": target, "model": model_folder})


# What is given instead ({here} is the folder of the files), the culprit, the remedy.
CASES = {
    "no source": ({"source": None}, "--source is missing", "`--source sample`"),
    "no target": ({"target": None}, "target_dataset is missing", "leave `objectives` empty"),
    "a source that is not there": ({"source": "{here}/gone.csv"}, "source '{here}/gone.csv'", "no such file"),
    "a pattern without train": ({"target": "{here}/gone_{split}.csv"}, "gone_train.csv'", "there is no file"),
    "a file of another kind": ({"source": "{here}/notes.txt"}, "notes.txt'", "files must end in .csv, .tsv"),
    "a file without rows": ({"source": "{here}/header.csv"}, "header.csv' is empty", "no rows"),
    "a file with ragged rows": ({"source": "{here}/ragged.csv"}, "ragged.csv' line 3: more fields", "as jsonl"),
    "a Hub id without the Hub": ({"target": "owner/medical"}, "target 'owner/medical'", "is the id right?"),
    "a mistyped sample": ({"source": "samle"}, "source 'samle'", "Did you mean 'sample'?"),
    "source and target the same": ({"target": "{source}"}, "is a source too", "nothing to adapt to"),
    "a target without text": ({"target": "{here}/no_text.csv"}, "target_dataset has neither", "`text_column`"),
    "a target with an empty text": ({"target": "{here}/empty_text.csv"}, "target_dataset row 1", "Drop or fill"),
    "a source without labels": ({"source": "{here}/no_label.csv"}, "source has no column 'label'", "`label_column`"),
    "a source of one class": ({"source": "{here}/one_class.csv"}, "one class only (up)", "needs two"),
    "a target set of other labels": (
        {"target": "{here}/other_{split}.csv"}, "row 1 (other_validation.csv line 3): label 'left'", "Rename it",
    ),
    "a test set of other labels": (
        {"target": "{here}/late_{split}.csv"}, "target row 1 (late_test.csv line 3): label 'sideways'",
        "'down', 'flat', 'up'",
    ),
    "a fraction above one": ({"validation_fraction": "2"}, "validation_fraction=2.0", "between 0 and 1"),
    "a name that is taken": ({"source": "target={source}"}, "the name 'target' is taken", "a name of its own"),
    "a model that is not there": ({"model": "./gone"}, "no folder './gone'", "a Hub id such as owner/name"),
    "a model without the Hub": ({"model": "owner/gone"}, "Could not load 'owner/gone'", "the Hub is out of reach"),
    "a folder without a model": ({"model": "{here}"}, "Could not load", "config.json, weights and tokenizer"),
    "nothing to resume from": ({"resume_from_checkpoint": "true"}, "no checkpoint to resume from", "Start without"),
    "a file for an output folder": ({"output_dir": "{here}/notes.txt"}, "notes.txt is a file", "Choose another"),
    "more layers than there are": ({"trainable": "last_9"}, "trainable='last_9'", "has 2 layers"),
    "a choice by target labels": (
        {"target": "{here}/ok_{split}.csv", "metric_for_best_model": "eval_target_accuracy"},
        "reads the labels of 'target'", "eval_target_information",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("given", "culprit", "remedy"), CASES.values(), ids=CASES.keys())
def test_the_recipe_says_what_is_wrong(world, tmp_path, monkeypatch, capsys, given, culprit, remedy):
    monkeypatch.chdir(tmp_path)
    recipe.write_domain(world.folder, "ok", 70, {"train": 6, "validation": 6}, ("train",))
    places = {"{here}": str(world.folder), "{source}": world.data["source"]}

    def placed(text: str | None) -> str | None:
        for place, path in places.items():
            text = text and text.replace(place, path)
        return text

    before = sorted(world.folder.rglob("*"))
    options = world.data | {"output_dir": "run"} | {k: placed(v) for k, v in given.items()}
    assert recipe.run(recipe.words(**options)) == 1
    message = capsys.readouterr().err.strip().split("hftransfer: ", 1)[1]
    assert placed(culprit) in message
    assert remedy in message
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []
    assert sorted(world.folder.rglob("*")) == before


def test_two_sources_need_two_names(world, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    again = f"--source=news={world.data['source']}"
    options = world.data | {"source": f"news={world.data['source']}", "output_dir": "run"}
    assert recipe.run([*recipe.words(**options), again]) == 1
    assert "the name 'news' is taken; give each source a name of its own" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_another_run_is_neither_overwritten_nor_trained_over(world, tmp_path, capsys):
    (tmp_path / "config.json").write_text("{}")
    assert recipe.run(recipe.words(**world.data, output_dir=str(tmp_path))) == 1
    assert "already holds a run (config.json)" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["config.json"]
    assert (tmp_path / "config.json").read_text() == "{}"


def test_a_part_that_is_not_finite_stops_the_run_with_one_message(world, tmp_path, capsys):
    options = world.data | {"learning_rate": "1e30", "objectives": None, "output_dir": str(tmp_path / "run")}
    assert recipe.run(recipe.words(**options)) == 1
    message = capsys.readouterr().err
    assert "Lower the learning rate" in message
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_the_sample_has_the_labels_of_the_sample(tmp_path, monkeypatch, capsys, model_folder):
    """A model's own head gives way to one for the data: folders are asked for weights, not for labels."""
    monkeypatch.chdir(tmp_path)
    options = {"source": "sample", "target": "sample", "model": model_folder, "output_dir": "run"}
    assert recipe.run([*recipe.words(**options), "--dry_run"]) == 0
    assert "improvement, worsening, no change" in capsys.readouterr().out
    assert set(tiny.LABELS).isdisjoint({"improvement", "worsening", "no change"})
