"""What pre-training refuses, before anything is trained or written, with a message that says what to do."""

from __future__ import annotations

import pretraining_runs as runs
import pytest
import tiny
from bad_pretraining import PRETRAINING_MODELS, PRETRAINING_TEXTS, ROWS
from bad_pretraining_settings import PRETRAINING_SENTENCES, PRETRAINING_SETTINGS
from transformers import GPT2Config, GPT2LMHeadModel

from hftransfer import PretrainArguments, pretrain

CASES = PRETRAINING_TEXTS | PRETRAINING_MODELS | PRETRAINING_SETTINGS | PRETRAINING_SENTENCES


def pretrain_on(folder, settings=None, args=None, **given):
    """A run on the usual input, or on what is given instead."""
    usual = {"model": runs.model, "target": ROWS, "processing_class": tiny.tokenizer}
    chosen = {k: v() if callable(v) and k in usual else v for k, v in (usual | given).items()}
    config = args(folder) if args else runs.config(folder, **settings or {})
    return pretrain(chosen.pop("model"), args=config, **chosen)


@pytest.mark.parametrize(("given", "error", "culprit", "remedy"), CASES.values(), ids=CASES.keys())
def test_bad_input_is_refused(tmp_path, given, error, culprit, remedy):
    folder = tmp_path / "run"
    with pytest.raises(error) as found:
        pretrain_on(folder, **given)
    assert culprit in str(found.value)
    assert remedy in str(found.value)
    assert not folder.exists()


def test_a_decoder_by_its_folder(tmp_path):
    GPT2LMHeadModel(GPT2Config(vocab_size=64, n_embd=16, n_layer=1, n_head=2)).save_pretrained(tmp_path / "gpt")
    tiny.tokenizer().save_pretrained(tmp_path / "gpt")
    with pytest.raises(ValueError, match=r"is a GPT2 model.*no masked-language head.*Name an encoder"):
        runs.run(tmp_path / "run", {"model": str(tmp_path / "gpt"), "processing_class": None})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "--target and --source are missing"),
        ({"source": ["a.csv"], "target": "a.csv"}, "is a source too"),
        ({"target": "a.csv", "validation_fraction": 0.2}, "set held_out"),
        ({"target": "a.csv", "model_config": {"model_type": "bert"}}, "Name it with --model"),
    ],
)
def test_arguments_that_cannot_be(given, words):
    with pytest.raises(ValueError, match=words):
        PretrainArguments(**given).check_domains()
