"""What is saved is a plain model: it loads where hftransfer has never been heard of, and says the same."""

from __future__ import annotations

import json

import families
import numpy as np
import pytest
import runs
import tiny
import torch
from peft import LoraConfig, PeftModel
from transformers import AutoModelForSequenceClassification, AutoTokenizer

SENTENCE = "w1 w2x up w7"
ELSEWHERE = """
import sys
from transformers import pipeline
classify = pipeline("text-classification", sys.argv[1], device="cpu", top_k=None)
scores = {entry["label"]: entry["score"] for entry in classify([sys.argv[2]])[0]}
print(*(scores[name] for name in ("down", "up", "flat")))
"""


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(**tiny.tokenizer()(SENTENCE, return_tensors="pt")).logits


def names(folder) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A trained model and the folder it was saved to."""
    folder = tmp_path_factory.mktemp("saved")
    run = runs.trainer(
        folder / "run", objectives={"mmd": 0.5, "critic": {"kind": "dann", "weight": 2}}, trainable="last_1"
    )
    run.train()
    run.save_model(str(folder / "model"))
    return run.model.model, folder / "model"


def test_it_loads_without_hftransfer_and_says_the_same(saved, run_elsewhere):
    model, folder = saved
    scores = np.array(run_elsewhere(ELSEWHERE, folder, SENTENCE).split()[-3:], float)
    np.testing.assert_allclose(scores, logits(model).softmax(-1)[0].numpy(), atol=1e-6)


def test_the_reloaded_model_is_equal(saved):
    model, folder = saved
    reloaded = AutoModelForSequenceClassification.from_pretrained(folder)
    assert type(reloaded) is type(model)
    assert not runs.moved(reloaded, runs.copied(model))
    torch.testing.assert_close(logits(reloaded), logits(model), rtol=0, atol=1e-7)
    assert reloaded.config.id2label == dict(enumerate(tiny.LABELS))
    assert AutoTokenizer.from_pretrained(folder)(SENTENCE)["input_ids"] == tiny.tokenizer()(SENTENCE)["input_ids"]


def test_its_config_says_how_it_was_made(saved):
    written = json.loads((saved[1] / "config.json").read_text())["hftransfer"]
    assert written == {
        "objectives": {"mmd": {"kind": "mmd", "weight": 0.5}, "critic": {"kind": "dann", "weight": 2.0}},
        "sources": ["source"],
        "trainable": "last_1",
    }


def test_nothing_of_the_objectives_and_no_pickle_is_in_the_folder(saved):
    assert not [name for name in names(saved[1]) if name.endswith((".bin", ".pt", ".pth", ".pkl")) or name[0] == "_"]
    assert json.loads((saved[1] / "training_args.json").read_text())["max_steps"] == 2


@pytest.mark.parametrize("family", ["distilbert", "modernbert", "llama"])
@pytest.mark.parametrize("merge", [False, True], ids=["adapter", "merged"])
def test_an_adapter_is_saved_as_one_or_merged(family, merge, tmp_path):
    run = runs.trainer(
        tmp_path / "run",
        families.build(family),
        peft_config=LoraConfig(r=2),
        merge_adapter=merge,
        processing_class=families.tokenizer(),
    )
    run.train()
    run.save_model(str(tmp_path / "model"))
    batch = families.batch()
    with torch.no_grad():
        trained = run.model.model.eval()(**batch).logits
        if merge:
            reloaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
            assert not [name for name in names(tmp_path / "model") if name.startswith("adapter")]
        else:
            reloaded = PeftModel.from_pretrained(families.build(family), tmp_path / "model")
            assert "config.json" not in names(tmp_path / "model")
        torch.testing.assert_close(reloaded.eval()(**batch).logits, trained, rtol=0, atol=1e-6)
    assert isinstance(run.model.model, PeftModel)  # saving left the trainer as it was
