"""The benchmark recipe: what its file may say, cells that resume, fail and change, and what is shown of them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import recipe
import yaml

from hftransfer.cli import cell_process
from hftransfer.cli import main as cli
from hftransfer.cli.benchmark_file import KEYS, read_benchmark, select
from hftransfer.cli.benchmark_options import benchmark_parser
from hftransfer.extras import install_hint
from hftransfer.reporting.benchmark_table import append_result, read_results

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "recipes" / "benchmark.py"
TRAINING = {"max_steps": 3, "per_device_train_batch_size": 4, "learning_rate": 3e-3, "use_cpu": True}


@pytest.fixture(scope="module")
def world(tmp_path_factory, model_folder):
    """Two sources and a target with labels as csv files, and a file's usual keys."""
    folder = tmp_path_factory.mktemp("benchmark")
    sizes = {"train": 12, "test": 9}
    source, more, target = (recipe.write_domain(folder, n, s, sizes) for n, s in (("a", 0), ("b", 20), ("t", 50)))
    keys = {"model": model_folder, "seeds": [1], "training": TRAINING}
    keys |= {"shifts": {"toy": {"source": source, "target": target}}, "methods": {"mmd": {"mmd": 0.1}}}
    return SimpleNamespace(folder=folder, keys=keys, source=source, more=more, target=target)


@pytest.fixture
def here(world, tmp_path, monkeypatch):
    """A recipe whose cells run in this process, in an empty folder; `started` lists them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    start_process = cell_process.start_cell
    started = recipe.run_cells_here(monkeypatch)
    return SimpleNamespace(start_process=start_process, started=started, out=tmp_path / "out")


def run(here, world, *words: str, **keys) -> int:
    """Writes the file, the usual keys or these instead, and runs it."""
    text = yaml.safe_dump({**world.keys, "output_dir": str(here.out), **keys}, sort_keys=False)
    Path("run.yaml").write_text(text)
    here.started.clear()
    return recipe.run(["--config", "run.yaml", *words], "benchmark")


# ---- runs


def test_a_run_in_its_parts(here, world, capsys, monkeypatch):
    """One cell as users run it, in a process of its own; then the rest, which leaves it alone; then nothing."""
    with monkeypatch.context() as patch:
        patch.setattr(cell_process, "start_cell", here.start_process)
        assert run(here, world, "--only", "method=mmd") == 0
    (first,) = read_results(here.out / "results.jsonl")
    assert (first["method"], first["seed"], first["status"], first["updates"]) == ("mmd", 1, "done", 3)
    assert 0 < first["peak_memory"] < 2**33
    assert 0 < first["seconds"] <= first["wall_seconds"]
    assert {"source_accuracy", "source_macro_f1", "target_oracle_accuracy", "target_entropy", "torch"} <= set(first)
    assert not [key for key in first if key.endswith(("runtime", "per_second"))]

    assert run(here, world, target_trained=True) == 0
    assert here.started == ["source-only", "target-trained"]
    lines = (here.out / "results.jsonl").read_text().splitlines()
    assert json.loads(lines[0]) == first
    results = {row["method"]: row for row in map(json.loads, lines)}
    assert {"source_accuracy", "target_oracle_accuracy"} <= set(results["target-trained"])
    assert "[1 of 1] toy · mmd · full · seed 1: target " in capsys.readouterr().out
    page = (here.out / "table.md").read_text()
    head, _, *rows = (line for line in page.splitlines() if line.startswith("|"))
    assert head.split(" | ")[:2] == ["| shift", "method"]
    assert "target accuracy (oracle)" in head
    assert [row.split(" | ")[1] for row in rows] == ["source-only", "mmd", "target-trained (oracle)"]
    shown = [f"{100 * results[m]['target_oracle_accuracy']:.1f}" for m in ("source-only", "mmd", "target-trained")]
    assert [row.split(" | ")[5] for row in rows] == shown
    assert (here.out / "results.png").read_bytes().startswith(b"\x89PNG")
    assert list((here.out / "_cells").iterdir()) == []

    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert run(here, world, target_trained=True) == 0
    assert here.started == []
    assert (here.out / "results.jsonl").read_text().splitlines() == lines
    said = capsys.readouterr().out
    assert f"There is no picture. Pictures need matplotlib: `{install_hint('plots')}` installs it." in said


def test_the_control_runs_target_rows_and_asks_nothing_of_them(here, world):
    """It is what any method comes to whose weight is next to nothing, and not source-only."""
    assert run(here, world, control=True, methods={"hardly": {"mmd": 1e-13}}) == 0
    assert here.started == ["source-only", "no objective", "hardly"]
    rows = {row["method"]: row for row in read_results(here.out / "results.jsonl")}
    assert len({row["updates"] for row in rows.values()}) == 1
    losses = {name: row["target_oracle_loss"] for name, row in rows.items()}
    assert losses["no objective"] == pytest.approx(losses["hardly"], rel=1e-6)
    assert losses["no objective"] != pytest.approx(losses["source-only"], rel=1e-5)


def test_a_changed_setting_runs_its_cells_again_and_keeps_the_old_lines(here, world):
    keys = {"seeds": [1, 2], "policies": {"head": {"trainable": "head"}}}
    assert run(here, world, "--only", "seed=1", **keys) == 0
    assert run(here, world, "--only", "seed=1", **keys | {"methods": {"mmd": {"mmd": 0.2}}}) == 0
    assert here.started == ["mmd"]
    rows = read_results(here.out / "results.jsonl")
    assert [row["method"] for row in rows] == ["source-only", "mmd", "mmd"]
    assert [row["settings"]["config"]["objectives"] for row in rows] == [None, {"mmd": 0.1}, {"mmd": 0.2}]
    table = (here.out / "table.md").read_text()
    assert len([line for line in table.splitlines() if " mmd " in line]) == 1
    assert "| 1 of 2 |" in table


def test_a_failing_cell_is_written_down_and_the_others_go_on(here, world, capsys):
    methods = {"wild": {"objectives": {"mmd": 0.1}, "learning_rate": 1e30}, "mmd": {"mmd": 0.1}}
    assert run(here, world, methods=methods) == 1
    assert here.started == ["source-only", "wild", "mmd"]
    rows = {row["method"]: row for row in read_results(here.out / "results.jsonl")}
    assert {name: row["status"] for name, row in rows.items()} == {
        "source-only": "done",
        "wild": "failed",
        "mmd": "done",
    }
    assert "Lower the learning rate" in rows["wild"]["error"]
    assert Path(rows["wild"]["log"]).parent.is_dir()
    assert "failed: toy · wild · full · seed 1: FloatingPointError: " in capsys.readouterr().out
    assert "0 of 1, 1 failed" in (here.out / "table.md").read_text()
    assert run(here, world, methods=methods) == 1
    assert here.started == ["wild"]


def test_a_process_that_dies_fails_its_cell_alone(here, world, capsys, monkeypatch):
    """And what a killed run left behind, half a line and half a folder, does no harm."""
    monkeypatch.setattr(cell_process, "start_cell", lambda folder: -9)
    assert run(here, world, "--only", "method=mmd") == 1
    assert "the process ended with status -9 and left no result" in capsys.readouterr().out
    (row,) = read_results(here.out / "results.jsonl")
    folder = here.out / "_cells" / row["hash"]
    (folder / "result.json.part").write_text('{"status": "do')
    with open(here.out / "results.jsonl", "a") as file:
        file.write('{"hash": "123", "status": "do')
    result = '{"status": "failed", "error": "x\\ny"}'
    monkeypatch.setattr(cell_process, "start_cell", lambda folder: (folder / "result.json").write_text(result))
    assert run(here, world, "--only", "method=mmd") == 1
    assert [row["error"][:5] for row in read_results(here.out / "results.jsonl")] == ["the p", "x\ny"]
    assert "- toy · mmd · full · seed 1: x y\n" in (here.out / "table.md").read_text()


def test_several_sources_lora_tests_elsewhere_and_equal_updates(here, world):
    """Rows that read one domain take as many updates as the methods, which go on until the target was seen."""
    shift = {"source": {"a": world.source, "b": world.more}, "target": world.target, "balance_sources": True}
    shift["test"] = {"target": world.source.replace("{split}", "test")}
    training = {k: v for k, v in TRAINING.items() if k != "max_steps"} | {"num_train_epochs": 1, "target_ratio": 0.25}
    training["epoch_by"] = "longest"
    keys = {"shifts": {"two": shift}, "training": training, "policies": {"lora": {"lora": {"r": 2}}}}
    assert run(here, world, target_trained=True, **keys) == 0
    rows = read_results(here.out / "results.jsonl")
    assert {row["updates"] for row in rows} == {12}
    for row in rows:
        assert row["sources"] == ["a", "b"]
        assert {"a_accuracy", "b_accuracy", "target_oracle_accuracy"} <= set(row)
        assert row["target_oracle_accuracy"] == pytest.approx(row["a_accuracy"])  # the same rows, by another name
        assert row["settings"]["lora"] == {"r": 2, "lora_alpha": 16, "lora_dropout": 0.05}


def test_a_dry_run_checks_and_shows_and_writes_nothing(here, world, capsys):
    assert run(here, world, "--dry_run", seeds=[1, 2]) == 0
    out = capsys.readouterr().out
    assert "1 to do, 2 to do" in out
    assert "0 of 4 cells are done; 4 are left." in out
    assert not here.out.exists()
    for cell in read_benchmark(Path("run.yaml")).cells[:1]:
        here.out.mkdir()
        append_result(here.out / "results.jsonl", cell.facts | {"status": "done", "wall_seconds": 90})
    assert run(here, world, "--dry_run", seeds=[1, 2]) == 0
    out = capsys.readouterr().out
    assert "1 done, 2 to do" in out
    assert "1 of 4 cells are done; 3 are left, about 4 min by those that are done." in out


def test_a_cell_ends_with_the_run_that_started_it(tmp_path):
    code = "import threading, time; from hftransfer.cli.cell_process import end_with_parent\n"
    code += "threading.Thread(target=end_with_parent, daemon=True).start(); time.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
    child.stdin.close()
    assert child.wait(timeout=30) == 1


# ---- refusals

WRONG_FILE = {
    "a key": ({"method": {}}, "run.yaml: unknown key 'method'. Did you mean 'methods'?"),
    "a setting of all cells": (
        {"image_size": 32}, "run.yaml: 'image_size' cannot stand here: settings stand under `training`.",
    ),
    "two models": ({"model_config": {"model_type": "bert"}}, "model and model_config are both given"),
    "a revision of what is made": (
        {"model": None, "model_config": {"model_type": "bert"}, "model_revision": "main"},
        "model_revision says how a model is loaded, and model_config makes one. Leave one out.",
    ),
    "no shifts": ({"shifts": None}, "run.yaml: 'shifts' is missing: names to {source, target}"),
    "a metric": ({"metric": "mse"}, "metric: there is no 'mse'; there is accuracy, macro_f1, micro_f1, pearson."),
    "seeds": ({"seeds": 3}, "seeds must be a list of whole numbers, such as [1, 2, 3], not 3."),
    "a seed twice": ({"seeds": [1, 2, 1]}, "seeds: 1 is there twice."),
    "methods in a list": ({"methods": ["mmd"]}, "methods must map names to settings, not ['mmd']."),
    "a comma": ({"methods": {"mmd, x": None}}, "methods: mmd, x: a name may hold neither ','"),
    "an objective": ({"methods": {"m": {"mdm": 1}}}, "methods: m: There is no objective 'mdm'; there is mmd, "),
    "a setting of one": ({"methods": {"m": {"mmd": {"kernel": 3}}}}, "methods: m: Objective 'mmd' has no setting"),
    "settings without objectives": (
        {"methods": {"m": {"mmd": 1, "max_steps": 3}}}, "Settings stand beside `objectives:`, as 'max_steps' should.",
    ),
    "a setting beside": (
        {"methods": {"m": {"objectives": None, "max_step": 3}}}, "m: unknown key 'max_step'. Did you mean 'max_steps'",
    ),
    "the oracle's name": ({"methods": {"target-trained": None}}, "the name is taken; `target_trained: true` adds"),
    "the control's name": ({"methods": {"no objective": None}}, "the name is taken; `control: true` adds that row."),
    "the baseline's": ({"methods": {"source-only": {"mmd": 0.1}}}, "that row trains on the source alone"),
    "a policy": ({"policies": {"p": {"freezee": "head"}}}, "p: unknown key 'freezee'. Did you mean 'freeze'"),
    "lora": ({"policies": {"p": {"lora": {"rr": 8}}}}, "policies: p: lora: unknown key 'rr'."),
    "lora as a word": ({"policies": {"p": {"lora": True}}}, "p: lora: must map settings to values, not True."),
    "training": ({"training": {"lerning_rate": 1}}, "training: unknown key 'lerning_rate'. Did you mean 'learning_r"),
    "a seed": ({"training": {"seed": 1}}, "training: 'seed' cannot stand here: seeds stand at the top of the file"),
    "oracle selection": (
        {"training": {"allow_oracle_selection": True}}, "cannot stand here: nothing is chosen by target labels here.",
    ),
    "half a shift": ({"shifts": {"s": {"source": "sample"}}}, "shifts: s: must name a `source` and a `target`."),
    "a shift's key": (
        {"shifts": {"s": {"source": "sample", "target": "sample", "tests": {}}}}, "unknown key 'tests'. Did you",
    ),
    "nothing to adapt to": ({"shifts": {"s": {"source": "a", "target": "a"}}}, "'a' is source and target"),
    "a source called target": (
        {"shifts": {"s": {"source": {"target": "a"}, "target": "b"}}}, "the name 'target' is taken",
    ),
    "a test of nothing": (
        {"shifts": {"s": {"source": "a", "target": "b", "test": {"sourc": "c"}}}}, "test: unknown key 'sourc'. Did",
    ),
    "a source that is no text": ({"shifts": {"s": {"source": ["a"], "target": "b"}}}, "`source` is a text or a map"),
}  # fmt: skip
SAMPLE = {"s": {"source": "sample", "target": "sample"}}
WRONG_RUN = {
    "a file that is not there": ({"shifts": {"s": {"source": "gone.csv", "target": "sample"}}}, "source 'gone.csv': "),
    "a model that is not there": ({"model": "./gone"}, "toy · source-only · full: There is no folder './gone'"),
    "a word for a number": ({"training": {"learning_rate": "fast"}}, "invalid float value: 'fast'"),
    "a policy's word": ({"policies": {"p": {"trainable": "haed"}}}, "toy · source-only · p: trainable='haed'"),
    "a setting an objective refuses": (
        {"methods": {"dann": {"dann": {"hidden": -1}}}}, "toy · dann · full: Objective 'dann': ",
    ),
    "a choice by target labels": (
        {"shifts": SAMPLE, "training": {"max_length": 8, "metric_for_best_model": "eval_target_accuracy"}},
        "s · source-only · full: metric_for_best_model='eval_target_accuracy' reads the labels of 'target'",
    ),
    "a target that has no labels to train on": (
        {"shifts": SAMPLE, "target_trained": True, "training": {"max_length": 8}},
        "s · target-trained · full: target_trained needs target rows with labels, and the train split of 'sample'",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("keys", "message"), WRONG_FILE.values(), ids=WRONG_FILE.keys())
def test_what_is_wrong_with_a_file_is_said_in_one_message(here, world, capsys, keys, message):
    assert run(here, world, **keys) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("\nhftransfer: run.yaml: ")
    assert not here.out.exists()


@pytest.mark.parametrize(("keys", "message"), WRONG_RUN.values(), ids=WRONG_RUN.keys())
def test_what_is_wrong_with_a_run_is_said_before_it(here, world, capsys, keys, message):
    training = {"training": TRAINING | keys["training"]} if "training" in keys else {}
    assert run(here, world, **keys | training) == 1
    assert message in capsys.readouterr().err
    assert not here.out.exists()


def test_more_than_one_process_is_refused(here, world, capsys, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert run(here, world) == 1
    assert "CUDA_VISIBLE_DEVICES=0" in capsys.readouterr().err


# ---- cells


def test_settings_win_from_the_method_to_what_is_common(tmp_path):
    (tmp_path / "run.yaml").write_text("""
model: m
output_dir: out
seeds: [4]
training: {weight_decay: 1, max_length: 1, learning_rate: 1, num_train_epochs: 1, label_shift: mlls}
shifts: {s: {source: a.csv, target: b.csv, max_length: 2, learning_rate: 2, num_train_epochs: 2}}
policies: {p: {learning_rate: 3, num_train_epochs: 3}, q: {lora: {}}}
methods: {m: {objectives: mmd, num_train_epochs: 4}, source-only: {objectives: , warmup_steps: 7}}
target_trained: true
""")
    cells = read_benchmark(tmp_path / "run.yaml").cells
    assert [(c.method, c.policy) for c in cells][:4] == [
        ("source-only", "p"), ("m", "p"), ("target-trained", "p"), ("source-only", "q"),
    ]  # fmt: skip
    config = cells[1].settings["config"]
    names = ("weight_decay", "max_length", "learning_rate", "num_train_epochs", "seed", "objectives", "label_shift")
    assert [config[name] for name in names] == [1, 2, 3, 4, 4, "mmd", "mlls"]
    assert cells[0].settings["config"]["warmup_steps"] == 7
    for cell in (cells[0], cells[2]):  # these read one domain
        assert (cell.settings["config"]["label_shift"], cell.settings["config"]["objectives"]) == ("none", None)
    assert (cells[0].settings["lora"], cells[3].settings["lora"]["r"]) == (None, 8)
    assert len({c.hash for c in cells}) == len(cells) == 6


def test_only_selects(world, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump({**world.keys, "output_dir": "out", "seeds": [1, 2, 3]}))
    cells = read_benchmark(path).cells
    assert [str(c) for c in select(cells, ["method=mmd", "seed=3,1"])] == [
        "toy · mmd · full · seed 1",
        "toy · mmd · full · seed 3",
    ]
    for words, message in (
        ("methods=mmd", "write FIELD=NAME,… with one of shift, method, policy, seed. Did you mean 'method'?"),
        ("method", "write FIELD=NAME"),
        ("method=mdm", "there is no method 'mdm'; there is source-only, mmd. Did you mean 'mmd'?"),
        ("seed=4", "there is no seed '4'; there is 1, 2, 3."),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            select(cells, [words])


# ---- documentation


def test_the_page_lists_the_keys_and_says_what_you_are_told(here, world, capsys):
    page = (ROOT / "docs/benchmark.md").read_text()
    keys = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", page, re.M))
    assert {key: keys.get(key) for key in KEYS} == KEYS
    assert all(key in benchmark_parser().format_help() for key in KEYS)

    example, images = re.findall(r"^```yaml\n(.*?)^```", page, re.S | re.M)
    Path("mine.yaml").write_text(images)
    assert len(read_benchmark(Path("mine.yaml")).cells) == 2 * 3 * 3  # shifts, methods with source-only, seeds
    Path("mine.yaml").write_text(example)
    cells = read_benchmark(Path("mine.yaml")).cells
    assert len(cells) == 2 * 6 * 2 * 3  # shifts, methods with the three that are added, policies, seeds

    messages = re.findall(r"^```text\n(.*?)\n^```", page, re.S | re.M)
    good = yaml.safe_load(example)
    Path("medical.csv").write_text("text\nw1\nw2\n")
    shift = {"source": world.source, "target": "medical.csv"}
    wrong = (
        {**good, "method": {}},
        {**good, "training": {"seed": 3}},
        {**good, "model": world.keys["model"], "shifts": {"news to medical": shift}, "training": {"use_cpu": True}},
    )
    for keys, message in zip(wrong, messages, strict=True):
        Path("mine.yaml").write_text(yaml.safe_dump(keys, sort_keys=False))
        assert recipe.run(["--config", "mine.yaml"], "benchmark") == 1
        assert capsys.readouterr().err.strip() == f"hftransfer: {message}"


def test_the_shipped_file_is_readable():
    benchmark = read_benchmark(RECIPE.parent / "configs" / "benchmark_sample.yaml")
    assert len(benchmark.cells) == 6 * 3
    assert {cell.settings["source"]["source"] for cell in benchmark.cells} == {"sample"}


def test_help_needs_no_heavy_import(monkeypatch, capsys):
    env = os.environ | {"PYTHONPROFILEIMPORTTIME": "1"}
    done = subprocess.run([sys.executable, str(RECIPE), "--help"], env=env, capture_output=True, text=True)
    assert done.returncode == 0
    assert "--only" in done.stdout
    assert "target_trained" in done.stdout
    imported = {line.split("|")[-1].strip() for line in done.stderr.splitlines() if line.startswith("import time")}
    assert "hftransfer.cli.benchmark_options" in imported
    assert not imported & {"torch", "transformers", "datasets", "numpy", "peft"}
    monkeypatch.setattr(sys, "argv", ["hftransfer", "benchmark", "--help"])
    cli.main()
    assert capsys.readouterr().out.split() == done.stdout.split()


def test_an_encoding_belongs_to_a_shift_and_changes_no_other_cell(here, world, capsys):
    (world.folder / "latin.csv").write_bytes("text,label\ncafé w1,up\nw2,down\nw3,flat\n".encode("latin-1"))
    shift = {**world.keys["shifts"]["toy"], "test": {"source": str(world.folder / "latin.csv")}}
    assert run(here, world, "--dry_run", shifts={"toy": shift}) == 1
    assert "--encoding cp1252" in capsys.readouterr().err
    assert run(here, world, "--dry_run", shifts={"toy": {**shift, "encoding": "latin-1"}}) == 0
    (cell, *_) = read_benchmark(Path("run.yaml")).cells
    assert cell.settings["encoding"] == "latin-1"
    assert run(here, world, "--dry_run") == 0
    assert "encoding" not in read_benchmark(Path("run.yaml")).cells[0].settings
