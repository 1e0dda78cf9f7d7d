"""`trainable` and `freeze` in training: exactly what should train has changed, also on disk, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import runs
import tiny
import torch
from peft import LoraConfig
from policy_cases import CASES, PHASES, expected
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, TrainerCallback

from hftransfer import AdaptationConfig, print_policy
from hftransfer.cli.recipe_parser import RecipeParser
from hftransfer.models.freezing import frozen_modules
from hftransfer.models.parameter_sets import parse_freeze, parse_trainable
from hftransfer.reporting.model_card_text import render_card
from hftransfer.trainers.setup.plan import plan, policy_rows
from hftransfer.trainers.setup.unfreezing import Unfreeze, parse_unfreeze

PROBE = {
    "input_ids": torch.tensor([[2, 9, 11, 3], [2, 8, 3, 0]]),
    "attention_mask": torch.tensor([[1] * 4, [1] * 3 + [0]]),
}


@pytest.mark.parametrize(
    ("case", "rows", "accumulation"),
    [*((case, 8, 1) for case in CASES), *((case, 2, 4) for case in ("norms", *PHASES))],
)
def test_exactly_what_should_train_trains_and_is_saved(tmp_path, case, rows, accumulation):
    """Bit for bit: everything else is what it was, in memory, on disk and in a model that transformers loads."""
    model = tiny.bert()
    before = runs.copied(model)
    run = runs.trainer(
        tmp_path / "run",
        model,
        max_steps=4,
        per_device_train_batch_size=rows,
        gradient_accumulation_steps=accumulation,
        **CASES[case][0],
    )
    run.train()
    wanted = expected(case, before)
    assert runs.moved(model, before) == wanted
    assert {name for name, p in model.named_parameters() if p.requires_grad} == run.trainable.names >= wanted

    run.save_model(str(tmp_path / "model"))
    saved = load_file(tmp_path / "model" / "model.safetensors")
    assert {name for name in before if not torch.equal(saved[name], before[name])} == wanted
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model").eval()
    with torch.no_grad():
        torch.testing.assert_close(plain(**PROBE).logits, model.eval()(**PROBE).logits, rtol=0, atol=0)


# ---- what stands still


def test_frozen_parts_run_without_dropout(tmp_path):
    """Two forwards in training mode give the same features below what moves, and differ above it."""
    run = runs.trainer(tmp_path, tiny.bert(hidden_dropout_prob=0.5), trainable="last_1")
    adapter, bert = run.model, run.model.model.bert
    adapter.train()
    assert adapter.training
    assert bert.encoder.layer[1].training
    assert adapter.model.dropout.training
    assert not any(module.training for part in frozen_modules(adapter.model) for module in part.modules())
    outs = [bert(**PROBE, output_hidden_states=True).hidden_states for _ in range(2)]
    assert torch.equal(outs[0][1], outs[1][1])
    assert not torch.equal(outs[0][2], outs[1][2])
    adapter.eval()
    assert not any(module.training for module in adapter.modules())


def test_dropout_comes_back_with_the_layer(tmp_path):
    modes = []

    class Modes(TrainerCallback):
        def on_step_end(self, args, state, control, model, **kwargs):
            bert = model.model.bert
            modes.append([bert.embeddings.training, bert.encoder.layer[0].training, bert.encoder.layer[1].training])

    run = runs.trainer(tmp_path, unfreeze={"by": "step", "every": 1}, max_steps=4, callbacks=[Modes()])
    run.train()
    assert modes == [[False, False, False], [False, False, True], [False, True, True], [True, True, True]]


def test_an_adapters_base_keeps_its_dropout(tmp_path):
    run = runs.trainer(tmp_path, peft_config=LoraConfig(r=2))
    run.model.train()
    assert all(module.training for module in run.model.modules())


# ---- what is shown


def test_the_table_has_every_block_and_adds_up(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    run = runs.trainer(
        tmp_path,
        trainable="last_1",
        layer_decay=0.5,
        head_lr_multiplier=2.0,
        objectives={"dann": 0.1},
        lp_epochs=1,
        max_steps=9,
    )
    rows = policy_rows(run)
    assert [(r.name, r.method, r.rate, r.decay, r.starts) for r in rows] == [
        ("bert.embeddings", "frozen", None, None, ""),
        ("bert.encoder.layer.0", "frozen", None, None, ""),
        ("bert.encoder.layer.1", "full", 0.005, 0.01, "epoch 1"),
        ("bert.pooler", "full", 0.01, 0.01, "epoch 1"),
        ("classifier", "full", 0.02, 0.01, "start"),
        ("objectives", "full", 0.1, 0.01, "start"),
    ]
    assert sum(r.total for r in rows[:-1]) == run.trainable.num_total
    assert sum(r.trainable for r in rows[:-1]) == run.trainable.num_trainable
    print_policy(run)
    printed = capsys.readouterr().out
    assert "last_1:" in printed
    for word in ("bert.encoder.layer.1", "frozen", "epoch 1", "0.005", "decay"):
        assert word in printed
    assert "| bert.encoder.layer.1 |" in render_card(run.card_facts())
    assert plan(run.args, run.prepared)["what trains when"] == "the head first, then after 1 epoch everything"


def test_the_page_on_policies_shows_what_is_printed(tmp_path, capsys, monkeypatch, caplog):
    """The table and the reason of `auto` as the page has them."""
    table, reason = _printed_blocks()[::-1]
    run = runs.trainer(
        tmp_path,
        tiny.bert(num_hidden_layers=6),
        trainable="last_2",
        layer_decay=0.9,
        learning_rate=5e-5,
        objectives={"dann": 0.1},
    )
    capsys.readouterr()
    monkeypatch.setenv("COLUMNS", "80")
    print_policy(run)
    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()] == table
    assert runs.trainer(tmp_path, trainable="auto", train_dataset=tiny.domain(10)).trainable.notes == tuple(reason)
    assert reason[0] in caplog.text


def _printed_blocks() -> list[list[str]]:
    page = (Path(__file__).parents[2] / "docs" / "policies.md").read_text(encoding="utf-8")
    return [block.splitlines() for block in re.findall(r"^```console\n(.*?)^```", page, re.S | re.M)]


@pytest.mark.parametrize(
    ("trainable", "method"), [("norms", "norms"), ("biases", "biases"), ("pattern:*.dense", "part")]
)
def test_methods_have_names(tmp_path, trainable, method):
    rows = {row.name: row for row in policy_rows(runs.trainer(tmp_path, trainable=trainable))}
    assert rows["bert.encoder.layer.0–1"].method == method
    if method != "part":
        assert rows["bert.encoder.layer.0–1"].decay == 0.0


def test_equal_neighbours_are_one_row():
    model = tiny.bert(num_hidden_layers=5)
    model.bert.encoder.layer[3].requires_grad_(False)
    rows = {row.name: row for row in policy_rows(model)}
    assert [name for name in rows if "layer" in name] == [
        "bert.encoder.layer.0–2",
        "bert.encoder.layer.3",
        "bert.encoder.layer.4",
    ]
    assert rows["bert.encoder.layer.0–2"].total == 3 * rows["bert.encoder.layer.4"].total
    assert sum(row.total for row in rows.values()) == sum(p.numel() for p in model.parameters())


def test_the_table_of_an_adapter(tmp_path):
    rows = {row.name: row for row in policy_rows(runs.trainer(tmp_path, peft_config=LoraConfig(r=2)))}
    assert rows["bert.encoder.layer.0–1"].method == "lora"
    assert rows["classifier"].method == "full"
    assert rows["bert.embeddings"].method == "frozen"


def test_print_policy_takes_models_and_trainers(capsys):
    print_policy(tiny.bert())
    assert "rate" not in capsys.readouterr().out
    with pytest.raises(TypeError, match="print_policy takes a model or a trainer, not str"):
        print_policy("bert-base-uncased")


def test_policies_are_options_and_stand_in_files():
    """As words of a command line, and as maps and lists of a YAML file."""
    words = [
        "--use_cpu",
        "--trainable",
        '["norms", "block:0"]',
        "--freeze",
        "embeddings",
        "--lr_scheduler_type",
        "slanted_triangular",
    ]
    (config,) = RecipeParser([AdaptationConfig]).parse_args_and_config(
        [*words, "--unfreeze", '{"by": "step", "every": 2}']
    )
    assert [str(item) for item in parse_trainable(config.trainable)] == ["norms", "block:0"]
    assert [str(item) for item in parse_freeze(config.freeze)] == ["embeddings"]
    assert config.lr_scheduler_type == "slanted_triangular"
    assert parse_unfreeze(config.unfreeze) == Unfreeze("step", 2)
    assert config.ddp_find_unused_parameters

    options = {"use_cpu": True, "trainable": {"last": 2}, "lp_epochs": 1, "lr_scheduler_kwargs": {"ratio": 8}}
    config = RecipeParser([AdaptationConfig]).parse_dict(
        options | {"lr_scheduler_type": "slanted_triangular"}, "file"
    )[0]
    assert [str(item) for item in parse_trainable(config.trainable)] == ["last_2"]
    assert (config.lp_epochs, config.lr_scheduler_kwargs) == (1.0, {"ratio": 8})
    plain = RecipeParser([AdaptationConfig]).parse_dict(
        {"use_cpu": True, "trainable": ["head", {"block": 0}], "freeze": {"first": 1}}, "file"
    )[0]
    assert [str(item) for item in parse_freeze(plain.freeze)] == ["first_1"]
    assert not plain.ddp_find_unused_parameters
