"""Every setting is honoured or refused, and every number has its range."""

from __future__ import annotations

import dataclasses
import json
import pydoc
import re
import typing

import bad_settings
import pytest
import runs
import tiny
import transformers
from transformers import HfArgumentParser, TrainingArguments

from hftransfer import AdaptationConfig, Objective
from hftransfer.cli.finetune_options import FinetuneArguments
from hftransfer.setting_ranges import RANGES
from hftransfer.trainers.setup.inherited_settings import FIXED, HONOURED, REFUSED, check_inherited

FIELDS = {field.name: field for field in dataclasses.fields(TrainingArguments)}


def config(**settings) -> AdaptationConfig:
    return AdaptationConfig(output_dir="out", use_cpu=True, **settings)


@pytest.mark.parametrize("name", bad_settings.CASES)
def test_a_bad_setting_is_named_with_its_remedy(name):
    given, culprit, remedy = bad_settings.CASES[name]
    with pytest.raises(ValueError) as error:  # noqa: PT011  # the two lines below match
        config(**given)
    message = str(error.value)
    assert culprit in message
    assert remedy in message
    assert "\n" not in message


def test_every_field_of_transformers_is_honoured_or_refused():
    """A transformers with a new field makes this fail by the field's name; runs with it go on, see below."""
    both = (HONOURED & REFUSED.keys()) | (HONOURED & FIXED.keys()) | (REFUSED.keys() & FIXED.keys())
    assert not both
    undecided = FIELDS.keys() - HONOURED - REFUSED.keys() - FIXED.keys()
    assert not undecided, f"decide on {sorted(undecided)}"
    gone = (HONOURED | REFUSED.keys() | FIXED.keys()) - FIELDS.keys()
    assert not gone or transformers.__version__ < "5.23", sorted(gone)


def test_every_refused_field_is_refused_away_from_its_default():
    other = {bool: lambda v: not v, str: lambda v: "other", type(None): lambda v: {"a": True}}
    for name in REFUSED:
        value = other[type(FIELDS[name].default)](FIELDS[name].default)
        with pytest.raises(ValueError, match=f"^{name}=.* has no effect here: .*Leave it out"):
            config(**{name: value})
        config(**{name: FIELDS[name].default})


def test_a_field_of_a_newer_transformers_is_passed_through(monkeypatch):
    @dataclasses.dataclass
    class Newer(AdaptationConfig):
        brand_new_setting: int = 3

    assert Newer("out", use_cpu=True, brand_new_setting=4).brand_new_setting == 4


@pytest.mark.parametrize("cls", [AdaptationConfig, FinetuneArguments])
def test_every_number_has_a_range(cls):
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        kinds = {hints[field.name], *typing.get_args(hints[field.name])}
        if field.init and kinds & {int, float} and not kinds & {str, dict, list}:
            assert field.name in RANGES, field.name


@pytest.mark.parametrize("name", [f.name for f in dataclasses.fields(AdaptationConfig) if f.name in RANGES])
def test_no_number_takes_what_is_none(name):
    for value in (float("nan"), float("inf"), -float("inf"), "much", "", [], {}, True, -1000, -0.5):
        with pytest.raises(ValueError, match=rf"^{name}="):
            config(**{name: value})


def test_numbers_are_read_however_a_file_writes_them():
    read = config(learning_rate="1e-3", seed="7", per_device_train_batch_size=8.0, max_steps="20", save_steps="0.5")
    assert (read.learning_rate, read.seed, read.per_device_train_batch_size, read.max_steps, read.save_steps) == (
        1e-3, 7, 8, 20, 0.5,
    )  # fmt: skip
    assert type(read.per_device_train_batch_size) is int
    given = config(max_grad_norm=None, length_aware="no", bf16="false", save_strategy=False, run_name=2024)
    assert given.max_grad_norm == 0.0  # clips nothing
    assert (given.length_aware, given.bf16, given.save_strategy, given.run_name) == (False, False, "no", "2024")


def test_the_config_that_is_copied_is_the_same():
    first = config(eval_strategy="epoch", objectives={"mmd": 1.0})
    assert dataclasses.replace(first) == first


def test_a_launchers_rank_is_no_mistake(monkeypatch):
    args = TrainingArguments("out", use_cpu=True, remove_unused_columns=False, local_rank=1)
    monkeypatch.setenv("LOCAL_RANK", "1")
    check_inherited(args)
    monkeypatch.setenv("LOCAL_RANK", "0")
    with pytest.raises(ValueError, match="local_rank=1 has no effect"):
        check_inherited(args)


def test_help_explains_every_field():
    """`help(AdaptationConfig)`: fields of our own and defaults that differ, each under a heading, as `--help` says."""
    page, _, _ = pydoc.plain(pydoc.render_doc(AdaptationConfig)).partition("Method resolution order")
    own = AdaptationConfig.__annotations__
    assert {"objectives", "weight_decay"} <= own.keys()
    words = " ".join(page.replace("|", " ").split())
    for field in dataclasses.fields(AdaptationConfig):
        if field.name in own:
            text = " ".join(str(field.metadata["help"]).replace("|", " ").split())
            assert re.search(rf"\b{field.name} \([^:]+\): {re.escape(text)}", words), field.name
    headings = re.findall(r"^ \|  (\S.*):$", page, flags=re.MULTILINE)
    groups = dict.fromkeys(
        getattr(AdaptationConfig.__dataclass_fields__[name].metadata["help"], "group", None) for name in own
    )
    assert headings[: len(groups) - 1] == [group for group in groups if group]


BAD_ARGUMENTS = {
    "lora_r": (0, -1, 2.5),
    "lora_alpha": (0, -16, float("inf")),
    "lora_dropout": (1, -0.1, float("nan")),
}


@pytest.mark.parametrize("name", BAD_ARGUMENTS)
def test_the_recipes_own_numbers_have_ranges_too(name):
    for value in BAD_ARGUMENTS[name]:
        with pytest.raises(ValueError, match=f"^{name}="):
            FinetuneArguments(**{name: value})


# ---- what is honoured, where it could be doubted


def run(folder, **settings):
    given = {"eval_dataset": {"source": tiny.domain(9, seed=5)}, "max_steps": 3, **settings}
    found = runs.trainer(folder, **given)
    found.train()
    return found


def test_settings_that_could_be_doubted_do_what_they_say(tmp_path, monkeypatch):
    plain = runs.logged(run(tmp_path / "plain"), "loss")
    assert runs.logged(run(tmp_path / "noise", neftune_noise_alpha=20.0), "loss") != plain
    assert len(runs.logged(run(tmp_path / "unclipped", max_grad_norm=None), "loss")) == 3
    every = run(tmp_path / "all", include_num_input_tokens_seen="all").state.num_input_tokens_seen
    seen = run(tmp_path / "seen", include_num_input_tokens_seen="non_padding").state.num_input_tokens_seen
    assert 0 < seen < every
    late = run(tmp_path / "late", eval_strategy="steps", eval_steps=1, eval_delay=2)
    assert [entry["step"] for entry in late.state.log_history if "eval_source_loss" in entry] == [2, 3]
    early = run(tmp_path / "early", eval_on_start=True)
    assert [entry["step"] for entry in early.state.log_history if "eval_source_loss" in entry] == [0]
    loader = runs.trainer(
        tmp_path, dataloader_num_workers=1, dataloader_multiprocessing_context="spawn", dataloader_in_order=False
    ).get_train_dataloader()
    assert (loader.multiprocessing_context.get_start_method(), loader.in_order) == ("spawn", False)

    model = tiny.bert()
    monkeypatch.setattr(model, "get_input_embeddings", lambda: None)
    with pytest.raises(ValueError, match="neftune_noise_alpha=5 adds noise .* BertForSequenceClassification has not"):
        runs.trainer(tmp_path, model, neftune_noise_alpha=5)

    step = runs.AdaptationTrainer.training_step

    def full(self, *args, **kwargs):
        if self._train_batch_size > 2:
            raise RuntimeError("CUDA out of memory.")
        return step(self, *args, **kwargs)

    monkeypatch.setattr(runs.AdaptationTrainer, "training_step", full)
    assert run(tmp_path / "smaller", auto_find_batch_size=True)._train_batch_size == 2


# ---- transformers' own parser

GIVEN = {
    "output_dir": "out",
    "use_cpu": True,
    "objectives": {"mmd": 0.5, "cdan": {"weight": "1e-2", "schedule": "linear"}},
    "learning_rate": "1e-3",
    "trainable": ["last_1", "norms"],
    "freeze": ["embeddings", {"block": 0}],
    "source_weights": {"papers": 2.0},
    "unfreeze": None,
    "augment": "weak",
    "epoch_by": "longest",
    "max_length": 32,
    "lr_scheduler_kwargs": {"min_lr": 1e-6},
}


def check(read: AdaptationConfig) -> None:
    assert [(s.name, s.weight) for s in read.objective_specs()] == [("mmd", 0.5), ("cdan", 0.01)]
    assert read.learning_rate == 1e-3
    assert read.source_weight_map() == {"papers": 2.0}
    assert (read.augment, read.epoch_by, read.max_length) == ("weak", "longest", 32)


def test_hf_argument_parser_reads_maps_files_and_command_lines(tmp_path):
    parser = HfArgumentParser(AdaptationConfig)
    check(parser.parse_dict(GIVEN)[0])
    (tmp_path / "run.json").write_text(json.dumps(GIVEN))
    check(parser.parse_json_file(tmp_path / "run.json")[0])
    import yaml

    (tmp_path / "run.yaml").write_text(yaml.safe_dump(GIVEN, sort_keys=False))
    check(parser.parse_yaml_file(tmp_path / "run.yaml")[0])
    words = [f"--{k}={json.dumps(v) if isinstance(v, (dict, list)) else v}" for k, v in GIVEN.items() if v is not None]
    check(parser.parse_args_into_dataclasses(words, look_for_args_file=False)[0])
    both = HfArgumentParser((FinetuneArguments, AdaptationConfig))
    script, read = both.parse_args_into_dataclasses([*words, "--source", "a.csv"], look_for_args_file=False)
    check(read)
    assert script.source == ["a.csv"]
    assert "What pulls the domains together" in both.format_help()


def test_hf_argument_parser_refuses_what_a_file_says_wrongly(tmp_path):
    (tmp_path / "run.yaml").write_text("output_dir: out\nuse_cpu: true\nseed: abc\n")
    with pytest.raises(ValueError, match="^seed='abc' must be a whole number"):
        HfArgumentParser(AdaptationConfig).parse_yaml_file(tmp_path / "run.yaml")


class OwnGap(Objective):
    """An objective of one's own, which no registry knows."""

    def forward(self, source_features, target_features):
        return (source_features.mean(0) - target_features.mean(0)).square().sum()


def test_a_class_among_the_objectives_is_kept_by_its_name(tmp_path):
    """Checkpoints hold the settings as text; a class defined in a function could not be pickled."""

    class Local(OwnGap):
        pass

    for given in ({"mine": Local}, {"mine": {"kind": Local, "weight": 0.5}}):
        run = runs.trainer(tmp_path / str(len(str(given))), objectives=given, save_strategy="steps", save_steps=1)
        kind = run.args.objectives["mine"]["kind"]
        assert kind.endswith("<locals>.Local")
        run.train()
        assert len(runs.logged(run, "mine_loss")) == 2
        assert kind in (tmp_path / str(len(str(given))) / "checkpoint-1" / "training_args.json").read_text()
