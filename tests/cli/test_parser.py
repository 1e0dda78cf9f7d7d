"""The recipe's parser: every field on the command line, command line over YAML over defaults, typos refused."""

from __future__ import annotations

import dataclasses

import pytest

from hftransfer import AdaptationConfig
from hftransfer.cli.finetune_options import FinetuneArguments
from hftransfer.cli.recipe_parser import RecipeParser

BOTH = [FinetuneArguments, AdaptationConfig]

GROUPS = ("Domains", "Model", "Adaptation", "Policy", "Data", "Output", "Training")


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def read(*words: str, yaml: str | None = None) -> tuple[FinetuneArguments, AdaptationConfig]:
    """Parses a command line, and a config file with this text if there is one."""
    argv = ["--use_cpu=true", *words]
    if yaml is not None:
        with open("run.yaml", "w", encoding="utf-8") as file:
            file.write(yaml)
        argv += ["--config", "run.yaml"]
    return RecipeParser(BOTH).parse_args_and_config(argv)


def refused(capsys, *words: str, yaml: str | None = None) -> str:
    """The one message of a refused command line."""
    with pytest.raises(SystemExit) as error:
        read(*words, yaml=yaml)
    assert error.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith("hftransfer finetune: ")
    assert "usage:" not in message
    return message


# ---- fields


@pytest.mark.parametrize("cls", BOTH)
def test_every_field_is_an_option_with_a_help_text_and_a_group(cls):
    parser = RecipeParser(BOTH).make_parser()
    actions = {a.dest: a for a in reversed(parser._actions)}
    groups = {a.dest: g.title for g in parser._action_groups for a in g._group_actions}
    for field in dataclasses.fields(cls):
        if field.init:
            assert f"--{field.name}" in actions[field.name].option_strings
            assert actions[field.name].help, field.name
            assert groups[field.name] in GROUPS
    assert {*GROUPS} <= set(groups.values())


def test_the_parser_leaves_the_dataclasses_as_they_were():
    first = RecipeParser(BOTH).make_parser().format_help()
    assert RecipeParser(BOTH).make_parser().format_help() == first
    assert AdaptationConfig.__dataclass_fields__["objectives"].metadata["help"].group == "Adaptation"


def test_without_a_word_there_are_the_defaults(tmp_path):
    script, config = read()
    assert script == FinetuneArguments()
    expected = AdaptationConfig(use_cpu=True)
    for field in dataclasses.fields(AdaptationConfig):
        if field.init and field.name != "accelerator_config":
            assert getattr(config, field.name) == getattr(expected, field.name), field.name


@pytest.mark.parametrize("dash", ["--learning_rate=2e-4", "--learning-rate=2e-4"])
def test_words_may_be_joined_by_dashes(dash):
    assert read(dash)[1].learning_rate == 2e-4


# ---- precedence


def test_the_command_line_wins_over_the_file_and_the_file_over_defaults():
    yaml = "learning_rate: 1e-3\nseed: 7\nlength_aware: false\nsource: [a.csv, b.csv]\nweight_decay:\n"
    script, config = read("--seed", "8", "--source", "c.csv", yaml=yaml)
    assert (config.learning_rate, config.seed, config.length_aware) == (1e-3, 8, False)
    assert config.weight_decay == AdaptationConfig(use_cpu=True).weight_decay  # a key without a value says nothing
    assert config.warmup_steps == 0.1
    assert script.source == ["c.csv"]


@pytest.mark.parametrize("word", ["--length_aware", "--length_aware=true", "--length-aware"])
def test_a_switch_can_be_turned_back_on(word):
    assert read(word, yaml="length_aware: false")[1].length_aware is True


@pytest.mark.parametrize("word", ["--no_length_aware", "--no-length-aware", "--length_aware=false"])
def test_a_switch_can_be_turned_back_off(word):
    assert read(word, yaml="length_aware: true")[1].length_aware is False


# ---- values


@pytest.mark.parametrize("text", ["1e-3", "0.001", "1.0e-3", "1E-3", "'1e-3'"])
def test_a_number_is_a_number_however_it_is_written(text):
    assert read(yaml=f"learning_rate: {text}")[1].learning_rate == 1e-3


@pytest.mark.parametrize(
    ("yaml", "name", "value"),
    [
        ("dry_run: yes", "dry_run", True),
        ("source_only_baseline: no", "source_only_baseline", False),
        ("source: sample", "source", ["sample"]),
        ("source: [a.csv, news=b.csv]", "source", ["a.csv", "news=b.csv"]),
        ("source: {books: a.csv, dvd: b.csv}", "source", ["books=a.csv", "dvd=b.csv"]),
        ("lora_target_modules: [query, value]", "lora_target_modules", ["query", "value"]),
        ("model: -strange", "model", "-strange"),
        ("target: --odd", "target", "--odd"),
    ],
)
def test_values_of_the_recipe(yaml, name, value):
    assert getattr(read(yaml=yaml)[0], name) == value


@pytest.mark.parametrize(
    ("yaml", "name", "value"),
    [
        ("max_steps: -1", "max_steps", -1),
        ("report_to: [none]", "report_to", []),
        ("report_to: none", "report_to", []),
        ("hub_private_repo: true", "hub_private_repo", True),
        ("fsdp: false", "fsdp", False),
        ("resume_from_checkpoint: true", "resume_from_checkpoint", True),
        ("resume_from_checkpoint: runs/a/checkpoint-3", "resume_from_checkpoint", "runs/a/checkpoint-3"),
        ("lr_scheduler_kwargs: {min_lr: 1e-6}", "lr_scheduler_kwargs", {"min_lr": 1e-6}),
        ("epoch_by: longest", "epoch_by", "longest"),
        ("max_length: 64", "max_length", 64),
    ],
)
def test_values_of_the_config(yaml, name, value):
    found = getattr(read(yaml=yaml)[1], name)
    assert found == value
    assert type(found) is type(value)


def test_sources_are_repeated_on_the_command_line():
    assert read("--source", "a.csv", "--source", "news=b.csv")[0].source == ["a.csv", "news=b.csv"]


@pytest.mark.parametrize(
    ("words", "yaml"),
    [
        (["--objectives", '{"mmd": 0.1, "dann": {"weight": 0.001, "schedule": "linear"}}'], None),
        (["--objectives", "{mmd: 0.1, dann: {weight: 1e-3, schedule: linear}}"], None),
        ([], "objectives: {mmd: 0.1, dann: {weight: 1e-3, schedule: linear}}"),
        ([], "objectives:\n  mmd: 0.1\n  dann:\n    weight: 0.001\n    schedule: linear\n"),
    ],
)
def test_objectives_are_json_or_yaml(words, yaml):
    specs = read(*words, yaml=yaml)[1].objective_specs()
    assert [(s.name, s.weight) for s in specs] == [("mmd", 0.1), ("dann", 0.001)]
    assert specs[1].schedule == "linear"


@pytest.mark.parametrize("words", [["--objectives", "mmd"], ["--objectives", "[mmd]"], ["--objectives", ""]])
def test_names_alone_have_their_default_weight(words):
    assert [s.weight for s in read(*words)[1].objective_specs()] == [0.1] * bool(words[1])


# ---- refusals


@pytest.mark.parametrize(
    ("words", "yaml", "message"),
    [
        (["--learning_rat", "1"], None, "unknown argument --learning_rat. Did you mean '--learning_rate'?"),
        (["--lenght-aware=1"], None, "unknown argument --lenght-aware. Did you mean '--length_aware'?"),
        (["--no_bf16"], None, "unknown argument --no_bf16. Did you mean '--bf16'?"),
        (["news.csv"], None, "unknown argument news.csv."),
        ([], "lerning_rate: 1", "run.yaml: unknown key 'lerning_rate'. Did you mean 'learning_rate'?"),
        ([], "objectves: {mmd: 0.1}", "run.yaml: unknown key 'objectves'. Did you mean 'objectives'?"),
        ([], "Source: a.csv", "run.yaml: unknown key 'Source'. Did you mean 'source'?"),
        ([], "help: true", "run.yaml: unknown key 'help'."),
        ([], "- a", "run.yaml must map option names to values."),
        ([], "a: [", "run.yaml is not valid YAML: "),
        (["--config"], None, "--config needs a YAML file."),
        (["--config", "gone.yaml"], None, "there is no config file gone.yaml."),
        (["--learning_rate", "fast"], None, "--learning-rate: invalid float value: 'fast'"),
        ([], "learning_rate: {a: 1}", "--learning-rate: invalid float value: "),
        ([], "per_device_train_batch_size: 2.5", "--per-device-train-batch-size: invalid int value: '2.5'"),
        ([], "bf16: maybe", "--bf16: Truthy value expected"),
        (["--epoch_by", "target"], None, "--epoch-by: invalid choice: 'target' (choose from"),
        (["--source"], None, "--source: expected one argument"),
        (["--objectives", '{"mmm": 1}'], None, "There is no objective 'mmm'; there is mmd, "),
        (
            ["--objectives", '{"mmd": -1}'],
            None,
            "The weight of objective 'mmd' must be a number of at least 0, not -1",
        ),
        (["--objectives", '{"mmd": 0.1'], None, "objectives is neither JSON nor YAML: "),
        (["--target_ratio", "0"], None, "target_ratio=0.0 must be positive."),
        (
            ["--eval_strategy", "steps", "--load_best_model_at_end"],
            "save_strategy: epoch",
            "the save and eval strategy",
        ),
        (["--accelerator_config", "gone.json"], None, "gone.json"),
    ],
)
def test_what_is_wrong_is_said_in_one_message(capsys, words, yaml, message):
    assert message in refused(capsys, *words, yaml=yaml)


# ---- secrets, and code that a file names

TOKEN = "hf_" + "a1B2" * 8


@pytest.mark.parametrize(
    ("words", "yaml", "said"),
    [
        (["--hub_tokn", TOKEN], None, "unknown argument --hub_tokn. Did you mean '--hub_token'?"),
        ([f"--hub_tokn={TOKEN}"], None, "unknown argument --hub_tokn. Did you mean '--hub_token'?"),
        (["--hub_tokn=correct-horse"], None, "unknown argument --hub_tokn."),
        (["--hub_tokn", "correct-horse"], None, "unknown argument --hub_tokn."),
        (["-t=correct-horse"], None, "unknown argument -t."),
        ([TOKEN], None, "unknown argument hf_***."),
        (["--seed", TOKEN], None, "--seed: invalid int value: 'hf_***'"),
        (["--epoch_by", TOKEN], None, "invalid choice: 'hf_***'"),
        (["--max_grad_norm", TOKEN], None, "invalid float value: 'hf_***'"),
        (["--use_cpu", TOKEN], None, "***"),
        ([], f"hub_tokn: {TOKEN}", "unknown key 'hub_tokn'"),
        ([], "hub_tokn: correct-horse", "unknown key 'hub_tokn'"),
        ([], f"hub_token: '{TOKEN}\nb: [", "run.yaml is not valid YAML: found unexpected end of stream (line 2)."),
        ([], f"seed: {TOKEN}", "'hf_***'"),
        ([], f"lr_scheduler_type: {TOKEN}", "'hf_***'"),
        (["--objectives", "{a: " + TOKEN], None, "objectives is neither JSON nor YAML: '{a: hf_***'"),
    ],
)
def test_no_secret_is_shown(capsys, words, yaml, said):
    message = refused(capsys, *words, yaml=yaml)
    assert said in message
    assert TOKEN not in message
    assert "correct-horse" not in message


RULE = {"constraint": {"function": "os:getcwd"}}


@pytest.mark.parametrize(
    ("words", "yaml"),
    [
        ([], "objectives: {constraint: {function: 'os:getcwd'}}"),
        ([], 'objectives: \'{"mine": {"kind": "constraint", "function": "os:getcwd"}}\''),
        (["--objectives", '{"constraint": {"function": "os:getcwd"}}'], None),
    ],
)
def test_code_that_a_file_or_a_command_line_names_is_imported_only_on_a_word(capsys, words, yaml):
    message = refused(capsys, *words, yaml=yaml)
    assert "function='os:getcwd' imports code" in message
    assert "--trust_config_code" in message
    (spec,) = read("--trust_config_code", *words, yaml=yaml)[1].objective_specs()
    assert spec.settings == {"function": "os:getcwd"}


def test_a_file_cannot_say_that_it_is_trusted(capsys):
    yaml = "trust_config_code: true\nobjectives: {constraint: {function: 'os:getcwd'}}"
    assert "trust_config_code stands on the command line alone" in refused(capsys, yaml=yaml)


def test_from_python_code_may_be_named_in_a_map_and_is_passed_as_it_is():
    import os

    assert AdaptationConfig("out", use_cpu=True, objectives=RULE).objective_specs()[0].settings == RULE["constraint"]
    given = {"constraint": {"function": os.getcwd}}
    assert (
        AdaptationConfig("out", use_cpu=True, objectives=given).objective_specs()[0].settings["function"] is os.getcwd
    )
    with pytest.raises(ValueError, match=r"imports code.*--trust_config_code"):
        AdaptationConfig("out", use_cpu=True, objectives='{"constraint": {"function": "os:getcwd"}}')


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--alphas", "2"], "alphas='2' must be at least 0 and at most 1"),
        (["--alphas", "0.5", "nan"], "alphas='nan' must be at least 0 and at most 1"),
        (["--seed", "-1"], "seed='-1' must be at least 0"),
        (["--validation_fraction", "1"], "validation_fraction='1' must be at least 0 and below 1"),
        (["--per_device_eval_batch_size", "0"], "per_device_eval_batch_size='0' must be at least 1"),
        (["--per_device_eval_batch_size", "2.5"], "per_device_eval_batch_size='2.5' must be a whole number"),
        (["--max_length", "2"], "max_length='2' must be at least 4"),
        ([f"--sed={TOKEN}"], "unknown argument --sed. Did you mean '--seed'?"),
        (["--seed", TOKEN], "seed='hf_***' must be a whole number"),
    ],
)
def test_numbers_of_the_other_recipes_have_the_same_ranges(capsys, words, message):
    from hftransfer.cli.interpolate_options import interpolate_parser

    with pytest.raises(SystemExit):
        interpolate_parser().parse_args(["--models", "a", "--source", "b", "--output_dir", "c", *words])
    said = capsys.readouterr().err
    assert message in said
    assert TOKEN not in said
    assert "usage:" not in said


BENCHMARK = "output_dir: out\nshifts: {a: {source: sample, target: sample%s}}\n"


@pytest.mark.parametrize(
    ("shift", "more", "message"),
    [
        ("", "methods: {rule: {constraint: {function: 'os:getcwd'}}}", "methods: rule: Objective .*trust_config_code"),
        ("", "training: {trust_config_code: true}", "trust_config_code.*stands on the command line alone"),
        ("", "policies: {p: {lora: {megatron_config: {}, megatron_core: os}}}", "lora: megatron_con.* imports code"),
        ("", "policies: {p: {lora: {lora_alpha: 0}}}", "lora: lora_alpha=0 must be at least 1"),
        ("", "policies: {p: {lora: {r: 2.5}}}", "lora: r=2.5 must be a whole number"),
        ("", "seeds: [1, -1]", "seeds=-1 must be at least 0"),
        (", validation_fraction: 2", "", "shifts: a: validation_fraction=2 must be at least 0 and below 1"),
        (", validation_fraction: much", "", "validation_fraction='much' must be a number"),
    ],
)
def test_a_benchmark_file_is_held_to_the_same(tmp_path, shift, more, message):
    from hftransfer.cli.benchmark_file import read_benchmark

    (tmp_path / "b.yaml").write_text(BENCHMARK % shift + more)
    with pytest.raises(ValueError, match=message):
        read_benchmark(tmp_path / "b.yaml")


def test_a_trusted_benchmark_file_says_so_to_each_cell(tmp_path):
    from hftransfer.cli.benchmark_file import read_benchmark

    (tmp_path / "b.yaml").write_text(BENCHMARK % "" + "methods: {rule: {constraint: {function: 'os:getcwd'}}}")
    cells = read_benchmark(tmp_path / "b.yaml", trusted=True).cells
    common = {"output_dir": "out", "use_cpu": True}
    parser = RecipeParser([AdaptationConfig])
    configs = [parser.parse_dict({**cell.settings["config"], **common}, "cell")[0] for cell in cells]
    assert "constraint" in {spec.kind for config in configs for spec in config.objective_specs()}
