"""Supervised contrast across domains: value, pseudo-labels, queue."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from cases import array, batch, call, make, softmax


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def contrast(anchors, labels, candidates, candidate_labels, tau) -> float:
    """Mean over anchors with a positive of the mean over positives of -log share among labelled candidates."""
    values = []
    usable = [j for j, label in enumerate(candidate_labels) if label >= 0]
    for z, label in zip(anchors, labels, strict=True):
        positives = [j for j in usable if candidate_labels[j] == label]
        if label < 0 or not positives:
            continue
        total = sum(math.exp(z @ candidates[j] / tau) for j in usable)
        values.append(np.mean([-math.log(math.exp(z @ candidates[j] / tau) / total) for j in positives]))
    return float(np.mean(values)) if values else 0.0


def supcon(inputs, tau=0.1, threshold=0.9, queue=()) -> float:
    s, t = unit(array(inputs["source_features"])), unit(array(inputs["target_features"]))
    p = softmax(array(inputs["target_logits"]))
    pseudo = np.where(p.max(1) >= threshold, p.argmax(1), -100)
    labels = inputs["source_labels"].numpy()
    more = np.concatenate([s, *(rows for rows, _ in queue)])
    more_labels = np.concatenate([labels, *(y for _, y in queue)])
    return 0.5 * (contrast(t, pseudo, more, more_labels, tau) + contrast(s, labels, t, pseudo, tau))


def confident(seed=0, **kwargs):
    """A batch in which some target rows are confident and some are not."""
    inputs = batch(9, 8, seed=seed, **kwargs)
    sharpness = torch.tensor([10.0, 0.5]).repeat(4).unsqueeze(1)
    inputs["target_logits"] = sharpness * inputs["target_logits"].detach()
    share = inputs["target_logits"].softmax(-1).amax(-1) >= 0.9
    assert 0 < share.sum() < len(share)
    return inputs


@pytest.mark.parametrize("temperature", [0.07, 0.5, 1.0])
@pytest.mark.parametrize("threshold", [0.0, 0.6, 0.9])
def test_value_is_the_definition(temperature, threshold):
    inputs = confident()
    module = make("supcon", temperature=temperature, threshold=threshold, queue=0)
    assert call(module, inputs).item() == pytest.approx(supcon(inputs, temperature, threshold), rel=1e-5)


def test_source_rows_without_a_label_take_no_part():
    inputs = confident()
    inputs["source_labels"] = inputs["source_labels"].clone()
    inputs["source_labels"][::2] = -100
    fewer = {**inputs, **{k: inputs[k][1::2] for k in ("source_features", "source_labels")}}
    module = make("supcon", queue=0)
    assert call(module, inputs).item() == pytest.approx(supcon(inputs), rel=1e-5)
    torch.testing.assert_close(call(module, inputs), call(module, fewer))


def test_queue_holds_normalised_labelled_source_rows():
    module = make("supcon", queue=20)
    seen = []
    for seed in range(3):
        inputs = confident(seed)
        kept = np.concatenate([rows for rows, _ in seen])[-20:] if seen else np.empty((0, 6))
        labels = np.concatenate([y for _, y in seen])[-20:] if seen else np.empty(0, dtype=int)
        assert call(module, inputs).item() == pytest.approx(supcon(inputs, queue=[(kept, labels)]), rel=1e-5)
        seen.append((unit(array(inputs["source_features"])), inputs["source_labels"].numpy()))


def test_queue_survives_a_state_dict():
    module, other = make("supcon", queue=16), make("supcon", queue=16)
    for seed in range(3):
        call(module, confident(seed))
    other.load_state_dict(module.state_dict())
    for seed in (4, 5):
        assert torch.equal(call(module, confident(seed)), call(other, confident(seed)))


@pytest.mark.parametrize("queue", [0, 8])
def test_nothing_confident_is_nothing(queue):
    """0, with a gradient of 0: an untrained head must not be taken at its word."""
    inputs = batch()
    inputs["target_logits"] = torch.zeros(5, 3)
    module = make("supcon", queue=queue)
    for _ in range(2):  # the second time the queue is filled
        value = call(module, inputs)
        assert value.item() == 0
        for gradient in torch.autograd.grad(value, [inputs["source_features"], inputs["target_features"]]):
            assert not gradient.any()


def test_threshold_is_inclusive():
    inputs = batch(classes=2)
    inputs["target_logits"] = torch.zeros(5, 2)
    inputs["source_labels"] = torch.zeros(7, dtype=torch.long)
    assert call(make("supcon", classes=2, threshold=0.5, queue=0), inputs).item() > 0
    assert call(make("supcon", classes=2, threshold=0.51, queue=0), inputs).item() == 0


def test_collapsed_features_score_the_log_of_their_candidates():
    """All alike: every candidate has the same share, so it is log(candidates) for each side."""
    inputs = batch(6, 4)
    inputs |= {"source_features": torch.ones(6, 6), "target_features": torch.ones(4, 6)}
    inputs |= {"source_labels": torch.tensor([0, 1, 2, 0, 1, 2]), "target_logits": 50 * torch.eye(3)[[0, 1, 2, 0]]}
    expected = (math.log(6) + math.log(4)) / 2
    assert call(make("supcon", queue=0), inputs).item() == pytest.approx(expected, rel=1e-5)


def test_aligned_classes_score_less_than_mixed_ones():
    inputs = batch(6, 6)
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    rows = torch.eye(6)[labels]
    inputs |= {"source_features": rows, "source_labels": labels, "target_logits": 50 * torch.eye(3)[labels]}
    module = make("supcon", queue=0)
    aligned = call(module, inputs, target_features=rows).item()
    assert aligned == pytest.approx(math.log(2 + 4 * math.exp(-10)), rel=1e-4)  # two equal positives a row
    assert call(module, inputs, target_features=rows.roll(1, 0)).item() > aligned + 5


def test_invariances():
    module, inputs = make("supcon", queue=0), confident()
    value = call(module, inputs)
    rotation = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(1)))[0]
    features = {k: inputs[k] for k in ("source_features", "target_features")}
    for what, change in {
        "row order": {k: inputs[k].flip(0) for k in (*features, "source_labels", "target_logits")},
        "length of rows": {k: 50 * x for k, x in features.items()},
        "rotation": {k: x @ rotation for k, x in features.items()},
        "sign": {k: -x for k, x in features.items()},
        "class names": {
            "source_labels": 2 - inputs["source_labels"],
            "target_logits": inputs["target_logits"].flip(1),
        },
    }.items():
        torch.testing.assert_close(call(module, inputs, **change), value, msg=what, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("queue", [0, 8])
def test_gradcheck(queue):
    module, inputs = make("supcon", queue=queue, temperature=0.5).double(), confident(dtype=torch.float64)
    call(module, confident(seed=1, dtype=torch.float64))  # fills the queue
    state = {k: v.clone() for k, v in module.state_dict().items()}

    def forward(x, y):
        module.load_state_dict(state)
        return call(module, inputs, source_features=x, target_features=y)

    assert torch.autograd.gradcheck(forward, (inputs["source_features"], inputs["target_features"]))


@pytest.mark.parametrize(
    "settings",
    [{"temperature": 0}, {"temperature": float("nan")}, {"threshold": 1.5}, {"threshold": -0.1}, {"queue": -1}],
)
def test_bad_settings(settings):
    with pytest.raises(ValueError, match="must be"):
        make("supcon", **settings)
