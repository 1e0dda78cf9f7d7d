"""The benchmark recipe on images, with a model from scratch; which model its file may name."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pictures
import pytest
import recipe
import tiny
import yaml

from hftransfer.cli import cell_process
from hftransfer.cli.benchmark_file import KEYS, read_benchmark
from hftransfer.cli.finetune_options import FinetuneArguments
from hftransfer.cli.help import finetune_options
from hftransfer.reporting.benchmark_table import read_results

TRAINING = {"max_steps": 3, "per_device_train_batch_size": 4, "learning_rate": 1e-2, "use_cpu": True}


def parquet(folder: Path, name: str, seed: int, dark: bool = False) -> str:
    """`{name}_{split}.parquet` with the images inside; the pattern that reads them."""
    for offset, (split, rows) in enumerate({"train": 12, "validation": 6, "test": 9}.items()):
        pictures.pictures(rows, seed + offset, dark=dark).to_parquet(folder / f"{name}_{split}.parquet")
    return str(folder / (name + "_{split}.parquet"))


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The recipe, its cells in this process, in an empty folder; and a file's usual keys."""
    monkeypatch.chdir(tmp_path)
    data = tmp_path / "data"
    data.mkdir()
    shift = {"source": parquet(data, "bright", 0), "target": parquet(data, "dark", 50, dark=True)}
    keys = {
        "model_config": pictures.SCRATCH,
        "output_dir": str(tmp_path / "out"),
        "seeds": [1, 2],
        "shifts": {"darker": shift},
        "methods": {"dann": {"dann": 0.1}, "strong": {"objectives": {"mmd": 0.1}, "augment": "strong"}},
        "training": TRAINING | {"image_size": 16},
    }
    start_process = cell_process.start_cell
    started = recipe.run_cells_here(monkeypatch)
    return SimpleNamespace(start_process=start_process, started=started, out=tmp_path / "out", keys=keys)


def run(here, *words: str, **keys) -> int:
    """Writes the file, the usual keys or these instead, and runs it."""
    given = {k: v for k, v in (here.keys | keys).items() if v is not None}
    Path("run.yaml").write_text(yaml.safe_dump(given, sort_keys=False))
    here.started.clear()
    return recipe.run(["--config", "run.yaml", *words], "benchmark")


def test_a_model_from_scratch_on_parquet_files_of_images(here, monkeypatch):
    """As users run it: a cell in its own process, then the others; each seed draws its own weights."""
    with monkeypatch.context() as patch:
        patch.setattr(cell_process, "start_cell", here.start_process)
        assert run(here, "--only", "method=strong", "seed=2") == 0
    assert run(here) == 0
    assert here.started == ["source-only", "dann", "strong", "source-only", "dann"]
    assert run(here) == 0
    assert here.started == []
    rows = read_results(here.out / "results.jsonl")
    assert {row["status"] for row in rows} == {"done"}
    assert len({row["target_entropy"] for row in rows}) == len(rows)
    for row in rows:
        assert row["settings"]["model"] == pictures.SCRATCH
        assert {"source_accuracy", "target_oracle_accuracy"} <= set(row)
    assert "target accuracy (oracle)" in (here.out / "table.md").read_text()


def test_the_shipped_file_is_readable():
    cells = read_benchmark(recipe.RECIPE.parent / "configs" / "benchmark_digits.yaml").cells
    assert len(cells) == 3 * 4 * 2
    assert {cell.settings["model"]["model_type"] for cell in cells} == {"resnet"}


def test_the_same_model_as_text_and_as_a_map_is_the_same_cell(here):
    hashes = []
    for given in (pictures.SCRATCH, json.dumps(pictures.SCRATCH), yaml.safe_dump(pictures.SCRATCH)):
        Path("run.yaml").write_text(yaml.safe_dump(here.keys | {"model_config": given}))
        hashes.append([cell.hash for cell in read_benchmark(Path("run.yaml")).cells])
    assert hashes[0] == hashes[1] == hashes[2]
    assert len(set(hashes[0])) == len(hashes[0]) == 6


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"training": TRAINING}, "darker · source-only · full: image_size is missing"),
        (
            {"policies": {"lora": {"lora": {"r": 2}}}},
            "source-only · lora: A model from scratch has no weights",
        ),
        ({"policies": {"head": {"trainable": "head"}}}, "leave out trainable='head'"),
        ({"model_config": {"model_type": "resnt"}}, "model_type='resnt' is no kind of model that transformers has."),
        ({"model_config": "resnet"}, "run.yaml: model_config must be a map"),
        (
            {"methods": {"m": {"objectives": "mmd", "augment": "strnog"}}},
            "m · full: argument --augment: invalid choice: 'strnog'",
        ),
        ({"training": TRAINING | {"image_size": 16, "max_length": 9}}, "max_length=9 is for text"),
        ({"model_config": None, "model": "./gone"}, "There is no folder './gone'"),
    ],
)
def test_what_is_wrong_is_said_before_a_cell_is_run(here, capsys, keys, message):
    assert run(here, **keys) == 1
    assert message in capsys.readouterr().err
    assert not here.out.exists()


def test_a_processor_of_its_own(here, tmp_path, capsys):
    """A text model from scratch has no tokenizer; images of a checkpoint may be made by another processor."""
    tiny.tokenizer().save_pretrained("tokenizer")
    sizes = {"train": 12, "test": 9}
    shift = {role: recipe.write_domain(tmp_path, role, i, sizes) for i, role in enumerate(("source", "target"))}
    bert = {"model_type": "bert", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    keys = {"model_config": bert | {"intermediate_size": 16}, "shifts": {"toy": shift}, "training": TRAINING}
    keys |= {"methods": {"mmd": {"mmd": 0.1}}, "seeds": [1]}
    assert run(here, "--dry_run", **keys) == 1
    assert "has no tokenizer of its own" in capsys.readouterr().err
    assert run(here, "--only", "method=mmd", **keys, processor="tokenizer") == 0
    (row,) = read_results(here.out / "results.jsonl")
    assert row["settings"]["processor"] == "tokenizer"


def test_every_option_of_the_recipes_model_is_a_key_and_reaches_the_model(here):
    """But those of LoRA, which are a policy's."""
    names = {option.name for option in finetune_options() if option.group == "Model"}
    names = {name for name in names if not re.search("lora", name)}
    assert names <= set(KEYS)
    words = {"model": "a/b", "model_revision": "v2", "dtype": "float32", "attn_implementation": "eager"}
    Path("run.yaml").write_text(yaml.safe_dump(here.keys | {"model_config": None} | words))
    settings = read_benchmark(Path("run.yaml")).cells[0].settings
    assert settings["model"] == "a/b"
    assert settings["model_kwargs"] == {"revision": "v2", "dtype": "float32", "attn_implementation": "eager"}
    assert settings["model_kwargs"] == FinetuneArguments(**words).model_kwargs()
