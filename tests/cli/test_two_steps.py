"""Encoder first, then the task: both shipped configs from the command line, on a tiny model and the sample corpus."""

from __future__ import annotations

import json
import string

import recipe
import torch
from transformers import AutoModel, AutoModelForSequenceClassification, BertConfig, BertModel, BertTokenizer

CONFIGS = recipe.RECIPE.parent / "configs"
SHORT = ["--max_steps", "4", "--per_device_train_batch_size", "8", "--use_cpu", "--disable_tqdm", "true"]
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}


def write_encoder(folder) -> None:
    """A sentence encoder that spells words."""
    signs = [*string.ascii_lowercase, *string.digits, *".,-"]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *signs, *(f"##{sign}" for sign in signs)]
    torch.manual_seed(1)
    BertModel(BertConfig(vocab_size=len(tokens), max_position_embeddings=64, **SIZES)).save_pretrained(folder)
    vocab = {token: i for i, token in enumerate(tokens)}
    BertTokenizer(vocab=vocab, model_max_length=64).save_pretrained(folder)


def test_both_steps_run_from_their_configs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_encoder(tmp_path / "start")
    first = ["--config", str(CONFIGS / "two_steps_encoder.yaml"), "--model", "start", *SHORT]
    assert recipe.run(first, "pretrain") == 0
    said = capsys.readouterr().out
    assert "Contrast of two readings of" in said
    scores = json.loads((tmp_path / "runs/encoder/results.json").read_text())
    assert scores["steps"] == 4
    assert scores["sentence_contrast_before"] != scores["sentence_contrast_after"]
    assert json.loads((tmp_path / "runs/encoder/config.json").read_text())["architectures"] == ["BertModel"]
    second = [
        "--config",
        str(CONFIGS / "two_steps_task.yaml"),
        *SHORT,
        "--learning_rate",
        "0",
        "--eval_strategy",
        "no",
    ]
    assert recipe.run(second) == 0
    task = AutoModelForSequenceClassification.from_pretrained(tmp_path / "runs/two-steps")
    encoder, start = (AutoModel.from_pretrained(tmp_path / name) for name in ("runs/encoder", "start"))
    layer = "encoder.layer.0.output.dense.weight"
    assert torch.equal(task.bert.get_parameter(layer), encoder.get_parameter(layer))  # the step began there
    assert not torch.equal(encoder.get_parameter(layer), start.get_parameter(layer))
