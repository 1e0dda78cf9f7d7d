"""A linear probe exported as a plain model: its logits are the probe's scores, and it loads without hftransfer."""

from __future__ import annotations

import families
import numpy as np
import pictures
import pytest
import runs
import tiny
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler
from transformers import BertModel

from hftransfer import Embedder, export_probe
from hftransfer.embeddings.affine_probe import affine_probe

TEXTS = tiny.domain(30)
PICTURES = pictures.pictures(12)


def fitted(model, data, *steps, processor=None, column="text", labels=None, **settings):
    embedder = Embedder(model, cache_dir=False, processing_class=processor or tiny.tokenizer(), **settings)
    rows = list(data[column])
    return make_pipeline(embedder, *steps).fit(rows, data["label"] if labels is None else labels), rows


def logits(model, rows, processor) -> np.ndarray:
    with torch.no_grad():
        return np.concatenate([model.eval()(**processor(row)).logits.double().numpy() for row in rows])


def of_text(row):
    return tiny.tokenizer()([row], return_tensors="pt")


@pytest.mark.parametrize(
    "steps",
    [
        (LogisticRegression(),),
        (RidgeClassifier(),),
        (StandardScaler(), PCA(5), LogisticRegression()),
    ],
    ids=["logistic", "ridge", "scaled and projected"],
)
def test_logits_are_the_decision_function(steps):
    probe, rows = fitted(tiny.bert(), TEXTS, *steps, pooling="head")
    model = export_probe(probe)
    np.testing.assert_allclose(logits(model, rows, of_text), probe.decision_function(rows), atol=1e-5)
    predicted = [model.config.id2label[i] for i in logits(model, rows, of_text).argmax(1)]
    assert predicted == list(map(str, probe.predict(rows)))


def test_two_classes_differ_by_the_decision_function():
    labels = ["yes" if " w1 " in text else "no" for text in TEXTS["text"]]
    probe, rows = fitted(tiny.bert(), TEXTS, LogisticRegression(), pooling="head", labels=labels)
    model = export_probe(probe)
    found = torch.tensor(logits(model, rows, of_text))
    np.testing.assert_allclose(found[:, 1] - found[:, 0], probe.decision_function(rows), atol=1e-5)
    np.testing.assert_allclose(found.softmax(1), probe.predict_proba(rows), atol=1e-5)
    assert model.config.id2label == {0: "no", 1: "yes"}


def test_a_regression_predicts():
    targets = np.random.default_rng(0).normal(size=30)
    probe, rows = fitted(tiny.bert(), TEXTS, Ridge(), pooling="head", labels=targets)
    model = export_probe(probe)
    assert model.config.problem_type == "regression"
    np.testing.assert_allclose(logits(model, rows, of_text)[:, 0], probe.predict(rows), atol=1e-5)


@pytest.mark.parametrize(
    ("family", "pooling"),
    [
        ("vit", "cls"),
        ("swin", "mean"),
        ("resnet", "mean"),
        ("dinov2", "head"),
        ("convnext", "head"),
        ("siglip", "mean"),
    ],
)
def test_images(family, pooling):
    model = families.build_vision(family).eval()
    processor = pictures.processor(families.SIDE)
    probe, rows = fitted(model, PICTURES, LogisticRegression(), processor=processor, column="image", pooling=pooling)
    exported = export_probe(probe, modality="image")
    found = logits(exported, rows, lambda row: processor(images=[row], return_tensors="pt"))
    np.testing.assert_allclose(found, probe.decision_function(rows), atol=1e-4)


def test_a_tagger():
    data = tiny.tagged(20)
    model = BertModel(tiny.bert().config, add_pooling_layer=False)
    labels = [tag for tags in data["label"] for tag in tags]
    rows = list(data["tokens"])
    embedder = Embedder(model, pooling="token", cache_dir=False, processing_class=tiny.tokenizer())
    head = LogisticRegression().fit(embedder.transform(rows), labels)
    exported = export_probe(make_pipeline(embedder, head), names=tiny.TAGS)
    assert type(exported).__name__ == "BertForTokenClassification"
    encoded = tiny.tokenizer()([rows[0]], is_split_into_words=True, return_tensors="pt")
    firsts = [encoded.word_ids(0).index(word) for word in range(len(rows[0]))]
    with torch.no_grad():
        found = exported.eval()(**encoded).logits[0, firsts]
    scores = head.decision_function(embedder.transform(rows[:1]))
    np.testing.assert_allclose((found[:, 1] - found[:, 0]).numpy(), scores, atol=1e-5)


def test_a_decoder_without_a_bias():
    model = families.build("llama").eval()
    head = LogisticRegression(fit_intercept=False)
    probe, rows = fitted(model, TEXTS, head, processor=families.tokenizer(), pooling="last")
    exported = export_probe(probe)
    found = logits(exported, rows, lambda row: families.tokenizer()([row], return_tensors="pt"))
    np.testing.assert_allclose(found, probe.decision_function(rows), atol=1e-5)
    probe, _ = fitted(model, TEXTS, LogisticRegression(), processor=families.tokenizer(), pooling="last")
    with pytest.raises(ValueError, match="has no bias.*fit_intercept=False"):
        export_probe(probe)


REFUSED = {
    "another pooling": (lambda: fitted(tiny.bert(), TEXTS, LogisticRegression())[0], 'does not read.*pooling="head"'),
    "another width": (
        lambda: fitted(
            families.build_vision("dinov2").eval(),
            PICTURES,
            LogisticRegression(),
            processor=pictures.processor(families.SIDE),
            column="image",
        )[0],
        "reads 64 features, and the probe 32",
    ),
    "neighbours": (
        lambda: fitted(tiny.bert(), TEXTS, KNeighborsClassifier(), pooling="head")[0],
        "KNeighborsClassifier has no decision_function",
    ),
    "a length of one": (
        lambda: fitted(tiny.bert(), TEXTS, Normalizer(), LogisticRegression(), pooling="head")[0],
        "LogisticRegression is not linear in its features",
    ),
    "two layers": (
        lambda: fitted(tiny.bert(), TEXTS, LogisticRegression(), layer=[1, -1])[0],
        "several layers or poolings",
    ),
}


@pytest.mark.parametrize(("probe", "message"), REFUSED.values(), ids=REFUSED)
def test_what_a_last_layer_cannot_hold_is_refused(probe, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        export_probe(probe(), tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_no_pipeline_is_refused():
    with pytest.raises(TypeError, match="starts with an Embedder"):
        export_probe(LogisticRegression())


def test_a_pooler_that_the_checkpoint_lacks_is_not_drawn(tmp_path):
    BertModel(tiny.bert().config, add_pooling_layer=False).save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"lacks bert.pooler.dense, which .* at random"):
        Embedder(str(tmp_path), pooling="head", cache_dir=False).transform(["w1"])


LOADED = """
import json, sys
from transformers import pipeline
assert "hftransfer" not in sys.modules
print(json.dumps(pipeline("text-classification", sys.argv[1])(json.loads(sys.argv[2]), top_k=None)))
"""


def test_it_loads_in_a_fresh_process_and_starts_training(tmp_path, model_folder):
    import json
    import subprocess
    import sys

    probe, rows = fitted(model_folder, TEXTS, LogisticRegression(), pooling="head")
    folder = str(tmp_path / "probe")
    export_probe(probe, folder, names=tiny.LABELS)
    command = [sys.executable, "-c", LOADED, folder, json.dumps(rows[:4])]
    said = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    scores = [{entry["label"]: entry["score"] for entry in row} for row in json.loads(said.splitlines()[-1])]
    found = [[row[name] for name in tiny.LABELS] for row in scores]
    np.testing.assert_allclose(found, probe.predict_proba(rows[:4]), atol=1e-5)
    trainer = runs.trainer(tmp_path / "run", model=folder, eval_dataset={"source": TEXTS})
    accuracy = trainer.evaluate("source")["eval_source_accuracy"]
    assert accuracy == pytest.approx(probe.score(rows, TEXTS["label"]))


def test_the_affine_form_is_that_of_the_estimator():
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(40, 6)), draw.integers(0, 3, 40)
    ridge = RidgeClassifier().fit(x, y)
    form = affine_probe(ridge, 6)
    np.testing.assert_allclose(form.weight, ridge.coef_, atol=1e-10)
    np.testing.assert_allclose(form.bias, ridge.intercept_, atol=1e-10)
