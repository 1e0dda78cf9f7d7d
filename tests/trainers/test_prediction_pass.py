"""Predictions on fixed rows: what the plain model says of each, from a pass that leaves no trace in a run."""

from __future__ import annotations

import random

import blobs
import families
import numpy as np
import pictures
import pytest
import runs
import tiny
import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import TrainerCallback

from hftransfer.models.layer_hook import LayerHook
from hftransfer.trainers.prediction_pass import predict_mixed, predict_rows

SPREAD = {"initializer_range": 0.5}  # predictions vary from row to row


def plain(model, text: str, head: str = "classifier") -> tuple[np.ndarray, np.ndarray]:
    """Logits, and what the final layer sees, of one text without padding."""
    kept = []
    hook = model.get_submodule(head).register_forward_pre_hook(lambda _, args: kept.append(args[0]))
    with torch.no_grad():
        logits = model.eval()(**tiny.tokenizer()(text, return_tensors="pt")).logits
    hook.remove()
    return logits[0].numpy(), kept[0][0].numpy()


def test_logits_labels_and_features_are_the_plain_models(tmp_path):
    data = tiny.domain(21, seed=5)
    run = runs.trainer(tmp_path, tiny.bert(**SPREAD), per_device_eval_batch_size=4)
    predictions = predict_rows(run, data)
    expected = [plain(run.model.model, text) for text in data["text"]]
    np.testing.assert_allclose(predictions.logits, [logits for logits, _ in expected], atol=1e-5)
    np.testing.assert_allclose(predictions.features, [seen for _, seen in expected], atol=2e-3)
    assert predictions.labels.tolist() == data["label"]
    assert predictions.rows.tolist() == list(range(21))
    assert (predictions.logits.dtype, predictions.features.dtype) == (np.float32, np.float16)


def test_features_of_an_inner_layer(tmp_path):
    """By the model's own report; the hook is gone afterwards, and no layer that is not there is taken."""
    data = tiny.domain(9, seed=5)
    run = runs.trainer(tmp_path, tiny.bert(**SPREAD), per_device_eval_batch_size=4)
    model = run.model.model
    seen = predict_rows(run, data, feature_layer="hidden:0")
    for text, features in zip(data["text"], seen.features, strict=True):
        with torch.no_grad():
            states = model.eval()(
                **tiny.tokenizer()(text, return_tensors="pt"), output_hidden_states=True
            ).hidden_states
        np.testing.assert_allclose(features, states[1][0].mean(0), atol=2e-3)
    assert np.array_equal(seen.logits, predict_rows(run, data).logits)
    assert not [m for m in model.modules() if any(isinstance(h.__self__, LayerHook) for h in hooks_of(m))]
    with pytest.raises(ValueError, match="layers only"):
        predict_rows(run, data, feature_layer="hidden:9")


def hooks_of(module):
    return [hook for hook in module._forward_hooks.values() if hasattr(hook, "__self__")]


def test_a_subset_is_fixed_by_its_seed_and_a_larger_one_holds_it(tmp_path):
    data = tiny.domain(30, seed=5, labelled=False)
    run = runs.trainer(tmp_path, tiny.bert(**SPREAD))
    encoded = run.prepared.encode_evaluation(data, "data")
    whole = predict_rows(run, encoded)
    few, again, others, more = (
        predict_rows(run, encoded, rows=rows, seed=seed) for rows, seed in ((8, 1), (8, 1), (8, 2), (20, 1))
    )
    assert few.labels is None
    assert few.rows.tolist() == sorted(set(few.rows)) == again.rows.tolist() != others.rows.tolist()
    assert set(few.rows) < set(more.rows)
    assert len(predict_rows(run, encoded, rows=99).rows) == 30
    np.testing.assert_allclose(few.logits, whole.logits[few.rows], atol=1e-5)


def test_wide_features_keep_their_distances_on_a_fixed_projection(tmp_path):
    data = tiny.domain(40, seed=5)
    run = runs.trainer(tmp_path, tiny.bert(hidden_size=256, **SPREAD))
    whole, narrow = (predict_rows(run, data, features=width).features.astype(float) for width in (256, 64))
    assert (whole.shape, narrow.shape) == ((40, 256), (40, 64))
    pairs = [np.linalg.norm(x[:, None] - x[None], axis=-1)[np.triu_indices(40, 1)] for x in (whole, narrow)]
    assert np.corrcoef(*pairs)[0, 1] > 0.8
    assert np.mean(pairs[1]) == pytest.approx(np.mean(pairs[0]), rel=0.15)
    other = runs.trainer(tmp_path / "other", run.model.model)
    np.testing.assert_array_equal(predict_rows(other, data, seed=3).features, narrow)
    assert predict_rows(run, data, features=None).features is None


def test_in_tagging_a_row_is_a_word(tmp_path):
    data = tiny.tagged(15, seed=5)
    run = runs.trainer(
        tmp_path,
        tiny.bert(tiny.TAGS, tagging=True, **SPREAD),
        train_dataset=tiny.tagged(),
        target_dataset=tiny.tagged(labelled=False),
        per_device_eval_batch_size=4,
    )
    predictions, unlabelled = predict_rows(run, data), predict_rows(run, data.remove_columns("label"))
    words = [(row, tag) for row, tags in enumerate(data["label"]) for tag in tags]
    assert predictions.rows.tolist() == unlabelled.rows.tolist() == [row for row, _ in words]
    assert predictions.labels.tolist() == [tag for _, tag in words]
    assert unlabelled.labels is None
    np.testing.assert_array_equal(predictions.logits, unlabelled.logits)
    assert predictions.features.shape == (len(words), 32)
    for row, tokens in enumerate(data["tokens"]):
        encoded = tiny.tokenizer()(tokens, is_split_into_words=True, return_tensors="pt")
        starts = [encoded.word_to_tokens(word).start for word in range(len(tokens))]
        with torch.no_grad():
            logits = run.model.model.eval()(**encoded).logits[0, starts]
        np.testing.assert_allclose(predictions.logits[predictions.rows == row], logits, atol=1e-5)
    some = predict_rows(run, data, rows=4)
    assert len(set(some.rows)) == 4
    with pytest.raises(ValueError, match="do not pair up"):
        predict_mixed(run, data, [0], [1])


def test_every_row_of_the_training_target_stays_where_a_few_labels_are_revealed(tmp_path):
    run = runs.trainer(tmp_path, target_dataset=tiny.domain(9, seed=1), reveal_target_labels=1)
    predictions = predict_rows(run, run.prepared.train.domain_rows[-1])
    assert predictions.rows.tolist() == list(range(9))
    assert (predictions.labels != -100).sum() == 3


def test_streams_adapters_and_images(tmp_path):
    data = tiny.domain(12, seed=5)
    lora = LoraConfig(r=2, target_modules=["query"], modules_to_save=["classifier"], init_lora_weights=False)
    run = runs.trainer(tmp_path / "text", tiny.bert(**SPREAD), peft_config=lora)
    first = predict_rows(run, data.to_iterable_dataset(), rows=5)
    whole = predict_rows(run, data)
    np.testing.assert_allclose(first.logits, whole.logits[:5], atol=1e-5)
    assert whole.features.shape == (12, 32)
    with pytest.raises(ValueError, match="say with rows how many"):
        predict_rows(run, data.to_iterable_dataset())

    run = runs.trainer(
        tmp_path / "images", pictures.resnet(), train_dataset=pictures.pictures(8),
        target_dataset=pictures.pictures(8, seed=1, labelled=False), processing_class=pictures.processor(),
    )  # fmt: skip
    data = pictures.pictures(7, seed=2)
    predictions = predict_rows(run, data, rows=5)
    pixels = pictures.processor()(list(data["image"]), return_tensors="pt")
    with torch.no_grad():
        logits = run.model.model.eval()(**pixels).logits[predictions.rows].numpy()
    np.testing.assert_allclose(predictions.logits, logits, atol=1e-5)
    assert predictions.features.shape == (5, 16)


class Looks(TrainerCallback):
    """Predicts after every step; keeps the random numbers that come before and after, and the modes."""

    run = None

    def on_step_end(self, args, state, control, **kwargs):
        def drawn():
            states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
            return states, [module.training for module in self.run.model.modules()]

        before = drawn()
        predict_rows(self.run, tiny.domain(5, seed=7), rows=3)
        predict_mixed(self.run, tiny.domain(5, seed=7), [0, 1], [1, 2])
        assert drawn() == before


@pytest.mark.parametrize("images", [False, True])
def test_a_run_that_is_looked_at_trains_on_bit_for_bit(tmp_path, images):
    def go(name, *callbacks):
        extra = {}
        if images:
            extra = {"model": blobs.resnet(), "train_dataset": blobs.domain(20), "processing_class": blobs.processor()}
            extra["target_dataset"] = blobs.domain(20, 1, 80, labelled=False)
        run = runs.trainer(tmp_path / name, callbacks=list(callbacks), max_steps=4, **extra)
        for callback in callbacks:
            callback.run = run
        run.train()
        return run

    looks = ImageLooks() if images else Looks()
    alone, watched = go("alone"), go("watched", looks)
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in watched.model.modules()]
    assert hooks == [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in alone.model.modules()]
    expected = alone.model.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in watched.model.state_dict().items())
    assert runs.logged(alone, "loss") == runs.logged(watched, "loss")


class ImageLooks(TrainerCallback):
    """Predicts after every step, on images through batch norm."""

    run = None

    def on_step_end(self, args, state, control, **kwargs):
        predict_rows(self.run, blobs.domain(5, 7))
        predict_mixed(self.run, blobs.domain(5, 7), [0, 1], [1, 2])


def test_mixed_pixels(tmp_path):
    run = runs.trainer(
        tmp_path, pictures.resnet(), train_dataset=pictures.pictures(8),
        target_dataset=pictures.pictures(8, seed=1, labelled=False), processing_class=pictures.processor(),
        per_device_eval_batch_size=2,
    )  # fmt: skip
    data, first, second = pictures.pictures(7, seed=2), [3, 0, 6, 2, 2], [1, 1, 5, 0, 4]
    pixels = pictures.processor()(list(data["image"]), return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        expected = run.model.model.eval()(pixel_values=0.7 * pixels[first] + 0.3 * pixels[second]).logits
    np.testing.assert_allclose(predict_mixed(run, data, first, second, 0.7), expected, atol=1e-5)


@pytest.mark.parametrize("family", ["bert", "roberta", "llama"])
def test_mixed_texts_are_mixtures_of_embeddings(tmp_path, family):
    """By hand: the two texts' embeddings, zeros where one has ended, under the longer one's positions."""
    data = tiny.domain(6, seed=5)
    run = runs.trainer(
        tmp_path,
        families.build(family, initializer_range=0.5),
        processing_class=families.tokenizer(),
        per_device_eval_batch_size=2,
    )
    first, second = [3, 0, 5, 2, 2], [1, 1, 5, 0, 4]
    mixed = predict_mixed(run, data, first, second, 0.7)
    model = run.model.model.eval()
    embed = model.get_input_embeddings()
    for i, (a, b) in enumerate(zip(first, second, strict=True)):
        ids = [tiny.tokenizer()(data[row]["text"], return_tensors="pt")["input_ids"] for row in (a, b)]
        longest = max(ids, key=lambda x: x.shape[1])
        with torch.no_grad():
            parts = [torch.nn.functional.pad(embed(x), (0, 0, 0, longest.shape[1] - x.shape[1])) for x in ids]
            hook = embed.register_forward_hook(lambda *_, parts=parts: 0.7 * parts[0] + 0.3 * parts[1])
            expected = model(input_ids=longest, attention_mask=torch.ones_like(longest)).logits[0]
            hook.remove()
        np.testing.assert_allclose(mixed[i], expected, atol=1e-5)
    alone = predict_rows(run, data).logits
    np.testing.assert_allclose(predict_mixed(run, data, first, first), alone[first], atol=1e-5)


def test_what_has_no_such_predictions_says_so(tmp_path):
    data = Dataset.from_dict({"text": ["w1 w2", "w3", "w4 w5", "w6"], "label": [0.5, 1.5, 2.5, 0.1]})
    run = runs.trainer(tmp_path / "numbers", tiny.bert(("score",)), train_dataset=data, task="regression")
    for ask in (lambda: predict_rows(run, data), lambda: predict_mixed(run, data, [0], [1])):
        with pytest.raises(ValueError, match="this is regression"):
            ask()
    run = runs.trainer(tmp_path / "classes")
    with pytest.raises(ValueError, match="at least 1"):
        predict_rows(run, tiny.domain(4), rows=0)
    with pytest.raises(ValueError, match="2 and 1 rows"):
        predict_mixed(run, tiny.domain(4), [0, 1], [1])
    with pytest.raises(ValueError, match="share between 0 and 1"):
        predict_mixed(run, tiny.domain(4), [0], [1], 1.5)
