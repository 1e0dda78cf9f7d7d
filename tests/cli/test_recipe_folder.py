"""The output folder of the recipes: refused before anything is read, saved before it is scored."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import recipe
import tiny
from bad_folders import RECIPE_ONLY

from hftransfer import AdaptationTrainer
from hftransfer.cli.benchmark_runner import cell_lock, check_folder, record_files
from hftransfer.trainers.saving.written_files import recorded_files


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    sizes = {"train": 12, "validation": 6, "test": 6}
    data = {
        "source": recipe.write_domain(folder, "news", 0, sizes),
        "target": recipe.write_domain(folder, "medical", 5, sizes),
    }
    tiny.bert().save_pretrained(folder / "model")
    tiny.tokenizer().save_pretrained(folder / "model")
    return SimpleNamespace(folder=folder, data={**data, "model": str(folder / "model")})


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def start(world, folder, **options) -> int:
    return recipe.run(recipe.words(**world.data, output_dir=str(folder), **options))


@pytest.mark.parametrize(("files", "settings", "culprit", "remedy"), RECIPE_ONLY.values(), ids=RECIPE_ONLY.keys())
def test_what_the_recipe_would_replace_is_refused_first(tmp_path, capsys, files, settings, culprit, remedy):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    before = contents(tmp_path)
    options = {name: str(value).lower() for name, value in settings.items()}
    nothing = SimpleNamespace(data={"source": "no-such-file.csv", "model": "no/model"})
    assert start(nothing, tmp_path, **options) == 1
    message = capsys.readouterr().err
    assert culprit in message
    assert remedy in message
    assert "which hftransfer did not write" in message
    assert contents(tmp_path) == before


def test_a_start_that_fails_leaves_the_old_run(world, tmp_path, capsys):
    assert start(world, tmp_path) == 0
    before = contents(tmp_path)
    assert {"results.json", "README.md", "_source_only/results.json"} <= set(recorded_files(tmp_path))
    nothing = SimpleNamespace(data={**world.data, "target": "no-such-file.csv"})
    assert start(nothing, tmp_path, overwrite_output_dir="true") == 1
    assert contents(tmp_path) == before
    assert start(world, tmp_path, overwrite_output_dir="true", seed="3") == 0  # and is replaced by one that works
    after = contents(tmp_path)
    assert after["checkpoint-6/model.safetensors"] != before["checkpoint-6/model.safetensors"]
    assert set(after) == set(before)


@pytest.mark.parametrize("error", [OSError("image file is truncated"), RuntimeError("CUDA error"), KeyError("odd")])
def test_the_model_is_saved_before_it_is_scored(world, tmp_path, monkeypatch, capsys, error):
    evaluate = AdaptationTrainer.evaluate

    def breaks(self, *args, metric_key_prefix="eval", **kwargs):
        if metric_key_prefix == "test":
            raise error
        return evaluate(self, *args, metric_key_prefix=metric_key_prefix, **kwargs)

    monkeypatch.setattr(AdaptationTrainer, "evaluate", breaks)
    assert start(world, tmp_path, save_strategy="no", source_only_baseline="false") == 1
    message = capsys.readouterr().err
    assert f"The trained model is saved in {tmp_path}, but scoring it on the test splits failed" in message
    assert str(error) in message
    names = {path.name for path in tmp_path.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md"} <= names
    assert "results.json" not in names


def test_a_damaged_comparison_is_named(world, tmp_path, capsys):
    assert start(world, tmp_path) == 0
    (tmp_path / "_source_only" / "results.json").write_text('{"source_acc')
    assert start(world, tmp_path, resume_from_checkpoint="true") == 1
    assert "_source_only/results.json" in capsys.readouterr().err


def test_a_folder_in_use(world, tmp_path, capsys):
    lock = tmp_path / "_writing" / "run.json"
    lock.parent.mkdir()
    lock.write_text(json.dumps({"host": "node7", "pid": 12, "started": "2026-01-05 10:12:33"}))
    assert start(world, tmp_path) == 1
    message = capsys.readouterr().err
    for word in ("in use by another run: process 12 on host node7, started 2026-01-05 10:12:33", f"remove {lock}"):
        assert word in message
    assert lock.is_file()


def test_a_benchmark_replaces_only_its_own(tmp_path):
    (tmp_path / "table.md").write_text("mine")
    with pytest.raises(FileExistsError, match=r"holds table.md, which no benchmark wrote"):
        check_folder(tmp_path)
    (tmp_path / "table.md").unlink()
    record_files(tmp_path)
    (tmp_path / "table.md").write_text("ours")
    check_folder(tmp_path)
    (tmp_path / "_hftransfer.json").unlink()
    (tmp_path / "results.jsonl").write_text('{"hash": "x", "status": "done"}\n')  # of an older version
    check_folder(tmp_path)
    check_folder(tmp_path / "new")
    cell = SimpleNamespace(hash="abc")
    with cell_lock(tmp_path, cell):
        assert (tmp_path / "_cells" / "abc.lock").is_file()
    assert not (tmp_path / "_cells" / "abc.lock").exists()
