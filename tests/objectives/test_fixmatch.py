"""Weak-to-strong consistency: value, alignment of frequencies, what is read, what moves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cases import CLASSES, array, call, make, softmax
from variants import confident

from hftransfer.objectives import build_objectives, parse_objectives
from hftransfer.objectives.second_view import SecondView, second_view_of


class Definition:
    """The method in NumPy over a stream of batches."""

    def __init__(self, aligned: bool, threshold: float | None, relative_to: str = "source"):
        self.aligned, self.threshold, self.relative_to = aligned, threshold, relative_to
        self.means = {name: np.zeros(CLASSES + 1) for name in ("source", "target")}
        self.means["confidence"] = np.zeros(2)

    def __call__(self, inputs) -> float:
        q, p = (softmax(array(inputs[name])) for name in ("target_logits", "target_view_logits"))
        source = softmax(array(inputs["source_logits"]))
        weights = array(inputs["source_weights"]) * (inputs["source_labels"].numpy() >= 0)
        if self.aligned:
            wanted, favoured = self.mean("source", source, weights), self.mean("target", q, np.ones(len(q)))
            q = q * wanted / favoured
            q = q / q.sum(1, keepdims=True)
        bar = 0.9 * np.average(source.max(1), weights=weights) if self.threshold is None else self.threshold
        if self.relative_to == "target":
            bar = self.mean("confidence", q.max(1, keepdims=True), np.ones(len(q)))[0] - 1e-7
        terms = [-np.log(row[seen.argmax()]) if seen.max() >= bar else 0.0 for row, seen in zip(p, q, strict=True)]
        return float(np.mean(terms))

    def mean(self, name: str, rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
        self.means[name] = 0.99 * self.means[name] + np.append(weights @ rows, weights.sum())
        return self.means[name][:-1] / self.means[name][-1]


def stream():
    for seed in range(4):
        inputs, g = confident(9, 12, seed=seed), torch.Generator().manual_seed(seed)
        inputs["source_labels"][::4] = -100
        inputs["source_weights"] = torch.rand(9, generator=g)
        yield inputs


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("given", [{}, {"threshold": 0.6}, {"relative_to": "target"}])
def test_value_is_the_definition_batch_by_batch(aligned, given):
    module = make("fixmatch", distribution_alignment=aligned, **given)
    definition, values = Definition(aligned, given.get("threshold"), given.get("relative_to", "source")), []
    for inputs in stream():
        values.append(definition(inputs))
        assert call(module, inputs).item() == pytest.approx(values[-1], rel=1e-5)
    assert len({*values}) == 4
    assert all(values)


def test_the_strong_view_alone_is_trained_and_towards_the_weak_views_class():
    inputs = confident()
    inputs["target_logits"] = torch.tensor([[9.0, 0, 0], [0, 9.0, 0], [0, 0, 9.0], [0.1, 0, 0], [9.0, 0, 0]])
    inputs["target_logits"].requires_grad_()
    value = call(make("fixmatch", threshold=0.9), inputs)
    (strong,) = torch.autograd.grad(value, inputs["target_view_logits"], retain_graph=True)
    (weak,) = torch.autograd.grad(value, inputs["target_logits"], allow_unused=True)
    assert weak is None
    assert strong.argmin(1)[[0, 1, 2, 4]].tolist() == [0, 1, 2, 0]
    assert not strong[3].any()  # not sure, and still one of five rows
    p = inputs["target_view_logits"].softmax(-1)
    torch.testing.assert_close(strong[0, 1:], p[0, 1:] / 5)


def test_alignment_takes_rows_from_a_class_that_is_predicted_too_often():
    """Both classes are as frequent in the source; the model says class 0 of nearly every target row."""
    source = torch.tensor([[3.0, 0.0], [0.0, 3.0]])
    target = torch.tensor([[1.0, 0.0], [0.8, 0.0], [1.2, 0.0], [0.2, 0.0]])
    strong = torch.zeros(4, 2, requires_grad=True)
    pulls = {}
    for aligned in (False, True):
        module = make("fixmatch", classes=2, threshold=0.0, distribution_alignment=aligned)
        (pulls[aligned],) = torch.autograd.grad(module(target, strong, source), strong)
    assert pulls[False].argmin(1).tolist() == [0, 0, 0, 0]
    assert pulls[True].argmin(1).tolist() == [0, 0, 0, 1]


def test_what_is_read_follows_the_settings():
    assert set(make("fixmatch", threshold=0.9).inputs) == {"target_logits", "target_view_logits"}
    assert "source_logits" in make("fixmatch").inputs
    assert "source_weights" in make("fixmatch", threshold=0.9, distribution_alignment=True).inputs
    assert set(make("fixmatch", relative_to="target").inputs) == {"target_logits", "target_view_logits"}


def test_in_a_run_without_a_source_the_bar_follows_the_target():
    def built(**settings):
        return build_objectives(parse_objectives({"fixmatch": settings}), 4, 3, num_sources=0)[0]["fixmatch"]

    alone = built()
    assert set(alone.inputs) == {"target_logits", "target_view_logits"}
    unsure = torch.tensor([[0.2, 0.0, 0.0], [0.1, 0.0, 0.0]])
    assert alone(unsure, torch.zeros(2, 3)).item() == pytest.approx(np.log(3) / 2)
    assert built(threshold=0.9).pseudo_labels.own_confidence is None


def test_a_run_has_one_second_view():
    def view(objectives):
        return second_view_of(parse_objectives(objectives))

    assert view({"mmd": 1.0}) is None
    assert view({"nt_xent": 1.0}) == SecondView("same")
    assert view({"nt_xent": 1.0, "fixmatch": 1.0}) == SecondView("strong")
    assert view({"fixmatch": {"cutoff": 0.3}, "mean_teacher": 1.0}) == SecondView("strong", 0.3)
    assert view({"mean_teacher": 1.0}) is None
    assert view({"fixmatch": 0.0}) is None
    both = {"fixmatch": 1.0, "mean_teacher": {"view": "strong", "cutoff": 0.3}}
    with pytest.raises(ValueError, match="fixmatch and mean_teacher want different second views"):
        view(both)


@pytest.mark.parametrize("distance", ["squared", "divergence"])
def test_mean_teacher_is_the_definition(distance):
    inputs = confident()
    p, q = (softmax(array(inputs[name])) for name in ("target_logits", "averaged_target_logits"))
    expected = ((p - q) ** 2).sum(1).mean() if distance == "squared" else (q * np.log(q / p)).sum(1).mean()
    value = call(make("mean_teacher", distance=distance), inputs)
    assert value.item() == pytest.approx(expected, rel=1e-5)
    inputs["averaged_target_logits"] = inputs["target_logits"].detach()
    assert call(make("mean_teacher", distance=distance), inputs).item() == pytest.approx(0, abs=1e-6)


def test_mean_teacher_reads_the_view_that_is_asked_for():
    def student(**settings):
        return build_objectives(parse_objectives({"mean_teacher": settings}), 4, 3)[0]["mean_teacher"].inputs

    assert student()["target_logits"] == "target_logits"
    assert student(view="strong")["target_logits"] == "target_view_logits"


def test_gradients_reach_the_student_of_a_mean_teacher_alone():
    inputs = confident()
    inputs["averaged_target_logits"].requires_grad_()
    value = call(make("mean_teacher"), inputs)
    assert (
        torch.autograd.grad(value, inputs["averaged_target_logits"], allow_unused=True, retain_graph=True)[0] is None
    )
    assert torch.autograd.grad(value, inputs["target_logits"])[0].any()
