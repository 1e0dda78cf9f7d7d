"""The recipe `adapt` end to end, on csv files and a tiny model folder."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace

import answer_sheets
import pytest
import recipe

from hftransfer import AdaptArguments, AdaptationConfig, RecipeParser
from hftransfer.adaptation.candidate_list import candidate_list
from hftransfer.cli.help import print_help, recipe_options

ROWS = {"news_train": 40, "medical_train": 40}
RECIPE = recipe.RECIPE.with_name("adapt.py")
SETTINGS = {
    "effort": "quick",
    "max_steps": "40",
    "per_device_train_batch_size": "8",
    "learning_rate": "1e-2",
    "logging_steps": "20",
    "disable_tqdm": "true",
    "use_cpu": "true",
}


@pytest.fixture(scope="module")
def world(tmp_path_factory, model_folder):
    """Two domains as csv files, and the options that name them."""
    folder = tmp_path_factory.mktemp("adapt")
    source = recipe.write_domain(folder, "news", 0, {"train": 60, "validation": 30, "test": 15})
    target = recipe.write_domain(folder, "medical", 50, {"train": 40, "test": 30}, ("train",))
    return SimpleNamespace(folder=folder, data={"source": source, "target": target, "model": model_folder})


@pytest.fixture(scope="module")
def finished(world):
    """One run of the command."""
    output = world.folder / "run"
    done = recipe.command(["adapt", *words(world, output_dir=str(output))], world.folder)
    assert done.returncode == 0, done.stderr
    result = json.loads((output / "adaptation.json").read_text())
    return SimpleNamespace(output=output, stdout=done.stdout, result=result)


def words(world, **options: str | None) -> list[str]:
    chosen = {k: v for k, v in (SETTINGS | world.data | options).items() if v is not None}
    return [word for key, value in chosen.items() for word in (f"--{key}", value)]


def adapt(world, *more: str, **options: str | None) -> int:
    return recipe.run([*words(world, **options), *more], "adapt")


# ---- a run


def test_the_run_shows_plan_verdict_and_where_the_model_is(finished):
    plan, outcome = finished.stdout.split("[1 of 1] source-only")
    for fact in ("60 labelled rows", "40 unlabelled rows", "learning rate 0.01", "40 updates", "effort quick"):
        assert fact in plan, fact
    verdict = finished.result["verdict"]
    for fact in (
        f"Verdict: {verdict}. ",
        *(f"- {reason}" for reason in finished.result["reasons"]),
        "on the target",
        "(oracle)",
        f"The model is in {finished.output}, the report in {finished.output / 'report.html'}.",
        f'pipeline("text-classification", "{finished.output}")',
        f"hf upload your-name/run {finished.output}",
    ):
        assert fact in outcome, fact
    (chosen,) = (line for line in outcome.splitlines() if "(handed over)" in line)
    oracle = finished.result["oracle"][finished.result["chosen"]]["accuracy"]
    assert f"{100 * oracle:.1f} %" in chosen


def test_what_is_handed_over_is_a_plain_model_with_card_and_report(finished):
    names = {path.name for path in finished.output.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md", "report.html"} <= names
    assert not [name for name in names if name.endswith((".bin", ".pt", ".py", ".npz"))]
    card = (finished.output / "README.md").read_text()
    assert f"Verdict: **{finished.result['verdict']}**" in card


def test_what_is_handed_over_answers_as_it_was_judged(world, finished, run_elsewhere):
    rows = recipe.rows_of(world.folder / "medical_test.csv")
    texts = json.dumps([row["text"] for row in rows])
    predicted = json.loads(run_elsewhere(recipe.LOAD, finished.output, texts).splitlines()[-1])
    assert len(set(predicted)) > 1
    hits = sum(p == row["label"] for p, row in zip(predicted, rows, strict=True))
    oracle = finished.result["oracle"][finished.result["chosen"]]["accuracy"]
    assert hits / len(rows) == pytest.approx(oracle)


def test_a_second_call_makes_nothing_again(world, finished, capsys):
    candidates = finished.output / "_candidates"
    before = {
        path: path.stat().st_mtime_ns for path in candidates.rglob("*") if path.suffix in (".npz", ".safetensors")
    }
    assert adapt(world, output_dir=str(finished.output)) == 0
    assert "[1 of 1] source-only: made before" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in before} == before
    again = json.loads((finished.output / "adaptation.json").read_text())
    assert again == finished.result


def test_rows_are_asked_for_and_wrong_answers_are_named(world, finished, tmp_path, capsys):
    assert adapt(world, output_dir=str(finished.output), ask="5") == 0
    asked = finished.output / "ask.csv"
    assert f"5 target rows to label are in {asked}. Fill in the column 'label'" in capsys.readouterr().out
    rows = answer_sheets.read(asked)
    rows[0]["label"], rows[1]["label"] = "sideways", "up"
    answer_sheets.write(tmp_path / "answers.csv", rows)
    asked.unlink()
    assert adapt(world, output_dir=str(finished.output), answers=str(tmp_path / "answers.csv")) == 1
    assert "'sideways' is none of the classes 'down', 'flat', 'up'" in capsys.readouterr().err


def test_a_changed_setting_is_refused_with_the_remedy(world, finished, capsys):
    before = recipe.contents(finished.output)
    assert adapt(world, output_dir=str(finished.output), seed="7") == 1
    message = capsys.readouterr().err
    assert "holds an adaptation with other data or settings" in message
    assert "Choose another output_dir, or overwrite_output_dir" in message
    assert recipe.contents(finished.output) == before


# ---- a dry run


def test_a_dry_run_prints_the_plan_and_writes_nothing(world, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    options = {"effort": "standard", "learning_rate": None, "max_steps": None, "output_dir": "run"}
    assert adapt(world, "--dry_run", **options) == 0
    plan = capsys.readouterr().out
    for fact in (
        "down, flat, up",
        "60 labelled rows",
        "40 unlabelled rows",
        "learning rate 0.0002 by the model's width; --learning_rate sets another",
        "2 epochs; --num_train_epochs sets another number",
        "16 updates (8 an epoch)",
        "no row stands in two splits",
        "soft labels of the target",
        f"In all about {sum(candidate.cost for candidate in candidate_list('standard')):g} times what one training",
    ):
        assert fact in plan, fact
    assert list(tmp_path.iterdir()) == []


def test_candidates_of_ones_own(world, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    Path("mine.yaml").write_text("source-only: {}\nim: {about: sure and spread, training: {objectives: {im: 0.1}}}\n")
    assert adapt(world, "--dry_run", candidates="mine.yaml", effort=None, output_dir="run") == 0
    plan = capsys.readouterr().out
    for fact in ("a list of its own", "sure and spread", "In all about 3 times"):
        assert fact in plan, fact


def test_a_dry_run_checks_the_candidates_settings(world, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text("source-only: {}\nim: {training: {objectives: {imm: 0.1}}}\n")
    assert adapt(world, "--dry_run", candidates="mine.yaml", effort=None, output_dir="run") == 1
    assert "Candidate 'im': There is no objective 'imm'" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["adapt_sample", "adapt_digits"])
def test_the_shipped_configs_are_read(name):
    parser = RecipeParser((AdaptArguments, AdaptationConfig), "hftransfer adapt")
    path = RECIPE.parent / "configs" / f"{name}.yaml"
    options, _ = parser.parse_args_and_config(["--config", str(path), "--use_cpu"])
    options.check_domains()
    assert options.effort == "standard"


# ---- what is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"efort": "quick"}, "unknown argument --efort. Did you mean '--effort'?"),
        ({"effort": "quik"}, "effort='quik' must be one of 'quick', 'standard' or 'thorough'. Did you mean 'quick'?"),
        ({"candidates": "mine.yaml"}, "effort and candidates are both given"),
    ],
)
def test_options_that_cannot_be(world, capsys, options, message):
    with pytest.raises(SystemExit) as error:
        adapt(world, output_dir="never-written", **options)
    assert error.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("hftransfer adapt: ")
    assert message in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": None}, "--target is missing"),
        ({"source": None}, "--source is missing"),
        ({"objectives": "mmd"}, "objectives cannot be set for the whole run: it belongs to one candidate"),
        ({"label_shift": "mlls"}, "label_shift cannot be set"),
        ({"reveal_target_labels": "2"}, "reveal_target_labels cannot be set"),
        ({"resume_from_checkpoint": "true"}, "the same command goes on by itself"),
        ({"merge_adapter": "false"}, "merge_adapter=False cannot be followed"),
    ],
)
def test_settings_that_a_run_of_candidates_cannot_follow(world, tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    assert adapt(world, output_dir="run", **options) == 1
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "there is no config file mine.yaml"),
        ("source-only: {}\nim: {trainin: {}}", "im: unknown key 'trainin'.*Did you mean 'training'"),
        ("im: {training: {objectives: im}}", "there is no plain source-only run.*add `source-only: {}`"),
        (
            "source-only: {}\nsoup: {student_of: source-onyl}",
            "there is no candidate 'source-onyl'.*Did you mean 'source-only'",
        ),
        (
            "source-only: {}\nim: {training: {objective: im}}",
            "there is no setting 'objective'.*Did you mean 'objectives'",
        ),
        ("source-only: {}\nim: {training: {output_dir: x}}", "'output_dir' cannot stand here: every candidate has"),
        ("source-only: {}\nim: {seed: 1}\nim: {seed: 2}", r"the key 'im' stands twice \(line 3\)"),
        ("- source-only", "must map names of candidates to recipes"),
        ("source-only: {}\n../im: {seed: 1}", "a name is up to 100 letters"),
    ],
)
def test_a_list_of_candidates_that_cannot_be(world, tmp_path, monkeypatch, capsys, text, message):
    monkeypatch.chdir(tmp_path)
    if text is not None:
        Path("mine.yaml").write_text(text)
    assert adapt(world, candidates="mine.yaml", effort=None, output_dir="run") == 1
    said = capsys.readouterr().err
    assert "mine.yaml" in said
    assert re.search(message, said), said
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (
            {"news_train": 40, "medical_train": 40},
            {"validation_fraction": "0"},
            "has no validation rows.*Leave validat",
        ),
        (ROWS | {"medical_train": 5}, {}, "target holds 5 rows.*Give more unlabelled rows"),
        (ROWS | {"medical_train": 0}, {}, "target.*medical_train.csv.*(empty|no rows)"),
        (
            {"news_train": 40, "medical_train": 40},
            {"label_column": "lable"},
            "no column 'lable'.*Did you mean 'label'",
        ),
        (
            {"news_train": 40, "medical_train": 40},
            {"target": "news_{split}.csv"},
            "is a source too.*nothing to adapt to",
        ),
        (ROWS, {"model": "/gone/model"}, "no folder '/gone/model'.*Give an existing folder"),
        (ROWS, {"output_dir": "news_train.csv"}, "is a file; output_dir must be"),
    ],
)
def test_domains_that_cannot_be(world, tmp_path, monkeypatch, capsys, rows, options, message):
    monkeypatch.chdir(tmp_path)
    for seed, (name, count) in enumerate(rows.items()):
        domain, split = name.split("_")
        recipe.write_domain(tmp_path, domain, 70 + 10 * seed, {split: count})
    before = recipe.contents(tmp_path)
    data = {"source": "news_{split}.csv", "target": "medical_{split}.csv", "output_dir": "run"}
    assert adapt(world, **data | options) == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("hftransfer: ")
    assert re.search(message, said), said
    assert recipe.contents(tmp_path) == before


# ---- options


def test_options_that_were_given_are_told_from_defaults(tmp_path):
    (tmp_path / "mine.yaml").write_text(
        "learning_rate: 1e-3\nclass_weights: {up: 2.0}\nsource: [a.csv]\nlength_aware: false\nseed:\n"
    )
    parser = RecipeParser((AdaptArguments, AdaptationConfig))
    parser.parse_args_and_config(["--config", str(tmp_path / "mine.yaml"), "--num-train-epochs=3", "--use_cpu"])
    assert parser.given == {"learning_rate", "class_weights", "source", "length_aware", "num_train_epochs", "use_cpu"}
    parser.parse_args_and_config(["--use_cpu", "--no_length_aware", "--seed", "42"])  # a default that is said is given
    assert parser.given == {"use_cpu", "length_aware", "seed"}


def test_help_lists_exactly_what_the_parser_takes(capsys):
    parser = RecipeParser((AdaptArguments, AdaptationConfig)).make_parser()
    taken = {o for a in parser._actions for o in a.option_strings if "-" not in o.lstrip("-")} - {"-h", "--help"}
    print_help("adapt")
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  --")]
    listed = [word.strip(",") for line in lines for word in line.split(" [")[0].split()]
    assert sorted(listed) == sorted(taken)
    defaults = {option.name: option.default for option in recipe_options("adapt")}
    assert defaults["learning_rate"] == defaults["num_train_epochs"] == ""  # they fit the model
