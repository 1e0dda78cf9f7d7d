"""The pages on interpolation, adapters and structure transfer: their examples run as printed, on tiny models."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import tiny
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForSequenceClassification

DOCS = Path(__file__).parents[1] / "docs"
MODEL = "sentence-transformers/all-MiniLM-L6-v2"
SHORT = 'use_cpu=True, report_to=[], disable_tqdm=True, save_strategy="no", max_steps=2'


def examples(page: str) -> list[str]:
    """The Python of a page, told to run for two steps on the CPU."""
    found = re.findall(r"^```python\n(.*?)^```", (DOCS / page).read_text(encoding="utf-8"), re.S | re.M)
    return [re.sub(r"num_train_epochs=\d+", SHORT, text) for text in found]


def saved(folder: str, model) -> None:
    model.save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_the_example_of_interpolation(tmp_path):
    for i, name in enumerate(("runs/a", "runs/b", "start")):
        saved(name, tiny.bert(seed=i))
    (example,) = examples("interpolation.md")
    exec(example.replace(MODEL, "start"), {"score": lambda model: {"source_accuracy": 0.5}})
    assert AutoModelForSequenceClassification.from_pretrained("runs/wise").config.num_labels == 3


def test_the_examples_of_adapters():
    saved("base", tiny.bert())
    for name in ("medical", "law"):
        base = AutoModelForSequenceClassification.from_pretrained("base")
        config = LoraConfig(r=2, target_modules=["query"], modules_to_save=["classifier"], init_lora_weights=False)
        get_peft_model(base, config).save_pretrained(f"runs/{name}")
    domains, sums, udapter = examples("adapters.md")
    scope = {"news": tiny.domain(), "medical": tiny.domain(seed=1, labelled=False)}
    exec(domains, scope)
    assert {path.name for path in Path("domains").iterdir()} == {"medical", "law"}
    exec(sums, scope)
    assert scope["model"].active_adapters == ["medical-without-law"]
    exec(udapter, scope)
    plain = AutoModelForSequenceClassification.from_pretrained("runs/task")
    batch = tiny.tokenizer()(["w1 w2"], return_tensors="pt")
    live = scope["task"].model.model.eval()
    with torch.no_grad():
        torch.testing.assert_close(plain(**batch).logits, live(**batch).logits, rtol=0, atol=1e-6)


def test_the_examples_of_structure_transfer():
    saved("runs/teacher", tiny.bert(num_hidden_layers=6))
    saved("start", tiny.bert(num_hidden_layers=6))
    first, cut, student = examples("structure_transfer.md")
    exec(first.replace(MODEL, "start"), {})
    assert AutoModelForSequenceClassification.from_pretrained("half-minilm").config.num_hidden_layers == 3
    few = {"rows": 12, "longest": 2}  # too few to use every word
    scope = {"news": tiny.domain(**few), "medical": tiny.domain(seed=1, labelled=False, **few)}
    exec(cut, scope)
    assert 0 < len(scope["smaller"]) < len(tiny.tokenizer())
    exec(student, scope)
    made = AutoModelForSequenceClassification.from_pretrained("runs/student")
    assert made.config.num_hidden_layers == 4
    assert len(made.bert.encoder.layer) == 4
    assert made.config.vocab_size == len(scope["smaller"])
    assert scope["trainer"].state.global_step == 2
