"""Bi-Tuning against NumPy, with and without a queue."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cases import array, batch, call, descend, make, unit

EMPTY = np.empty((0, 6)), np.empty((0, 4)), np.empty(0, dtype=int)


def side(anchors, labels, keys, key_labels, tau, skip_self) -> float:
    """Sum of ℓ over labelled anchors."""
    total = 0.0
    for i, (anchor, y) in enumerate(zip(anchors, labels, strict=True)):
        usable = [j for j in range(len(keys)) if key_labels[j] >= 0 and not (skip_self and j == i)]
        positives = [j for j in usable if key_labels[j] == y]
        if y < 0 or not positives:
            continue
        logits = {j: anchor @ keys[j] / tau for j in usable}
        log_sum = np.log(sum(np.exp(v) for v in logits.values()))
        total -= np.mean([logits[j] - log_sum for j in positives])
    return total


def expected(inputs, module, queue=EMPTY) -> float:
    h, y = array(inputs["source_features"]), inputs["source_labels"].numpy()
    z = unit(h @ array(module.projection.weight).T + array(module.projection.bias))
    h, w = unit(h), unit(array(inputs["class_vectors"]))
    keys_h, keys_z, labels = (np.concatenate(pair) for pair in zip((h, z, y), queue, strict=True))
    classes = side(w[np.maximum(y, 0)], y, keys_h, labels, module.temperature, False)
    return (classes + side(z, y, keys_z, labels, module.temperature, True)) / (y >= 0).sum()


def test_value_without_a_queue():
    inputs, module = batch(), make("bi_tuning", queue=0, temperature=0.3, projection_dim=4)
    inputs["source_labels"] = torch.tensor([0, 1, 0, -100, 1, 2, 0])  # 2 is alone: nothing in the second term
    assert call(module, inputs).item() == pytest.approx(expected(inputs, module), rel=1e-5)


def test_value_over_a_queue():
    first, second, module = batch(seed=1), batch(), make("bi_tuning", queue=2, temperature=0.3, projection_dim=4)
    call(module, first)
    kept = array(module.queue.rows()[0])  # the last six of seven
    assert kept.shape == (6, 10)
    queue = kept[:, :6], kept[:, 6:], module.queue.rows()[1].numpy()
    assert call(module, second).item() == pytest.approx(expected(second, module, queue), rel=1e-5)


def test_descending_gathers_rows_round_their_class_vector():
    inputs, module = batch(12), make("bi_tuning", queue=0, temperature=0.2)
    y = inputs["source_labels"] = torch.arange(12) % 3
    x, w = (inputs[k].detach().clone().requires_grad_() for k in ("source_features", "class_vectors"))

    def near() -> float:
        cosines = torch.cosine_similarity(x.unsqueeze(1), w.unsqueeze(0), dim=-1)
        return (cosines.gather(1, y.unsqueeze(1)).mean() - cosines.mean()).item()

    before = near()
    descend(lambda: call(module, inputs, source_features=x, class_vectors=w), [x, w, *module.parameters()], 100, 0.05)
    assert near() > before + 0.4
