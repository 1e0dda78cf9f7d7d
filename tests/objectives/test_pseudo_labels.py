"""Pseudo-labels: the bar relative to the source, by class, fixed; state; what is no source row."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cases import array, batch, call, make, softmax

from hftransfer.objectives.drawn_settings import draw_settings
from hftransfer.objectives.pseudo_labels import PseudoLabels


def logits(rows: int, classes: int = 4, seed: int = 0, scale: float = 2.0) -> torch.Tensor:
    return scale * torch.randn(rows, classes, generator=torch.Generator().manual_seed(seed))


def labels_above(p: np.ndarray, bars: np.ndarray) -> list[int]:
    return [int(row.argmax()) if row.max() >= bars[row.argmax()] else -100 for row in p]


def test_the_bar_is_a_share_of_the_weighted_mean_confidence_of_labelled_source_rows():
    for seed in range(5):
        source, target = logits(12, seed=seed), logits(40, seed=50 + seed, scale=1.0)
        labels = torch.randint(0, 4, (12,), generator=torch.Generator().manual_seed(seed))
        labels[::3] = -100
        weights = torch.rand(12, generator=torch.Generator().manual_seed(seed))
        for share in (0.0, 0.8, 1.0):
            confidence = softmax(array(source)).max(1)
            bar = share * np.average(confidence, weights=array(weights) * (labels.numpy() >= 0))
            found = PseudoLabels(relative_threshold=share)(target, source, labels, weights).tolist()
            assert found == labels_above(softmax(array(target)), np.full(4, bar)), (seed, share)


def test_by_class_the_bar_follows_how_often_a_class_passes():
    """Flexible thresholds by their definition over a stream of batches in which one class is seldom sure."""
    module, lowered = PseudoLabels(4, relative_threshold=0.9, per_class=True), 0
    passed, rows = np.zeros(4), 0.0
    for seed in range(6):
        source, target = logits(16, seed=seed), logits(64, seed=100 + seed, scale=1.5)
        target[:, 3] -= 1.0
        p = softmax(array(target))
        bar = 0.9 * softmax(array(source)).max(1).mean()
        counts = np.bincount(p.argmax(1)[p.max(1) >= bar], minlength=4)
        passed, rows = 0.99 * passed + counts, 0.99 * rows + 64
        share = passed / rows
        learnt = share / max(share.max(), 1 - share.sum())
        bars = bar * np.maximum(0.5, learnt / (2 - learnt))
        found = module(target, source).tolist()
        assert found == labels_above(p, bars)
        lowered += sum(label == 3 for label in found) - counts[3]
    assert lowered > 0


def test_without_a_source_the_bar_is_the_running_confidence_on_the_target_itself():
    """FreeMatch's threshold over a stream, of which the model is less and less sure: the bar follows."""
    for share in (None, 0.8):
        module, total, rows = PseudoLabels(relative_threshold=share, relative_to="target"), 0.0, 0.0
        for seed, scale in enumerate((2.0, 1.0, 0.5, 0.2)):
            target = logits(30 + seed, seed=seed, scale=scale)
            p = softmax(array(target))
            total, rows = 0.99 * total + p.max(1).sum(), 0.99 * rows + len(p)
            expected = labels_above(p, np.full(4, (share or 1.0) * total / rows))
            assert module(target).tolist() == expected, (share, seed)
        copy = PseudoLabels(relative_to="target")
        copy.load_state_dict(module.state_dict())  # of a run that was resumed
        assert float(copy.own_confidence.total) == pytest.approx(total, rel=1e-5)
    assert not dict(PseudoLabels(threshold=0.5, relative_to="target").named_buffers())
    with pytest.raises(ValueError, match="Did you mean 'target'"):
        PseudoLabels(relative_to="targets")


def test_a_fixed_threshold_needs_no_source_and_a_relative_one_says_so():
    target = torch.tensor([[0.8, 0.2], [0.55, 0.45]]).log()
    assert PseudoLabels(threshold=0.6)(target).tolist() == [0, -100]
    with pytest.raises(ValueError, match="needs source_logits"):
        PseudoLabels()(target)
    assert "source_logits" not in make("supcon", threshold=0.9).inputs
    assert "source_logits" in make("supcon").inputs


def test_without_a_labelled_source_row_the_source_counts_as_certain():
    target, source = torch.tensor([[0.92, 0.08], [0.88, 0.12]]).log(), torch.zeros(3, 2)
    assert PseudoLabels()(target, source, torch.full((3,), -100)).tolist() == [0, -100]
    assert PseudoLabels()(target, source).tolist() == [0, 0]


@pytest.mark.parametrize("kind", ["supcon", "prototype"])
def test_a_target_that_never_reaches_a_high_number_takes_part_all_the_same(kind):
    """The model is 60 % sure of both domains: 0.9 takes no row of the target, nine tenths of the source's all."""
    inputs = batch(classes=3)
    sure = torch.tensor([0.6, 0.2, 0.2]).log()
    inputs |= {f"{domain}_logits": sure.expand(rows, 3) for domain, rows in (("source", 7), ("target", 5))}
    inputs["source_labels"] = torch.zeros(7, dtype=torch.long)
    assert call(make(kind, threshold=0.9), inputs).item() == 0
    assert call(make(kind), inputs).item() > 0


def test_a_sweep_leaves_the_relative_threshold_alone_where_it_is_fixed():
    for kind in ("supcon", "prototype", "fixmatch"):
        assert "relative_threshold" in draw_settings({kind: {}}, 0)[kind]
        assert "relative_threshold" not in draw_settings({kind: {"threshold": 0.8}}, 0)[kind]
    assert "relative_threshold" in draw_settings({"prototype": {"statistics": "runs/published"}}, 0)["prototype"]
