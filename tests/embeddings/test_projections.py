"""Projections: pairs that are drawn, the closed-form start, training that stops early and goes on where it stopped."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hftransfer import ProjectionSettings
from hftransfer.embeddings.image_text.image_text_pairs import ImageTextPairs, joined
from hftransfer.embeddings.image_text.projection_training import STATE, train_projections
from hftransfer.embeddings.image_text.projections import ridge_projections

CLASSES, ROWS, IMAGE, TEXT = 6, 48, 10, 7


def world(seed: int = 0) -> ImageTextPairs:
    """Images and texts of classes in a hidden space of three dimensions, far from the origin as features are."""
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(CLASSES, 3))
    to_image, to_text = rng.normal(size=(3, IMAGE)), rng.normal(size=(3, TEXT))
    labels, text_labels = np.arange(ROWS) % CLASSES, np.repeat(np.arange(CLASSES), 2)
    images = hidden[labels] @ to_image + 0.1 * rng.normal(size=(ROWS, IMAGE)) + 4
    texts = hidden[text_labels] @ to_text + 0.1 * rng.normal(size=(len(text_labels), TEXT)) - 2
    return ImageTextPairs(images.astype(np.float32), labels, texts.astype(np.float32), text_labels)


def accuracy(pairs: ImageTextPairs, projections) -> float:
    with torch.no_grad():
        u, v = projections.images(torch.from_numpy(pairs.images)), projections.texts(torch.from_numpy(pairs.texts))
    return float((pairs.text_groups[(u @ v.T).argmax(1).numpy()] == pairs.image_groups).mean())


def test_texts_are_drawn_from_the_image_s_group_and_groups_alike():
    pairs = ImageTextPairs(np.zeros((5, 2)), np.array([8, 8, 8, 8, 3]), np.zeros((4, 2)), np.array([3, 8, 3, 8]))
    images, texts = pairs.draw(4000, np.random.default_rng(0))
    assert (pairs.text_groups[texts] == pairs.image_groups[images]).all()
    assert np.bincount(images) / 4000 == pytest.approx([0.125] * 4 + [0.5], abs=0.03)
    assert np.bincount(texts) / 4000 == pytest.approx([0.25] * 4, abs=0.03)


def test_joined_groups_stay_apart_and_keep_their_weights():
    pairs = world()
    both = joined(pairs, pairs)
    assert not set(both.image_groups[:ROWS]) & set(both.image_groups[ROWS:])
    assert both.weights.tolist() == [*pairs.weights, *pairs.weights]
    images, texts = both.draw(200, np.random.default_rng(0))
    assert (both.text_groups[texts] == both.image_groups[images]).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": np.full((ROWS, IMAGE), np.nan)}, "images: the features are not all finite"),
        ({"image_groups": np.arange(ROWS)}, "group 6 have no text"),
        ({"text_groups": np.arange(3)}, "texts must be"),
        ({"weights": np.zeros(ROWS)}, "not all of them 0"),
    ],
)
def test_pairs_that_cannot_be_used_are_refused(change, message):
    pairs = world()
    with pytest.raises(ValueError, match=message):
        ImageTextPairs(**{name: change.get(name, getattr(pairs, name)) for name in vars(pairs)})


def test_start_is_the_ridge_regression_of_numpy():
    pairs, ridge = world(), 0.7
    found = ridge_projections(pairs, ridge=ridge)
    weights = np.full(ROWS, 1 / ROWS)  # classes are of one size
    x, t = pairs.images.astype(float), pairs.texts.astype(float)

    def unit(rows):
        return rows / np.linalg.norm(rows, axis=-1, keepdims=True)

    def out(rows, direction):
        return rows - np.outer(rows @ unit(direction), unit(direction))

    x = out(x, x.mean(0))
    x /= np.linalg.norm(x, axis=1).mean()
    t = unit(out(t, unit(t).reshape(CLASSES, 2, -1).mean(1).mean(0))).reshape(CLASSES, 2, -1).mean(1)
    gram = sum(w * np.outer(row, row) for w, row in zip(weights, x, strict=True))
    moment = sum(w * np.outer(row, t[k]) for w, row, k in zip(weights, x, pairs.image_groups, strict=True))
    by_hand = np.linalg.solve(gram + ridge * np.trace(gram) / IMAGE * np.eye(IMAGE), moment)
    with torch.no_grad():
        images = found.images(torch.from_numpy(pairs.images)).numpy()
    np.testing.assert_allclose(images, unit(x @ by_hand), atol=1e-5)


@pytest.mark.parametrize("width", [0, 3])
def test_start_finds_the_classes(width):
    pairs = world()
    projections = ridge_projections(pairs, width, ridge=0.1)
    assert projections.width == (width or TEXT)
    assert accuracy(pairs, projections) > 0.9


@pytest.mark.parametrize(("width", "ridge", "message"), [(TEXT + 1, 1.0, "width=8"), (0, 0.0, "ridge=0.0")])
def test_a_start_that_cannot_be_is_refused(width, ridge, message):
    with pytest.raises(ValueError, match=message):
        ridge_projections(world(), width, ridge)


@pytest.mark.parametrize(("loss", "steps"), [("clip", 60), ("siglip", 600)])
def test_training_lowers_the_error_of_a_start_without_knowledge(loss, steps):
    pairs = world()
    settings = ProjectionSettings(loss=loss, steps=steps, batch_size=64, ridge=1e6, learning_rate=0.02)
    start, trained = ridge_projections(pairs, ridge=1e6), train_projections(pairs, settings).projections
    assert accuracy(pairs, trained) > accuracy(pairs, start) + 0.1
    assert accuracy(pairs, trained) > 0.9


def score_of(values):
    """Scores by the order of evaluation, whatever is scored."""
    remaining = iter(values)
    return lambda projections: next(remaining)


def test_the_best_evaluation_is_kept_and_training_stops():
    settings = ProjectionSettings(steps=100, evaluation_steps=2, patience=3)
    found = train_projections(world(), settings, score_of([0.1, 0.5, 0.4, 0.5, 0.3]))
    assert found.step == 2
    assert list(found.scores) == [0, 2, 4, 6, 8]
    until_then = train_projections(world(), ProjectionSettings(steps=2, evaluation_steps=2, patience=3))
    for name, tensor in until_then.projections.state_dict().items():
        assert torch.equal(tensor, found.projections.state_dict()[name])


def test_a_start_that_nothing_improves_is_kept():
    settings = ProjectionSettings(steps=10, evaluation_steps=2)
    found = train_projections(world(), settings, score_of([0.5, 0.4, 0.4, 0.4, 0.4, 0.4]))
    assert found.step == 0
    assert torch.equal(found.projections.visual.weight, ridge_projections(world()).visual.weight)


def test_a_run_that_broke_goes_on_bit_for_bit(tmp_path):
    settings = ProjectionSettings(steps=12, evaluation_steps=3)
    calls = []

    def score(projections, breaks=False):
        calls.append(1)
        if breaks and len(calls) == 3:
            raise KeyboardInterrupt
        return accuracy(world(), projections) + float(projections.logit_scale)

    undisturbed = train_projections(world(), settings, score)
    calls.clear()
    with pytest.raises(KeyboardInterrupt):
        train_projections(world(), settings, lambda p: score(p, True), tmp_path)
    calls.clear()
    resumed = train_projections(world(), settings, score, tmp_path)
    assert len(calls) == 3  # of steps 6, 9 and 12
    assert resumed.scores == undisturbed.scores
    assert resumed.step == undisturbed.step
    for name, tensor in undisturbed.projections.state_dict().items():
        assert torch.equal(tensor, resumed.projections.state_dict()[name])
    again = train_projections(world(), settings, score, tmp_path)
    assert again.scores == undisturbed.scores
    assert len(calls) == 3


def test_a_state_of_another_run_is_refused(tmp_path):
    train_projections(world(), ProjectionSettings(steps=2), folder=tmp_path)
    for pairs, settings in ((world(1), ProjectionSettings(steps=2)), (world(), ProjectionSettings(steps=3))):
        with pytest.raises(ValueError, match="other pairs or with other settings"):
            train_projections(pairs, settings, folder=tmp_path)
    (tmp_path / STATE).write_bytes(b"cut")
    with pytest.raises(ValueError, match="remove it to start anew"):
        train_projections(world(), ProjectionSettings(steps=2), folder=tmp_path)


def test_seeds_differ_and_one_seed_does_not():
    weights = [
        train_projections(world(), ProjectionSettings(steps=3, seed=seed)).projections.visual.weight
        for seed in (0, 0, 1)
    ]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss": "clp"}, "Did you mean 'clip'"),
        ({"steps": -1}, "steps=-1 must be a whole number, at least 0"),
        ({"batch_size": 1.5}, "batch_size=1.5"),
        ({"learning_rate": float("nan")}, "learning_rate=nan"),
        ({"ridge": 0}, "ridge=0 must be positive"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        ProjectionSettings(**settings)
