"""The recipe end to end, on csv files and a tiny model folder."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import pytest
import recipe
import tiny
from safetensors.torch import load_file


@pytest.fixture(scope="module")
def world(tmp_path_factory, model_folder):
    """Two domains as csv files, and the options that name them."""
    folder = tmp_path_factory.mktemp("finetune")
    source = recipe.write_domain(folder, "news", 0, {"train": 24, "validation": 9, "test": 12})
    target = recipe.write_domain(folder, "medical", 50, {"train": 18, "validation": 9, "test": 12}, ("train",))
    return SimpleNamespace(folder=folder, data={"source": source, "target": target, "model": model_folder})


@pytest.fixture(scope="module")
def finished(world):
    """One run as from a shell."""
    output = world.folder / "run"
    done = recipe.script(recipe.words(**world.data, output_dir=str(output)), world.folder)
    assert done.returncode == 0, done.stderr
    return SimpleNamespace(
        output=output, stdout=done.stdout, results=json.loads((output / "results.json").read_text())
    )


# ---- a run


def test_the_run_shows_plan_and_table(finished):
    plan, table = finished.stdout.split("Results on the test splits", 1)
    for fact in (
        "24 labelled rows",
        "train: 24 rows of news_train.csv",
        "test: 12 rows of news_test.csv",
        "columns: text, label",
        "classes: down 8, flat 8, up 8",
        "18 unlabelled rows",
        "train: 18 rows of medical_train.csv",
        "down, flat, up",
        "6 updates",
        "0.1 x mmd, warm_start",
        str(finished.output),
    ):
        assert fact in plan
    header = table[: table.index("source-only")]
    assert header.count("(oracle)") == sum("oracle" in column for column in finished.results["adapted"])
    for row in ("source-only", "adapted"):
        line = next(line for line in table.splitlines() if f" {row} " in line)
        assert f"{100 * finished.results[row]['source_accuracy']:.1f} %" in line
        assert f"{100 * finished.results[row]['target_oracle_accuracy']:.1f} %" in line
    assert f'pipeline("text-classification", "{finished.output}")' in table
    assert f"hf upload your-name/run {finished.output}" in table


def test_columns_that_read_target_labels_are_called_oracle(finished):
    for scores in finished.results.values():
        assert {"source_accuracy", "source_macro_f1", "target_oracle_accuracy", "target_oracle_macro_f1"} == set(
            scores
        )


def test_what_is_saved_loads_without_hftransfer_and_predicts_what_the_table_says(world, finished, run_elsewhere):
    rows = recipe.rows_of(world.folder / "medical_test.csv")
    texts = json.dumps([row["text"] for row in rows])
    predicted = json.loads(run_elsewhere(recipe.LOAD, finished.output, texts).splitlines()[-1])
    hits = sum(p == row["label"] for p, row in zip(predicted, rows, strict=True))
    assert hits / len(rows) == pytest.approx(finished.results["adapted"]["target_oracle_accuracy"])


def test_what_is_saved_is_a_plain_model_with_its_card(finished):
    names = {p.name for p in finished.output.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md", "results.json"} <= names
    assert not [n for n in names if n.endswith((".bin", ".pt", ".py", ".pkl"))]
    config = json.loads((finished.output / "config.json").read_text())
    assert config["architectures"] == ["BertForSequenceClassification"]
    assert set(config["label2id"]) == set(tiny.LABELS)
    assert "oracle" in (finished.output / "README.md").read_text()


def test_a_second_run_is_refused_and_touches_nothing(world, finished, capsys):
    before = recipe.contents(finished.output)
    assert recipe.run(recipe.words(**world.data, output_dir=str(finished.output))) == 1
    message = capsys.readouterr().err
    assert f"{finished.output} already holds a run" in message
    assert "Choose another output_dir" in message
    assert "checkpoint-6" in message
    assert "overwrite_output_dir" in message
    assert recipe.contents(finished.output) == before


def test_a_run_that_was_cut_off_resumes_to_the_same_model(world, finished, tmp_path):
    cut = tmp_path / "run"
    shutil.copytree(finished.output, cut)
    shutil.rmtree(cut / "checkpoint-6")
    for name in ("model.safetensors", "config.json", "results.json"):
        (cut / name).unlink()
    baseline = cut / "_source_only" / "results.json"
    changed = baseline.stat().st_mtime_ns
    argv = recipe.words(**world.data, output_dir=str(cut), resume_from_checkpoint="true")
    assert recipe.run(argv) == 0
    assert json.loads((cut / "results.json").read_text()) == finished.results
    assert baseline.stat().st_mtime_ns == changed  # the source-only model was not trained again
    weights = load_file(str(finished.output / "model.safetensors"))
    for name, value in load_file(str(cut / "model.safetensors")).items():
        assert value.equal(weights[name]), name


def test_the_comparison_does_not_change_the_adapted_model(world, finished, tmp_path):
    argv = [*recipe.words(**world.data, output_dir=str(tmp_path / "run")), "--no_source_only_baseline"]
    assert recipe.run(argv) == 0
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results == {"adapted": finished.results["adapted"]}
    assert not (tmp_path / "run" / "_source_only").exists()


def test_without_objectives_there_is_the_source_only_row(world, finished, tmp_path):
    argv = recipe.words(**world.data | {"target": None}, output_dir=str(tmp_path / "run"), objectives=None)
    assert recipe.run(argv) == 0
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    mine = {k: v for k, v in finished.results["source-only"].items() if k.startswith("source_")}
    assert results == {"source-only": mine}


def test_several_sources_and_an_adapter_without_splits(world, tmp_path, capsys):
    """Files without splits are cut for validation; an adapter is merged into a plain model."""
    first, second = (str(world.folder / f"{name}.csv") for name in ("news_train", "news_test"))
    argv = recipe.words(
        **world.data | {"source": f"big={first}", "target": str(world.folder / "medical_train.csv")},
        output_dir=str(tmp_path / "run"),
        use_lora="true",
        balance_sources="true",
    )
    assert recipe.run([*argv, "--source", f"small={second}"]) == 0
    out = capsys.readouterr().out
    assert "source big" in out
    assert "22 labelled rows" in out  # 24 less a tenth
    assert "11 labelled rows" in out
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert set(results["adapted"]) == {f"{s}_{m}" for s in ("big", "small") for m in ("accuracy", "macro_f1")}
    assert (tmp_path / "run" / "model.safetensors").is_file()
    assert not (tmp_path / "run" / "adapter_config.json").exists()


# ---- a dry run


def test_a_dry_run_prints_the_plan_and_writes_nothing(world, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    argv = recipe.words(
        **world.data, output_dir="run", gradient_accumulation_steps="2", trainable="head", max_steps=None
    )
    assert recipe.run([*argv, "--dry_run"]) == 0
    plan = capsys.readouterr().out
    for fact in (
        "sequence-classification",
        "down, flat, up",
        "24 labelled rows",
        "18 unlabelled rows",
        "4 source + 4 target rows, x 2 an update",
        "9 updates (3 an epoch)",
        "9 labelled rows",
        "head: 99 of",
        "0.1 x mmd, warm_start",
        "run",
    ):
        assert fact in plan, fact
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_looks_at_the_test_splits_too(world, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for split, labels in (("train", ("up", "down", "flat")), ("test", ("up", "sideways"))):
        lines = [f"w{i},{labels[i % len(labels)]}\n" for i in range(24)]
        (tmp_path / f"n_{split}.csv").write_text("text,label\n" + "".join(lines))
    options = world.data | {"source": "n_{split}.csv", "output_dir": "run"}
    assert recipe.run([*recipe.words(**options), "--dry_run"]) == 1
    said = capsys.readouterr().err
    assert "the test split of source row 1 (n_test.csv line 3): label 'sideways' is not one of" in said
    assert "Rename it, drop such rows" in said


def test_an_encoding_and_names_that_hold_signs(world, tmp_path, monkeypatch, capsys):
    """A path letter by letter, a row of the file in a message although it was held out, an encoding that is said."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    rows = "".join(f"café w{i},{('up', 'down', 'flat')[i % 3]}\n" for i in range(30))
    (tmp_path / "a=s[1].csv").write_bytes(f"text,label\n{rows}".encode("latin-1"))
    (tmp_path / "s[1].csv").write_text("text,label\nanother,up\n")
    options = world.data | {"source": "a=s[1].csv", "output_dir": "run"}
    assert recipe.run([*recipe.words(**options), "--dry_run"]) == 1
    assert "--encoding" in capsys.readouterr().err
    assert recipe.run([*recipe.words(**options, encoding="latin-1"), "--dry_run"]) == 0
    out = capsys.readouterr().out
    assert "train: 27 rows of a=s[1].csv" in out
    assert "encoding latin-1" in out
    for line in range(2, 32):  # whichever row was held out
        lines = f"text,label\n{rows}".splitlines()
        lines[line - 1] = lines[line - 1].replace(f"café w{line - 2}", "")
        if line % 7 == 2:
            (tmp_path / "a=s[1].csv").write_text("\n".join(lines))
            assert recipe.run([*recipe.words(**options), "--dry_run"]) == 1
            assert f"row {line - 2} (a=s[1].csv line {line}): 'text' is None" in capsys.readouterr().err


def test_the_shipped_config_is_readable_and_plans_the_demo(world, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    config = recipe.RECIPE.parent / "configs" / "news_to_medical.yaml"
    argv = ["--config", str(config), "--model", world.data["model"], "--use_cpu", "--dry_run"]
    assert recipe.run(argv) == 0
    plan = capsys.readouterr().out
    assert "improvement, worsening, no change" in plan
    assert list(tmp_path.iterdir()) == []


# ---- through the command


@pytest.mark.slow
def test_the_command_launches_the_recipe_and_passes_its_one_message_on(world, tmp_path):
    wrong = recipe.words(**world.data | {"source": "gone.csv"}, output_dir="run")
    done = recipe.command(["finetune", "--accelerate_config", "one_process", *wrong], tmp_path)
    assert done.returncode == 1
    assert "hftransfer: source 'gone.csv': there is no such file or folder" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_command_says_nothing_of_its_launcher(world, tmp_path):
    options = recipe.words(**world.data, output_dir=str(tmp_path / "run"))
    done = recipe.command(["finetune", "--dry_run", *options], tmp_path)
    assert done.returncode == 0
    assert done.stderr == ""
