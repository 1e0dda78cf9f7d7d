"""`target_rerun`: the target rows once more, without dropout, their embeddings moved."""

from __future__ import annotations

import pytest
import runs
import tiny
import torch

from hftransfer import Objective
from hftransfer.objectives.registry import REGISTRY
from hftransfer.trainers.inputs import pick_words

SHIFT = torch.linspace(-1, 1, 32)
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


class Reruns(Objective):
    def forward(self, target_rerun, target_logits):
        self.rerun = target_rerun
        shift = SHIFT.expand_as(target_rerun.embeddings)
        self.plain, self.moved, self.precision = target_rerun(None), target_rerun(shift), target_logits.dtype
        return self.moved.square().mean()


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(REGISTRY, "reruns", Reruns)


def forward(tmp_path, tagging: bool = False, **settings):
    data = {"train_dataset": tiny.tagged(), "target_dataset": tiny.tagged(seed=1, labelled=False)} if tagging else {}
    model = tiny.bert(tiny.TAGS if tagging else tiny.LABELS, tagging, initializer_range=0.2)
    run = runs.trainer(tmp_path, model, objectives={"reruns": {"schedule": "constant"}}, **data, **settings)
    inputs = next(iter(run.get_train_dataloader()))
    run.model.train()
    return run.model, inputs, run.model(**inputs)


@pytest.mark.parametrize("tagging", [False, True], ids=["sequences", "words"])
def test_it_is_the_model_in_evaluation_on_the_target_rows(tmp_path, tagging):
    adapter, inputs, _ = forward(tmp_path, tagging)
    seen, n = adapter.objectives["reruns"], inputs["num_source"]
    model, rows = adapter.model.eval(), {k: inputs[k][n:] for k in INPUTS}
    embedding = model.get_input_embeddings()
    expected = [model(**rows).logits]
    hook = embedding.register_forward_hook(lambda _, args, out: out + SHIFT)
    expected.append(model(**rows).logits)
    hook.remove()
    if tagging:
        expected = [pick_words(x, inputs["word_mask"][n:]) for x in expected]
    torch.testing.assert_close(seen.plain, expected[0])
    torch.testing.assert_close(seen.moved, expected[1])
    assert not torch.allclose(seen.plain, seen.moved)
    torch.testing.assert_close(seen.rerun.embeddings, embedding(rows["input_ids"]).detach())
    assert torch.equal(seen.rerun.mask, rows["attention_mask"])


def test_it_leaves_the_model_as_it_was_and_has_a_gradient(tmp_path):
    adapter, _, out = forward(tmp_path)
    assert all(module.training for module in adapter.model.modules())
    assert not adapter.model.get_input_embeddings()._forward_hooks
    assert adapter.tap._seen is None
    out.loss.backward()
    assert all(p.grad is not None for p in adapter.model.parameters())


def test_it_runs_in_the_runs_precision(tmp_path):
    adapter, inputs, _ = forward(tmp_path)
    inside = []
    adapter.model.bert.encoder.layer[0].register_forward_hook(lambda m, a, out: inside.append(out[0].dtype))
    with torch.autocast("cpu", torch.bfloat16):
        adapter(**inputs)
    seen = adapter.objectives["reruns"]
    reference = seen.rerun.autocast, seen.precision, seen.plain.dtype
    assert reference == (torch.bfloat16, torch.float32, torch.float32)
    assert len(set(inside)) == 1


def test_with_activation_checkpointing_the_gradient_is_the_same(tmp_path):
    gradients = []
    for on in (False, True):
        adapter, inputs, _ = forward(tmp_path / str(on))
        for module in adapter.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        if on:
            adapter.model.activation_checkpointing_enable({"use_reentrant": False})
        adapter.zero_grad()
        adapter(**inputs).loss.backward()
        gradients.append({n: p.grad for n, p in adapter.named_parameters()})
    for name, expected in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], expected)


def test_vat_trains_with_activation_checkpointing(tmp_path):
    run = runs.trainer(tmp_path, objectives={"vat": 1.0}, activation_checkpointing=True)
    run.train()
    assert all(value >= 0 for value in runs.logged(run, "vat_loss"))


def test_a_model_without_token_embeddings(tmp_path):
    run = runs.trainer(tmp_path, objectives={"vat": 1.0})
    inputs = next(iter(run.get_train_dataloader()))
    run.model.model.get_input_embeddings = lambda: None
    with pytest.raises(ValueError, match="vat moves token embeddings, and BertForSequenceClassification has none"):
        run.model(**inputs)
