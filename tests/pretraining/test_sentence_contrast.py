"""The contrast of two readings: its value by hand, what it moves, under which models and settings it is refused."""

from __future__ import annotations

import masked_models
import numpy as np
import pretraining_runs as runs
import pytest
import tiny
import torch
from pretraining_runs import contrast_by_hand as by_hand

from hftransfer import prepare_pretraining
from hftransfer.pretraining.packed_attention import padded_inputs
from hftransfer.pretraining.pretraining_trainer import PretrainingTrainer
from hftransfer.pretraining.sentence_contrast import two_reading_loss


@pytest.mark.parametrize("temperature", [0.05, 0.5])
@pytest.mark.parametrize("rows", [1, 2, 7])
def test_the_loss_is_that_of_the_formula(rows, temperature):
    draw = np.random.default_rng(rows)
    first, second = draw.normal(size=(rows, 5)), draw.normal(size=(rows, 5))
    expected = by_hand(first, second, temperature)
    value = two_reading_loss(torch.tensor(first), torch.tensor(second), temperature)
    assert value.item() == pytest.approx(expected, abs=1e-12)
    half = two_reading_loss(torch.tensor(first).bfloat16(), torch.tensor(second).bfloat16(), temperature)
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(expected, abs=0.05 / temperature)


def test_equal_and_empty_means_have_a_finite_loss_and_gradient():
    for rows in (torch.ones(4, 3), torch.zeros(4, 3)):
        first = rows.clone().requires_grad_()
        loss = two_reading_loss(first, rows, 0.05)
        loss.backward()
        assert loss.item() == pytest.approx(np.log(4))
        assert first.grad.isfinite().all()


def batch_and_joint(folder, **settings):
    """A training batch and the joint model of a run, in training mode."""
    args = runs.config(folder, sentence_contrast=2.0, **settings)
    prepared = prepare_pretraining(runs.model(), args, runs.TARGET, processing_class=tiny.tokenizer())
    batch = next(iter(PretrainingTrainer(prepared, args).get_train_dataloader()))
    return batch, prepared.joint.train()


@pytest.mark.parametrize("packing", [True, False])
def test_both_readings_are_of_each_row_and_count_with_their_weight(packing, tmp_path):
    batch, joint = batch_and_joint(tmp_path, packing=packing)
    assert joint.loss_names == ["masked_words", "sentence_contrast"]
    torch.manual_seed(3)
    output = joint(**batch)
    placed = {name: batch[name] for name in ("input_ids", "segments", "places")}
    inputs = padded_inputs(placed) if joint.attention is None else joint.attention.inputs(placed, torch.float32)
    torch.manual_seed(3)
    first, second = (joint.model.bert(**inputs)[0].detach() for _ in range(2))
    means = [
        np.stack([hidden[batch["segments"] == row].double().numpy().mean(0) for row in range(batch["rows"])])
        for hidden in (first, second)
    ]
    assert np.abs(means[0] - means[1]).max() > 1e-3  # another dropout mask
    assert output.losses[1].item() == pytest.approx(by_hand(*means, 0.05), rel=1e-4)
    assert output.loss.item() == pytest.approx((output.losses[0] + 2 * output.losses[1]).item(), rel=1e-6)
    output.loss.backward()
    assert joint.model.bert.encoder.layer[0].output.dense.weight.grad.abs().sum() > 0
    assert len(joint.eval()(**batch).losses) == 1


def test_it_spreads_texts_that_masked_words_alone_leave_together(tmp_path):
    def alike(weight: float) -> float:
        model = runs.model()
        runs.run(tmp_path / f"{weight}", {"model": model}, max_steps=12, sentence_contrast=weight)
        batch = tiny.tokenizer()(runs.TARGET["text"][:20], padding=True, return_tensors="pt")
        mask = batch["attention_mask"].unsqueeze(-1)
        with torch.no_grad():
            hidden = model.eval().bert(**batch)[0]
        means = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)
        return float((means @ means.T).mean())

    assert alike(5.0) < alike(0.0) - 0.05


BAD = {
    "no dropout": (lambda: {"model": masked_models.masked_model("modernbert")}, {}, "ModernBertForMaskedLM has none"),
    "one text": (dict, {"per_device_train_batch_size": 1}, "leaves one alone"),
    "temperature": (dict, {"contrast_temperature": 0}, "contrast_temperature=0 must be positive"),
    "no contrast": (
        dict,
        {"sentence_contrast": 0, "contrast_temperature": 0.1},
        "is of sentence_contrast, which is 0",
    ),
    "negative": (dict, {"sentence_contrast": -1}, "sentence_contrast=-1 must be at least 0"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_is_refused_before_training(case, tmp_path):
    given, settings, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        runs.run(tmp_path / "run", given(), **{"sentence_contrast": 1.0} | settings)
    assert not list((tmp_path / "run").glob("*.safetensors"))
