"""What is encoded is known because we encoded it; a tagger's rows without a word cost nothing."""

from __future__ import annotations

import logging
import math
import pickle

import pictures
import pytest
import runs
import tiny
import torch
from datasets import Dataset, concatenate_datasets

from hftransfer.data.encoder_fingerprint import fingerprint_of

STRANGE = {"input_ids": [[1, 2]] * 24, "length": [0.5] * 24, "labels": ["no"] * 24, "origin": ["x"] * 24}


def strange(data: Dataset, **columns) -> Dataset:
    """With columns that are called as ours are."""
    for name, values in {**STRANGE, **columns}.items():
        data = data.add_column(name, values[: len(data)])
    return data


def test_rows_with_columns_called_like_ours_are_encoded_from_their_text(tmp_path):
    plain, odd = tiny.domain(), strange(tiny.domain(), word_mask=[1] * 24, attention_mask=[[0]] * 24)
    run = runs.trainer(tmp_path, tiny.bert(initializer_range=0.5), train_dataset=odd, eval_dataset={"source": odd})
    assert run.evaluate()["eval_source_accuracy"] == run.evaluate({"source": plain})["eval_source_accuracy"]
    assert run.predict(odd).predictions.tolist() == run.predict(plain).predictions.tolist()
    assert run.predict(odd.to_iterable_dataset()).label_ids.tolist() == plain["label"]
    run.train()
    with pytest.raises(ValueError, match="test_dataset holds 'input_ids' and no column 'text'.*Pass the text"):
        run.predict(odd.remove_columns("text"))


def test_what_was_encoded_is_known_again(tmp_path):
    run = runs.trainer(tmp_path, tiny.bert(initializer_range=0.5))
    data = tiny.domain()
    encoded = run.prepared.encode_evaluation(data, "data")
    whole = run.predict(data).predictions
    again = pickle.loads(pickle.dumps(encoded))
    for part, rows in ((encoded, range(24)), (encoded.select([3, 1]), [3, 1]), (again, range(24))):
        assert run.prepared.encode_evaluation(part, "data") is part
        torch.testing.assert_close(torch.tensor(run.predict(part).predictions), torch.tensor(whole[list(rows)]))
    encoded.save_to_disk(str(tmp_path / "kept"))
    assert fingerprint_of(Dataset.load_from_disk(str(tmp_path / "kept"))) == run.prepared.encoder.fingerprint
    assert fingerprint_of(data) is None
    assert fingerprint_of(concatenate_datasets([data, data])) is None
    other = runs.trainer(tmp_path, tiny.bert(("a", "b")), train_dataset=tiny.domain(labels=("a", "b")))
    with pytest.raises(ValueError, match="test_dataset was encoded by a run with other labels"):
        other.predict(encoded)


def test_images_with_columns_called_like_ours_are_encoded(tmp_path):
    data = pictures.pictures()
    odd = data.add_column("origin", ["web"] * len(data)).add_column("labels", ["no"] * len(data))
    settings = {"processing_class": pictures.processor(), "target_dataset": pictures.pictures(labelled=False)}
    run = runs.trainer(tmp_path, pictures.resnet(), train_dataset=odd, eval_dataset={"source": odd}, **settings)
    scores = run.evaluate({"source": odd})
    assert scores["eval_source_accuracy"] == run.evaluate({"source": data})["eval_source_accuracy"]
    assert run.predict(odd).label_ids.tolist() == data["label"]
    encoded = run.prepared.encode_evaluation(odd, "data")
    assert run.prepared.encode_evaluation(encoded, "data") is encoded
    stream = run.prepared.encode_evaluation(odd.remove_columns("label").to_iterable_dataset(), "data")
    assert set(next(iter(stream))) == {"image", "origin"}


@pytest.mark.parametrize("call", ["constructor", "evaluate", "predict"])
@pytest.mark.parametrize("name", ["source", "target"])
def test_a_class_that_the_source_lacks_is_refused_wherever_a_set_is_evaluated(tmp_path, call, name):
    data = tiny.domain()
    more = Dataset.from_dict({"text": ["w1", "w2", "w3"], "label": ["up", "sideways", "down"]})
    message = r"row 1: label 'sideways' is not one of 'down', 'up', 'flat'.*drop such rows"
    if call == "constructor":
        with pytest.raises(ValueError, match=message):
            runs.trainer(tmp_path, train_dataset=data, eval_dataset={name: more})
        return
    run = runs.trainer(tmp_path, train_dataset=data)
    assert tuple(run.model.model.config.id2label.values()) == tiny.LABELS
    with pytest.raises(ValueError, match=message):
        run.evaluate({name: more}) if call == "evaluate" else run.predict(more)


def test_a_label_column_that_is_empty_throughout_is_none(tmp_path, caplog):
    data = Dataset.from_dict({"text": ["w1", "w2"], "label": [None, None]})
    with caplog.at_level(logging.WARNING):
        run = runs.trainer(tmp_path, eval_dataset={"target": data})
    assert "eval_dataset['target']: 'label' is empty throughout" in caplog.text
    assert "eval_target_entropy" in run.evaluate()
    with pytest.raises(ValueError, match=r"eval_dataset\['source'\] row 0 has no label"):
        runs.trainer(tmp_path, eval_dataset={"source": data})


def vanishing(rows: int) -> Dataset:
    """Tagged rows of which the tokenizer leaves nothing, control characters alone."""
    words = [["\u0000", "\u0001"]] * rows
    return Dataset.from_dict({"tokens": words, "label": [[0, 1]] * rows}, features=tiny.tagged(1).features)


@pytest.mark.parametrize("objectives", [None, {"mmd": 0.1}, {"dann": 0.1}, {"cdan": 0.1}, {"supcon": 0.1}])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_a_batch_without_words_costs_nothing(tmp_path, caplog, objectives, label_smoothing):
    data = concatenate_datasets([vanishing(1), tiny.tagged(3)])
    with caplog.at_level(logging.WARNING):
        run = runs.trainer(
            tmp_path,
            tiny.bert(tiny.TAGS, tagging=True),
            train_dataset=data,
            target_dataset=concatenate_datasets([vanishing(1), tiny.tagged(3, seed=1)]).remove_columns("label"),
            eval_dataset={"source": vanishing(2), "mixed": data},
            objectives=objectives,
            per_device_train_batch_size=1,
            per_device_eval_batch_size=1,
            label_smoothing_factor=label_smoothing,
            max_steps=8,
        )
    assert "source row 0: the tokenizer leaves none of its words" in caplog.text
    run.train()
    losses = runs.logged(run, "task_loss")
    assert all(map(math.isfinite, losses))
    assert losses.count(0.0) == 2  # in each of two passes
    assert all(torch.isfinite(p).all() for p in run.model.parameters())
    scores = run.evaluate()
    assert scores["eval_source_loss"] == 0
    assert math.isfinite(
        scores["eval_mixed_loss"] if "eval_mixed_loss" in scores else scores["eval_mixed_oracle_loss"]
    )
