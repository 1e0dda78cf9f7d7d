"""Supervised contrast across domains: value, pseudo-labels, weights, queue, chunks."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from cases import array, batch, call, domains, make, softmax, unit
from moment_cases import weighted


def contrast(anchors, labels, candidates, candidate_labels, tau, weights=None, counts=None) -> float:
    """Mean over anchors with a positive of the mean over positives of -log share among labelled candidates. Anchors
    weigh `weights` and candidates `counts` where they are given."""
    weights = np.ones(len(anchors)) if weights is None else weights
    counts = np.ones(len(candidates)) if counts is None else counts
    values, shares = [], []
    usable = [j for j, label in enumerate(candidate_labels) if label >= 0]
    for z, label, weight in zip(anchors, labels, weights, strict=True):
        positives = [j for j in usable if candidate_labels[j] == label and counts[j] > 0]
        if label < 0 or not positives:
            continue
        total = sum(counts[j] * math.exp(z @ candidates[j] / tau) for j in usable)
        terms = [-math.log(math.exp(z @ candidates[j] / tau) / total) for j in positives]
        values.append(np.average(terms, weights=counts[positives]))
        shares.append(weight)
    return float(np.average(values, weights=shares)) if values else 0.0


def supcon(inputs, tau=0.1, threshold=None, queue=()) -> float:
    """`queue` holds features, labels and weights of earlier batches. Without a threshold it is 0.9 of the source's
    mean confidence."""
    s, t = map(unit, domains(inputs))
    p = softmax(array(inputs["target_logits"]))
    if threshold is None:
        labelled = (inputs["source_labels"].numpy() >= 0) * array(inputs["source_weights"])
        threshold = 0.9 * np.average(softmax(array(inputs["source_logits"])).max(1), weights=labelled)
    pseudo = np.where(p.max(1) >= threshold, p.argmax(1), -100)
    labels, weights = inputs["source_labels"].numpy(), array(inputs["source_weights"])
    more, more_labels, counts = (
        np.concatenate([now, *(past[k] for past in queue)]) for k, now in enumerate((s, labels, weights))
    )
    target_side = contrast(t, pseudo, more, more_labels, tau, counts=counts)
    return 0.5 * (target_side + contrast(s, labels, t, pseudo, tau, weights=weights))


def confident(seed=0, weigh=False, **kwargs):
    """A batch in which some target rows are confident and some are not; `weigh`: and source rows weigh 0.3 to 1.3."""
    inputs = (weighted if weigh else batch)(9, 8, seed=seed, **kwargs)
    sharpness = torch.tensor([10.0, 0.5]).repeat(4).unsqueeze(1)
    inputs["target_logits"] = sharpness * inputs["target_logits"].detach()
    share = inputs["target_logits"].softmax(-1).amax(-1) >= 0.9
    assert 0 < share.sum() < len(share)
    return inputs


@pytest.mark.parametrize("weigh", [False, True])
def test_value_is_the_definition(weigh):
    """Source rows without a label take no part."""
    for temperature, threshold, every in itertools.product((0.07, 0.5, 1.0), (0.0, 0.6, 0.9, None), (9, 2)):
        inputs = confident(weigh=weigh)
        inputs["source_labels"][::every] = -100
        module = make("supcon", temperature=temperature, threshold=threshold, queue=0)
        expected = supcon(inputs, temperature, threshold)
        assert call(module, inputs).item() == pytest.approx(expected, rel=1e-5), (temperature, threshold, every)


def test_queue_holds_normalised_labelled_source_rows_with_their_weights():
    module = make("supcon", queue=20)
    kept = np.empty((0, 6)), np.empty(0, dtype=int), np.empty(0)
    for seed in range(4):
        inputs = confident(seed, weigh=seed != 2)
        assert call(module, inputs).item() == pytest.approx(supcon(inputs, queue=[kept]), rel=1e-5)
        rows = unit(array(inputs["source_features"])), inputs["source_labels"].numpy(), array(inputs["source_weights"])
        kept = tuple(np.concatenate(pair)[-20:] for pair in zip(kept, rows, strict=True))


def test_threshold_is_inclusive():
    inputs = batch(classes=2)
    inputs["target_logits"] = torch.zeros(5, 2)
    inputs["source_labels"] = torch.zeros(7, dtype=torch.long)
    assert call(make("supcon", classes=2, threshold=0.5, queue=0), inputs).item() > 0
    assert call(make("supcon", classes=2, threshold=0.51, queue=0), inputs).item() == 0
