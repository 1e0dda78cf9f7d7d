"""Free corrections: a temperature and class frequencies, in numbers and in the final layer of a saved model."""

import numpy as np
import pytest
import tiny
import torch

from hftransfer.adaptation.corrections import Correction, training_weights
from hftransfer.adaptation.hand_over import correct_head
from hftransfer.selection.class_frequencies import estimate_label_shift
from hftransfer.selection.model_predictions import Predictions


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def test_a_correction_is_the_calibrated_posterior_under_other_frequencies():
    z, w = np.random.default_rng(0).normal(size=(7, 3)), np.array([0.5, 1.0, 3.0])
    wanted = softmax(z / 1.7) * w
    wanted /= wanted.sum(1, keepdims=True)
    np.testing.assert_allclose(np.exp(Correction(1.7, w)(z)), wanted, rtol=1e-12)
    np.testing.assert_allclose(np.exp(Correction()(z)), softmax(z), rtol=1e-12)


@torch.no_grad()
def test_the_final_layer_says_what_the_correction_said():
    model, batch = tiny.bert().eval(), tiny.tokenizer()(["w1 up", "w2 w3 down"], padding=True, return_tensors="pt")
    plain = model(**batch).logits.double().numpy()
    correction = Correction(0.6, np.array([2.0, 0.3, 1.0]))
    correct_head(model, "classifier", correction)
    np.testing.assert_allclose(softmax(model(**batch).logits.double().numpy()), np.exp(correction(plain)), atol=1e-6)


def test_frequencies_need_a_bias():
    model = torch.nn.Sequential(torch.nn.Linear(3, 2, bias=False))
    with pytest.raises(ValueError, match="no bias"):
        correct_head(model, "0", Correction(1.0, np.array([1.0, 2.0])))
    before = model[0].weight.clone()
    correct_head(model, "0", Correction(2.0))
    torch.testing.assert_close(model[0].weight, before / 2)


def shift_of(frequencies, rows=600, seed=0):
    draw = np.random.default_rng(seed)

    def domain(p):
        labels = draw.choice(len(p), rows, p=p)
        return labels, 2.5 * np.eye(len(p))[labels] + draw.normal(size=(rows, len(p)))

    (labels, source), (_, target) = domain([1 / 3] * 3), domain(frequencies)
    return estimate_label_shift(Predictions(source, labels, target), resamples=0)


def test_source_rows_count_one_on_average_and_follow_the_estimate():
    shift, counts = shift_of([0.7, 0.2, 0.1]), np.array([100, 200, 300])
    assert shift.believed
    weights = training_weights(shift, counts)
    assert (weights * counts).sum() / counts.sum() == pytest.approx(1)
    shares = counts / counts.sum()
    ratio = np.clip(shift.target_frequencies / shares, 0.2, 5.0)
    np.testing.assert_allclose(weights / weights[0], ratio / ratio[0], rtol=1e-9)
    assert weights.argmax() == 0


def test_no_weights_where_no_shift_is_believed():
    shift = shift_of([1 / 3] * 3)
    assert not shift.believed
    assert training_weights(shift, np.array([10, 10, 10])) is None
    assert training_weights(None, np.array([10, 10, 10])) is None
