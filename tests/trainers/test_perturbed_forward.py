"""`perturbed_target_forward`: the target rows once more, without dropout, their embeddings or their pixels moved."""

from __future__ import annotations

import pictures
import pytest
import runs
import tiny
import torch
from torch import nn

from hftransfer import Objective
from hftransfer.objectives.registry import REGISTRY
from hftransfer.objectives.self_training.vat import VAT
from hftransfer.trainers.step.objective_inputs import pick_words
from hftransfer.trainers.step.perturbed_forward import PerturbedTargetForward

SHIFT = torch.linspace(-1, 1, 32)
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


class Perturbed(Objective):
    def forward(self, perturbed_target_forward, target_logits):
        self.forward_again = perturbed_target_forward
        shift = SHIFT.expand_as(perturbed_target_forward.inputs)
        self.plain, self.moved = perturbed_target_forward(None), perturbed_target_forward(shift)
        self.precision = target_logits.dtype
        return self.moved.square().mean()


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(REGISTRY, "perturbed", Perturbed)


def forward(tmp_path, tagging: bool = False, **settings):
    data = {"train_dataset": tiny.tagged(), "target_dataset": tiny.tagged(seed=1, labelled=False)} if tagging else {}
    model = tiny.bert(tiny.TAGS if tagging else tiny.LABELS, tagging, initializer_range=0.2)
    objectives = {"perturbed": {"weight": 1.0, "schedule": "constant"}}
    run = runs.trainer(tmp_path, model, objectives=objectives, **data, **settings)
    inputs = next(iter(run.get_train_dataloader()))
    run.model.train()
    return run.model, inputs, run.model(**inputs)


@pytest.mark.parametrize("tagging", [False, True], ids=["sequences", "words"])
def test_it_is_the_model_in_evaluation_on_the_target_rows(tmp_path, tagging):
    adapter, inputs, _ = forward(tmp_path, tagging)
    seen, n = adapter.objectives["perturbed"], inputs["num_source"]
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
    torch.testing.assert_close(seen.forward_again.inputs, embedding(rows["input_ids"]).detach())
    assert torch.equal(seen.forward_again.mask, rows["attention_mask"])


def test_it_leaves_the_model_as_it_was_and_has_a_gradient(tmp_path):
    adapter, _, out = forward(tmp_path)
    assert all(module.training for module in adapter.model.modules())
    assert not adapter.model.get_input_embeddings()._forward_hooks
    assert adapter.joint_forward.features.feature_hook._features is None
    out.loss.backward()
    assert all(p.grad is not None for p in adapter.model.parameters())


def test_it_runs_in_the_runs_precision(tmp_path):
    adapter, inputs, _ = forward(tmp_path)
    inside = []
    adapter.model.bert.encoder.layer[0].register_forward_hook(lambda m, a, out: inside.append(out[0].dtype))
    with torch.autocast("cpu", torch.bfloat16):
        adapter(**inputs)
    seen = adapter.objectives["perturbed"]
    reference = seen.forward_again.autocast, seen.precision, seen.plain.dtype
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
    run = runs.trainer(tmp_path, objectives={"vat": 0.1}, activation_checkpointing=True)
    run.train()
    assert all(value >= 0 for value in runs.logged(run, "vat_loss"))


# ---- inputs that are real numbers already


def look(tmp_path, **settings):
    """A trainer on pictures, and its first batch."""
    given = {"train_dataset": pictures.pictures(24), "target_dataset": pictures.pictures(18, 1, dark=True)}
    given |= {"processing_class": pictures.processor(), "model": pictures.resnet()}
    run = runs.trainer(tmp_path, **given | settings)
    return run, next(iter(run.get_train_dataloader()))


def again(model: nn.Module, pixels: torch.Tensor) -> PerturbedTargetForward:
    return PerturbedTargetForward(model, {"pixel_values": pixels}, None, None, lambda: None)


def test_pixels_move_where_the_shift_says(tmp_path):
    """Position by position in reading order, the channels of a pixel side by side."""
    run, batch = look(tmp_path)
    model, pixels = run.model.model.train(), batch["pixel_values"][4:]
    perturbed_forward = again(model, pixels)
    assert perturbed_forward.inputs.shape == (4, 16 * 16, 3)
    assert torch.equal(perturbed_forward.mask, torch.ones(4, 256, dtype=torch.long))
    assert torch.equal(perturbed_forward.inputs[2, 5 * 16 + 7], pixels[2, :, 5, 7])
    shift = torch.zeros(4, 256, 3)
    shift[1, 3 * 16 + 2, 1] = 5.0
    plain, moved = perturbed_forward(None), perturbed_forward(shift)
    assert model.training
    changed = pixels.clone()
    changed[1, 1, 3, 2] += 5.0
    model.eval()
    torch.testing.assert_close(plain, model(pixel_values=pixels).logits)
    torch.testing.assert_close(moved, model(pixel_values=changed).logits)
    assert [i for i in range(4) if not torch.equal(plain[i], moved[i])] == [1]


def test_batch_norm_is_left_alone_and_every_weight_has_a_gradient(tmp_path):
    """The running statistics are those of the joint forward alone."""
    buffers = []
    for objectives in ({"vat": {"weight": 1.0, "schedule": "constant"}}, None):
        run, batch = look(tmp_path, objectives=objectives)
        run.model.train()
        run.model(**batch).loss.backward()
        assert all(p.grad is not None for p in run.model.parameters())
        buffers.append({k: v for k, v in run.model.model.named_buffers() if "running" in k})
    assert buffers[0]
    assert all(torch.equal(v, buffers[1][k]) for k, v in buffers[0].items())


def test_a_share_of_the_rows_is_moved_as_among_all(tmp_path):
    """So that processes, each with its own rows, do together what one does; batch norm couples no rows here."""
    run, batch = look(tmp_path)
    model, pixels = run.model.model, batch["pixel_values"][4:]
    whole = VAT()(again(model, pixels))
    halves = [VAT()(again(model, part)) for part in pixels.split(2)]
    torch.testing.assert_close(sum(halves) / 2, whole)
    assert whole > 1e-4


def test_the_direction_found_is_worse_than_chance(tmp_path):
    run, batch = look(tmp_path)
    perturbed_forward, seen = again(run.model.model.double(), batch["pixel_values"][4:].double()), []

    def spy(shift):
        seen.append(shift)
        return perturbed_forward(shift)

    spy.inputs, spy.mask = perturbed_forward.inputs.double(), perturbed_forward.mask
    VAT(xi=0.1, eps=1.0)(spy)
    worst = seen[-1]
    length = worst.square().sum((1, 2), keepdim=True).sqrt()
    torch.testing.assert_close(length, spy.inputs.square().mean((1, 2), keepdim=True).sqrt())
    log_p = perturbed_forward(None).log_softmax(-1).detach()
    damage = lambda shift: (log_p.exp() * (log_p - perturbed_forward(shift).log_softmax(-1))).sum(-1).detach()  # noqa: E731
    g = torch.Generator().manual_seed(0)
    others = [torch.randn(worst.shape, generator=g, dtype=worst.dtype) for _ in range(30)]
    found = torch.stack([damage(x / x.square().sum((1, 2), keepdim=True).sqrt() * length) for x in others])
    assert (damage(worst) > 3 * found.max(0).values).all()


def test_vat_trains_on_pictures(tmp_path):
    run, _ = look(tmp_path, objectives={"vat": {"weight": 1.0, "schedule": "constant"}}, augment="weak", max_steps=3)
    before = runs.copied(run.model)
    run.train()
    assert runs.moved(run.model, before) == set(before)
    assert all(value > 0 for value in runs.logged(run, "vat_loss"))


# ---- what cannot be moved


def test_a_model_with_nothing_to_move_is_refused_when_the_trainer_is_made(tmp_path):
    model = tiny.bert()
    model.get_input_embeddings = lambda: None
    with pytest.raises(ValueError, match="BertForSequenceClassification has neither"):
        runs.trainer(tmp_path / "run", model, objectives={"vat": 0.1})
    assert not (tmp_path / "run").exists()
    runs.trainer(tmp_path / "run", model, objectives={"vat": 0.0, "mmd": 0.1})


def test_sharded_runs_are_refused_when_the_trainer_is_made(tmp_path, monkeypatch):
    """As the launcher says it; a run without such an objective is nobody's business here."""
    read = "hftransfer.trainers.step.perturbed_forward.parse_flag_from_env"
    monkeypatch.setattr(read, lambda key: key == "ACCELERATE_USE_FSDP")
    with pytest.raises(ValueError, match="Run it under DDP, or on one process"):
        runs.trainer(tmp_path / "run", objectives={"vat": 0.1})
    assert not (tmp_path / "run").exists()
    runs.trainer(tmp_path / "run", objectives={"mmd": 0.1})
