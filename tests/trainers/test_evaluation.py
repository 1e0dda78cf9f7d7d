"""Evaluation over domains: oracle names, metrics that need no label, the user's own metrics, prediction."""

from __future__ import annotations

import numpy as np
import pytest
import runs
import tiny
import torch
from datasets import Dataset

from hftransfer.trainers.metrics import classification_metrics, label_free_metrics

FREE = {"entropy", "diversity", "information"}
TIMES = ("runtime", "samples_per_second", "steps_per_second", "model_preparation_time")


def keys(metrics: dict, prefix: str) -> set[str]:
    """Names of one set's metrics, without timings and per-class ones."""
    names = {key.removeprefix(prefix) for key in metrics if key.startswith(prefix)}
    return {name for name in names if not name.endswith((*TIMES, *tiny.LABELS, *tiny.TAGS))}


def trainer(folder, model=None, **settings):
    """With a model whose predictions vary from row to row."""
    return runs.trainer(folder, model or tiny.bert(initializer_range=0.5), **settings)


def labelled(rows: int = 10, seed: int = 5) -> Dataset:
    return tiny.domain(rows, seed)


def plain_logits(model, data: Dataset) -> np.ndarray:
    """One row at a time, without padding."""
    encode = tiny.tokenizer()
    with torch.no_grad():
        return torch.cat([model.eval()(**encode(text, return_tensors="pt")).logits for text in data["text"]]).numpy()


def test_sets_are_reported_by_name_and_the_targets_labels_by_oracle_names(tmp_path):
    sets = {"source": labelled(), "target": labelled(seed=6), "unlabelled": tiny.domain(10, 7, labelled=False)}
    run = trainer(tmp_path, eval_dataset=sets)
    metrics = run.evaluate()
    plain = {"loss", "accuracy", *(f"{a}_{m}" for a in ("macro", "micro") for m in ("f1", "precision", "recall"))}
    assert keys(metrics, "eval_source_") == plain | FREE
    assert keys(metrics, "eval_target_") == {f"oracle_{name}" for name in plain} | FREE
    assert keys(metrics, "eval_unlabelled_") == FREE
    assert {f"eval_source_f1_{name}" for name in tiny.LABELS} < set(metrics)
    for name, prefix in (("source", "eval_source_"), ("target", "eval_target_oracle_")):
        logits = plain_logits(run.model.model, sets[name])
        labels = np.array(sets[name]["label"])
        expected = classification_metrics(logits.argmax(1), labels, tiny.LABELS)
        z = logits.astype(np.float64)
        loss = np.log(np.exp(z).sum(1)) - z[np.arange(len(z)), labels]
        assert len(set(logits.argmax(1))) > 1
        assert {key: metrics[prefix + key] for key in expected} == pytest.approx(expected)
        assert metrics[f"{prefix}loss"] == pytest.approx(loss.mean(), rel=1e-5)
    free = label_free_metrics("sequence-classification", plain_logits(run.model.model, sets["unlabelled"]))
    assert {name: metrics[f"eval_unlabelled_{name}"] for name in FREE} == pytest.approx(free, rel=1e-4)


def test_sources_are_known_by_name_or_by_how_it_starts(tmp_path):
    sources = {"news": tiny.domain(), "wire": tiny.domain(seed=3)}
    sets = {"wire": labelled(), "source_held_out": labelled(), "blog": labelled()}
    metrics = trainer(tmp_path, train_dataset=sources, eval_dataset=sets).evaluate()
    assert {"eval_wire_accuracy", "eval_source_held_out_accuracy", "eval_blog_oracle_accuracy"} < set(metrics)
    assert "eval_blog_accuracy" not in metrics


def test_a_single_set_is_the_sources(tmp_path):
    metrics = trainer(tmp_path, eval_dataset=labelled()).evaluate()
    assert "eval_source_accuracy" in metrics


def test_raw_sets_can_be_evaluated_later(tmp_path):
    run = trainer(tmp_path, eval_dataset={"source": labelled()})
    again = run.evaluate({"source": labelled(), "clinic": labelled(seed=6)})
    assert again["eval_source_loss"] == pytest.approx(run.evaluate()["eval_source_loss"])
    assert "eval_clinic_oracle_accuracy" in again
    alone = run.evaluate(labelled(seed=6))  # a set without a name could be the target's
    assert alone["eval_oracle_accuracy"] == again["eval_clinic_oracle_accuracy"]
    named = run.evaluate(labelled(seed=6), metric_key_prefix="eval_source")
    assert named["eval_source_accuracy"] == again["eval_clinic_oracle_accuracy"]


def test_prediction_is_the_plain_models(tmp_path):
    data = labelled()
    run = trainer(tmp_path)
    output = run.predict(data)
    np.testing.assert_allclose(output.predictions, plain_logits(run.model.model, data), atol=1e-5)
    assert output.label_ids.tolist() == data["label"]
    assert "test_oracle_accuracy" in output.metrics
    unlabelled = run.predict(data.remove_columns("label"))
    assert unlabelled.label_ids is None
    np.testing.assert_array_equal(unlabelled.predictions, output.predictions)
    assert keys(unlabelled.metrics, "test_") == FREE


def test_labels_are_matched_by_name_not_by_number(tmp_path):
    """The evaluation set declares the same labels in another order."""
    from datasets import ClassLabel

    data = labelled()
    turned = ClassLabel(names=list(reversed(tiny.LABELS)))
    names = [tiny.LABELS[i] for i in data["label"]]
    other = data.remove_columns("label").add_column("label", [turned.str2int(n) for n in names], feature=turned)
    run = trainer(tmp_path)
    assert run.predict(other).label_ids.tolist() == data["label"]


def test_the_users_metrics_replace_ours(tmp_path):
    seen = []

    def mine(prediction):
        seen.append((prediction.predictions.shape, prediction.label_ids.shape))
        return {"mine": 0.5}

    run = trainer(tmp_path, eval_dataset={"source": labelled(), "target": labelled(8)}, compute_metrics=mine)
    metrics = run.evaluate()
    assert keys(metrics, "eval_source_") == {"loss", "mine"} | FREE
    assert keys(metrics, "eval_target_") == {"oracle_loss", "oracle_mine"} | FREE
    assert seen == [((10, 3), (10,)), ((8, 3), (8,))]


def test_the_reported_loss_is_not_smoothed(tmp_path):
    plain, smooth = (
        trainer(tmp_path, eval_dataset=labelled(), label_smoothing_factor=factor).evaluate() for factor in (0.0, 0.4)
    )
    assert smooth["eval_source_loss"] == plain["eval_source_loss"]


def test_what_the_user_makes_of_the_logits_is_not_read_as_logits(tmp_path):
    run = trainer(
        tmp_path,
        eval_dataset={"source": labelled()},
        compute_metrics=lambda p: {"right": float((p.predictions == p.label_ids).mean())},
        preprocess_logits_for_metrics=lambda logits, labels: logits.argmax(-1),
    )
    metrics = run.evaluate()
    expected = (plain_logits(run.model.model, labelled()).argmax(1) == np.array(labelled()["label"])).mean()
    assert metrics["eval_source_right"] == expected
    assert not FREE & keys(metrics, "eval_source_")


# ---- other tasks


@pytest.mark.parametrize("size", [1, 4])
def test_a_tagger_is_judged_on_words_whatever_the_padding(size, tmp_path):
    data = tiny.tagged(9, seed=4)
    run = trainer(
        tmp_path,
        tiny.bert(tiny.TAGS, tagging=True, initializer_range=0.5),
        train_dataset=tiny.tagged(),
        target_dataset=tiny.tagged(seed=1, labelled=False),
        eval_dataset={"source": data, "target": data.remove_columns("label")},
        per_device_eval_batch_size=size,
    )
    logits, labels = [], []
    with torch.no_grad():
        for words, tags in zip(data["tokens"], data["label"], strict=True):
            encoded = tiny.tokenizer()(words, is_split_into_words=True, return_tensors="pt")
            ids = encoded.word_ids()
            first = [i for i, w in enumerate(ids) if w is not None and w not in ids[:i]]
            logits.append(run.model.model.eval()(**encoded).logits[0, first].numpy())
            labels += tags
    expected = label_free_metrics("token-classification", np.concatenate(logits))
    metrics = run.evaluate()
    for name in ("source", "target"):
        assert {m: metrics[f"eval_{name}_{m}"] for m in FREE} == pytest.approx(expected, rel=1e-4)
    right = np.concatenate(logits).argmax(1) == np.array(labels)
    assert metrics["eval_source_accuracy"] == pytest.approx(right.mean())
    predictions = run.predict(data.remove_columns("label")).predictions
    words = predictions[(predictions != -100).all(-1)]
    np.testing.assert_allclose(words, np.concatenate(logits), atol=1e-5)


@pytest.mark.parametrize(
    ("task", "names", "values", "expected"),
    [
        ("regression", ("score",), [0.25, 1.5, -2.0], {"mse", "mae", "pearson"}),
        ("multi-label-classification", tiny.LABELS, [[1, 0, 1], [0, 0, 0], [0, 1, 1]], {"accuracy", "macro_f1"}),
    ],
)
def test_float_tasks_are_judged_by_their_own_measures(task, names, values, expected, tmp_path):
    def data(seed: int) -> Dataset:
        return tiny.domain(9, seed, labelled=False).add_column("label", values * 3)

    run = trainer(
        tmp_path,
        tiny.bert(names, initializer_range=0.5),
        train_dataset=data(0),
        eval_dataset={"source": data(2), "target": data(3)},
        task=task,
    )
    run.train()
    metrics = run.evaluate()
    assert {f"eval_source_{m}" for m in expected} | {f"eval_target_oracle_{m}" for m in expected} < set(metrics)
    assert not FREE & keys(metrics, "eval_target_")
    logits, labels = plain_logits(run.model.model, data(2)).astype(np.float64), np.array(data(2)["label"], float)
    if task == "regression":
        assert metrics["eval_source_mse"] == pytest.approx(((logits[:, 0] - labels) ** 2).mean(), rel=1e-5)
        assert metrics["eval_source_loss"] == pytest.approx(metrics["eval_source_mse"], rel=1e-5)
    else:
        assert metrics["eval_source_accuracy"] == pytest.approx(((logits > 0) == labels).all(1).mean())
        loss = np.log1p(np.exp(logits)) - labels * logits
        assert metrics["eval_source_loss"] == pytest.approx(loss.mean(), rel=1e-5)


# ---- names of sets


def test_the_name_of_a_set_is_kept(tmp_path):
    run = trainer(tmp_path, eval_dataset={"source": labelled(), "target": labelled()})
    source = run.evaluate("source")
    assert source["eval_source_accuracy"] == run.evaluate()["eval_source_accuracy"]
    assert not any("oracle" in key for key in source)
    target = run.evaluate("target")
    assert "eval_target_oracle_accuracy" in target
    assert "eval_target_entropy" in target
    found = run.predict("source")
    assert found.metrics["test_source_accuracy"] == source["eval_source_accuracy"]
    assert "test_target_oracle_accuracy" in run.predict("target").metrics


@pytest.mark.parametrize("how", ["evaluate", "predict"])
def test_an_unknown_set_is_named_beside_the_known(how, tmp_path):
    run = trainer(tmp_path, eval_dataset={"source": labelled(), "target": labelled()})
    with pytest.raises(ValueError, match="no evaluation set 'validation'; there is source, target"):
        getattr(run, how)("validation")
    with pytest.raises(ValueError, match="Did you mean 'source'"):
        getattr(run, how)("sorce")
    with pytest.raises(ValueError, match="was given none: pass eval_dataset"):
        getattr(trainer(tmp_path), how)("source")


# ---- what else evaluation may be told

TASKS = {
    "classes": (tiny.bert, tiny.domain),
    "tags": (lambda **k: tiny.bert(tiny.TAGS, tagging=True, **k), tiny.tagged),
    "numbers": (lambda **k: tiny.bert(("score",), **k), lambda rows=24, seed=0: tiny.domain(rows, seed).map(
        lambda row: {"label": row["label"] * 0.5 + 0.25}, features=None
    )),
}  # fmt: skip


@pytest.mark.parametrize("task", ["classes", "tags"])
@pytest.mark.parametrize(
    "settings",
    [
        {"batch_eval_metrics": True},
        {"eval_do_concat_batches": False},
        {"eval_accumulation_steps": 1},
        {"eval_do_concat_batches": False, "eval_accumulation_steps": 2},
        {"eval_use_gather_object": True},
    ],
    ids=str,
)
def test_every_way_of_collecting_gives_the_same_numbers(task, settings, tmp_path):
    model, make = TASKS[task]
    given = {
        "train_dataset": make(),
        "target_dataset": make(seed=1).remove_columns("label"),
        "eval_dataset": {"source": make(9, seed=4), "target": make(7, seed=5).remove_columns("label")},
        "per_device_eval_batch_size": 4,
    }

    def measured(**more):
        metrics = trainer(tmp_path, model(initializer_range=0.5), **given, **more).evaluate()
        return {k: v for k, v in metrics.items() if not k.endswith(("runtime", "second", "time"))}

    plain = measured()
    assert {"eval_source_accuracy", "eval_source_entropy", "eval_target_diversity", "eval_source_loss"} <= plain.keys()
    assert measured(**settings) == pytest.approx(plain, rel=1e-5)


def test_the_loss_alone(tmp_path):
    run = trainer(tmp_path, eval_dataset={"source": labelled()}, prediction_loss_only=True)
    metrics = run.evaluate()
    assert "eval_source_loss" in metrics
    assert "eval_source_accuracy" not in metrics
    run.train()


def test_class_ids_instead_of_logits_are_measured_too(tmp_path):
    run = trainer(
        tmp_path,
        eval_dataset={"source": labelled()},
        preprocess_logits_for_metrics=lambda logits, labels: logits.argmax(-1),
    )
    plain = trainer(tmp_path, eval_dataset={"source": labelled()}).evaluate()
    metrics = run.evaluate()
    assert metrics["eval_source_macro_f1"] == plain["eval_source_macro_f1"]
    assert not FREE & keys(metrics, "eval_source_")


def several(rows=8):
    from datasets import Dataset

    data = tiny.domain(rows)
    return Dataset.from_dict({"text": list(data["text"]), "label": [["a"], ["a", "b"], ["c"], ["b"]] * (rows // 4)})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"preprocess_logits_for_metrics": lambda x, y: x.sum()}, r"makes shape \(\).*where our metrics read logits"),
        ({"preprocess_logits_for_metrics": lambda x, y: x.argmax()}, "or pass compute_metrics of your own"),
        (
            {"preprocess_logits_for_metrics": lambda x, y: x[0, 0, 0]},
            "preprocess_logits_for_metrics fails on logits of",
        ),
        ({"preprocess_logits_for_metrics": lambda x, y: None}, "makes NoneType of logits"),
        ({"include_for_metrics": ["inputs"]}, r"include_for_metrics=\['inputs'\] has no effect: our metrics"),
        ({"include_for_metrics": ["input"]}, "there is no 'input'; there is inputs and loss. Did you mean 'inputs'"),
        ({"batch_eval_metrics": True, "compute_metrics": lambda p: {}}, "has no argument compute_result"),
    ],
)
def test_what_could_not_be_measured_is_refused_before_training(settings, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        trainer(tmp_path, eval_dataset=labelled(), **settings)


def test_a_moved_threshold_of_several_labels_is_refused(tmp_path):
    given = {"train_dataset": several(), "eval_dataset": several(4), "model": tiny.bert(("a", "b", "c"))}
    run = trainer(tmp_path, preprocess_logits_for_metrics=lambda x, y: (x > 0).long(), **given)
    assert "eval_source_macro_f1" in run.evaluate()
    with pytest.raises(ValueError, match="moves the threshold"):
        trainer(tmp_path, preprocess_logits_for_metrics=lambda x, y: x.sigmoid(), **given)


def test_a_users_function_takes_what_the_settings_give_it(tmp_path):
    seen = []

    def compute(prediction, compute_result=False):
        seen.append((prediction.losses is not None, prediction.inputs is not None, compute_result))
        return {"mine": 1.0} if compute_result else {}

    run = trainer(
        tmp_path,
        eval_dataset={"source": labelled()},
        compute_metrics=compute,
        batch_eval_metrics=True,
        include_for_metrics=["inputs", "loss"],
        per_device_eval_batch_size=4,
    )
    assert run.evaluate()["eval_source_mine"] == 1.0
    assert seen[-1] == (True, True, True)
    assert len(seen) > 1
