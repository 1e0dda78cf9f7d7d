"""`hftransfer choose-source` on csv files and tiny folders: three questions, one line for what is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
import recipe
import tiny

from hftransfer import ChooseSourceArguments, count_parameters
from hftransfer.cli import main as cli
from hftransfer.cli.help import recipe_options
from hftransfer.cli.recipe_parser import RecipeParser


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("choose")
    paths = {
        name: recipe.write_domain(folder, name, seed, {"train": 24})
        for seed, name in enumerate(("news", "papers", "notes"))
    }
    for i, name in enumerate("ab"):
        tiny.bert(seed=i).save_pretrained(folder / name)
        tiny.tokenizer().save_pretrained(folder / name)
    return SimpleNamespace(folder=folder, **paths, models=[str(folder / name) for name in "ab"])


def run(world, *words) -> int:
    quick = ["--resamples", "50", "--use_cpu", "--cache_dir", str(world.folder / "cache")]
    return recipe.run([*words, *quick], "choose_source")


def test_checkpoints_for_one_labelled_set(world, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "300")
    output = tmp_path / "out"
    models = [word for model in world.models for word in ("--model", model)]
    words = ["--source", world.news, *models, "--scores", "gbc", "--output_dir", str(output)]
    assert run(world, *words) == 0
    out = capsys.readouterr().out
    assert "best first by a linear probe" in out
    (table,) = json.loads((output / "choice.json").read_text())
    assert {row["checkpoint"] for row in table["rows"]} == set(world.models)
    assert "gbc" in table["rows"][0]
    assert "logme" not in table["rows"][0]
    assert (output / "choice.svg").is_file()
    assert run(world, *words) == 1
    assert "exists already; name an output folder that does not" in capsys.readouterr().err


def test_sources_for_a_target_from_a_file_of_options(world, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "200")
    config = tmp_path / "mine.yaml"
    config.write_text(
        f"source: {{news: '{world.news}', papers: '{world.papers}'}}\ntarget: '{world.notes}'\n"
        f"model: ['{world.models[0]}']\nmax_rows: 5000\n"
    )
    assert run(world, "--config", str(config), "--max_rows", "20") == 0
    out = capsys.readouterr().out
    assert "Sources for 20 target rows" in out
    assert "distance" in out
    assert "(oracle)" in out


def test_several_sources_without_a_target_are_related(world, capsys):
    words = ["--source", f"news={world.news}", "--source", f"papers={world.papers}", "--model", world.models[0]]
    assert run(world, *words) == 0
    out = capsys.readouterr().out
    assert "probe transfer" in out
    assert "label overlap" in out


def test_a_dry_run_reads_and_stops(world, tmp_path, capsys):
    words = ["--source", world.news, "--model", world.models[0], "--dry_run", "--output_dir", str(tmp_path / "out")]
    assert run(world, *words) == 0
    out = capsys.readouterr().out
    assert "source: 24 rows" in out
    assert f"{count_parameters(world.models[0]):,} parameters" in out
    assert "To be compared: checkpoints." in out
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--source is missing: name a labelled set"),
        (["--source", "nowhere.csv"], "nowhere.csv"),
        (["--source", "NEWS", "--model", "no/such"], "no/such"),
        (["--source", "NEWS", "--scores", "logmee"], "Did you mean 'logme'"),
        (["--source", "NEWS", "--target", "NEWS"], "is a source too: there is nothing to choose for it"),
        (["--source", "NEWS", "--target", "x", "--model", "a", "--model", "b"], "--model is given several times"),
        (["--source", "a=x", "--source", "a=y"], "the name 'a' is taken"),
        (["--source", "NEWS", "--label_column", "lable"], "Did you mean 'label'"),
    ],
)
def test_what_is_wrong_is_one_line(world, capsys, words, message):
    words = [world.news if word == "NEWS" else word for word in words]
    if "--model" not in words:
        words += ["--model", world.models[0]]
    assert run(world, *words) == 1
    err = capsys.readouterr().err
    assert message in err
    assert len(err.strip().splitlines()) == 1
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--modle", "x"], "unknown argument --modle. Did you mean '--model'?"),
        (["--max_rows", "3"], "max_rows=3 must be at least 10"),
        (["--resamples", "0"], "resamples=0 must be"),
        (["--config", "nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_options_that_cannot_be_end_with_status_2(world, capsys, words, message):
    with pytest.raises(SystemExit) as end:
        recipe.run(["--source", world.news, *words], "choose_source")
    assert end.value.code == 2
    assert message in capsys.readouterr().err


def test_several_processes_are_refused(world, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert run(world, "--source", world.news, "--model", world.models[0]) == 1
    assert "Start it as one" in capsys.readouterr().err


def test_help_is_instant_and_lists_what_the_parser_takes():
    start = (
        "import sys; from hftransfer.cli.main import main; sys.argv = ['hftransfer', 'choose-source', '-h']; main()\n"
    )
    check = 'assert not {"torch", "transformers", "datasets", "numpy"} & set(sys.modules)'
    done = subprocess.run([sys.executable, "-c", start + check], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    taken = RecipeParser([ChooseSourceArguments], "hftransfer choose-source").make_parser()
    names = {action.dest for action in taken._actions} - {"help"}
    assert {option.name for option in recipe_options("choose_source")} == names
    for option in recipe_options("choose_source"):
        assert f"--{option.name}" in done.stdout
        assert len(option.help) > 4
        assert "lambda" not in option.default


def test_the_command_is_known_with_a_hyphen(monkeypatch, capsys):
    started = []
    monkeypatch.setattr(cli, "launch", lambda script, words: started.append((script.name, words)))
    for name in ("choose-source", "choose_source"):
        monkeypatch.setattr(sys, "argv", ["hftransfer", name, "--source", "x.csv"])
        cli.main()
    assert started == [("choose_source.py", ["--source", "x.csv"])] * 2
    monkeypatch.setattr(sys, "argv", ["hftransfer", "chose-source"])
    with pytest.raises(SystemExit, match="Did you mean 'choose-source'"):
        cli.main()


def test_the_config_that_is_shipped_is_read():
    path = recipe.RECIPE.parent / "configs/choose_source.yaml"
    (options,) = RecipeParser([ChooseSourceArguments]).parse_args_and_config(["--config", str(path)])
    assert options.question == "sources"
    assert options.max_length == 128
