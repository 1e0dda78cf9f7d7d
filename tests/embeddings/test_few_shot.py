"""A few labelled rows: pair training against NumPy, three methods, a plain model, and what is refused."""

from __future__ import annotations

import families
import numpy as np
import pictures
import pytest
import tiny
import torch
from datasets import Dataset
from sklearn.base import clone
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from hftransfer import Embedder, FewShotClassifier, NearestPrototype, PairSettings
from hftransfer.embeddings.feature_extractor import FeatureExtractor
from hftransfer.embeddings.few_shot import few_shot_classifier, pair_training
from hftransfer.embeddings.few_shot.few_shot_classifier import METHODS
from hftransfer.embeddings.few_shot.labelled_rows import labelled_rows
from hftransfer.embeddings.few_shot.pair_sampling import Pairs, draw_pairs
from hftransfer.embeddings.few_shot.pair_training import EncodedRows, pair_loss_of, train_on_pairs
from hftransfer.embeddings.few_shot.token_mean import token_mean_classifier
from hftransfer.embeddings.few_shot.unit_spread import UnitSpread
from hftransfer.embeddings.input_rows import input_rows
from hftransfer.embeddings.training_state import read_training_state, write_training_state

ROWS = tiny.domain(12)
TEXTS, CLASSES = list(ROWS["text"]), np.array(ROWS["label"])
NAMES = [tiny.LABELS[i] for i in CLASSES]
FAST = PairSettings(learning_rate=2e-3, batch_size=8)


def few(method="pairs", model=None, processing=None, **settings):
    settings = {"pairs": FAST} | settings if method.startswith("pairs") else settings
    model, processing = model or tiny.bert(), processing or tiny.tokenizer()
    settings = {"cache_dir": False} | settings
    return FewShotClassifier(model, method, processing_class=processing, progress=False, **settings)


def extractor(model, pooling="mean", processing=None):
    return FeatureExtractor(model, pooling, processing_class=processing or tiny.tokenizer())


def without_dropout(seed=0):
    return tiny.bert(seed=seed, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)


def test_the_loss_is_that_of_numpy():
    model = without_dropout()
    rows = EncodedRows(extractor(model).trainable("text"), input_rows(TEXTS))
    pairs = Pairs(np.array([0, 3, 5, 0]), np.array([3, 1, 2, 6]), np.array([True, False, False, True]))
    features = Embedder(model, cache_dir=False, processing_class=tiny.tokenizer()).transform(TEXTS).astype(np.float64)
    u, v = features[pairs.first], features[pairs.second]
    cosines = (u * v).sum(1) / np.linalg.norm(u, axis=1) / np.linalg.norm(v, axis=1)
    assert pair_loss_of(rows, pairs).item() == pytest.approx(np.square(cosines - pairs.same).mean(), rel=1e-5)


def mean_loss(model) -> float:
    rows = EncodedRows(extractor(model).trainable("text"), input_rows(TEXTS))
    with torch.no_grad():
        return pair_loss_of(rows, draw_pairs(CLASSES, "unique", 1000, 0)).item()


def test_training_lowers_the_loss_and_leaves_the_given_model_as_it_is():
    model = without_dropout()
    model.requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random_state = torch.random.get_rng_state()
    found = train_on_pairs(extractor(model), input_rows(TEXTS), CLASSES, FAST, progress=False)
    assert torch.equal(torch.random.get_rng_state(), random_state)
    assert found.steps == len(found.losses) == 12  # 48 pairs of two classes, 48 of one
    assert mean_loss(found.model) < 0.7 * mean_loss(model)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_training_is_the_seed_s():
    models = [
        train_on_pairs(
            extractor(tiny.bert()),
            input_rows(TEXTS),
            CLASSES,
            PairSettings(learning_rate=1e-3, seed=seed, max_pairs=24),
        ).model.state_dict()
        for seed in (1, 1, 2)
    ]
    name = "bert.encoder.layer.0.attention.self.query.weight"
    assert torch.equal(models[0][name], models[1][name])
    assert not torch.equal(models[0][name], models[2][name])


# ---- stopped, and gone on with


def stopping(monkeypatch, after: int) -> None:
    """Breaks pair training off as Ctrl-C would, before the step after so many."""
    stock, done = pair_training.pair_loss_of, []

    def pair_loss_of(*args):
        if len(done) == after:
            raise KeyboardInterrupt
        done.append(1)
        return stock(*args)

    monkeypatch.setattr(pair_training, "pair_loss_of", pair_loss_of)


# Three steps an epoch; 3 stops where one ends, 4 after the last state, 5 right before the next.
TWO_EPOCHS = PairSettings(learning_rate=2e-3, batch_size=8, max_pairs=20, epochs=2, save_steps=3, warmup=0.4)


@pytest.mark.parametrize(("after", "earlier"), [(3, 3), (5, 3), (2, 0)])
def test_a_run_that_broke_goes_on_bit_for_bit(after, earlier, tmp_path, monkeypatch):
    def train(folder=None, settings=TWO_EPOCHS):
        return train_on_pairs(extractor(tiny.bert()), input_rows(TEXTS), CLASSES, settings, False, folder)

    undisturbed = train()
    with monkeypatch.context() as patch:
        stopping(patch, after)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path)
    random_state = torch.random.get_rng_state()
    resumed = train(tmp_path)
    assert torch.equal(torch.random.get_rng_state(), random_state)
    assert (resumed.steps, resumed.earlier_steps) == (6, earlier)
    np.testing.assert_array_equal(resumed.losses, undisturbed.losses)
    for name, value in undisturbed.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
    with monkeypatch.context() as patch:
        stopping(patch, 0)
        assert train(tmp_path).earlier_steps == 6  # nothing is left to train


def test_a_state_of_another_run_is_refused(tmp_path):
    def train(texts=TEXTS, classes=CLASSES, seed=0, **settings):
        settings = {"max_pairs": 8, "batch_size": 8} | settings
        model = extractor(tiny.bert(seed=seed))
        return train_on_pairs(model, input_rows(texts), classes, PairSettings(**settings), False, tmp_path)

    train()
    assert train(save_steps=7).earlier_steps == 1  # which is no other run
    others = ({"learning_rate": 1e-3}, {"texts": [*TEXTS[:-1], "w9"]}, {"classes": np.roll(CLASSES, 1)}, {"seed": 1})
    for other in others:
        with pytest.raises(ValueError, match="on other rows, from another encoder or with other settings"):
            train(**other)
    (tmp_path / pair_training.STATE).write_bytes(b"cut")
    with pytest.raises(ValueError, match="remove it to start anew"):
        train()


def test_weights_that_are_not_finite_leave_the_last_state(tmp_path):
    path = tmp_path / "state"
    write_training_state(path, "a", {"now.w": torch.ones(2)}, {})
    with pytest.raises(FloatingPointError, match="The weights w are not finite"):
        write_training_state(path, "a", {"now.w": torch.tensor([1.0, float("nan")])}, {})
    tensors, _ = read_training_state(path, "a", "")
    assert torch.equal(tensors["now.w"], torch.ones(2))
    assert [file.name for file in tmp_path.iterdir()] == ["state"]


def test_saving_removes_the_state_and_nothing_else(tmp_path):
    classifier = few(folder=tmp_path / "training").fit(TEXTS, NAMES)
    classifier.save()
    assert (tmp_path / "training" / pair_training.STATE).is_file()
    (tmp_path / "training" / "notes.txt").write_text("mine")
    classifier.save(tmp_path / "few", card="# few")
    assert [file.name for file in (tmp_path / "training").iterdir()] == ["notes.txt"]
    assert (tmp_path / "few" / "README.md").read_text() == "# few"


def test_batch_norms_keep_their_statistics():
    model, data = pictures.resnet(), pictures.pictures(9)
    inputs = input_rows(data, None, "image")
    found = train_on_pairs(
        extractor(model, "head", pictures.processor()), inputs, np.array(data["label"]), FAST, progress=False
    ).model
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, found.state_dict()[name])}
    assert any("convolution.weight" in name for name in moved)
    assert not any("running" in name for name in moved)


def test_images_beyond_the_bound_are_decoded_in_each_step(monkeypatch):
    data = pictures.pictures(6)
    inputs, pairs = input_rows(data, None, "image"), draw_pairs(np.array(data["label"]), "unique", 100, 0)

    def loss():
        encoder = extractor(pictures.resnet(), "head", pictures.processor()).trainable("image")
        rows = EncodedRows(encoder, inputs)
        with encoder.running():
            return pair_loss_of(rows, pairs).item(), rows._images is None

    kept = loss()
    monkeypatch.setattr("hftransfer.embeddings.few_shot.pair_training.IMAGE_BYTES", 100)
    assert [kept[1], loss()[1]] == [False, True]
    assert kept[0] == pytest.approx(loss()[0], rel=1e-6)


@pytest.mark.parametrize("family", ["bert", "roberta", "electra"])
def test_one_more_layer_reads_the_mean_over_tokens(family):
    model = families.build(family).eval()
    found = token_mean_classifier(extractor(model, processing=families.tokenizer()), "text")
    texts = TEXTS[:4]
    plain, more = (
        Embedder(m, pooling, cache_dir=False, processing_class=families.tokenizer()).transform(texts)
        for m, pooling in ((model, "mean"), (found, "head"))
    )
    centred = plain - plain.mean(1, keepdims=True)
    expected = centred / centred.std(1, keepdims=True)
    cosines = (expected * more).sum(1) / np.linalg.norm(expected, axis=1) / np.linalg.norm(more, axis=1)
    np.testing.assert_allclose(cosines, 1, atol=2e-3)


@pytest.mark.parametrize("family", ["distilbert", "modernbert", "albert"])
def test_a_family_of_another_kind_has_no_place_for_the_mean(family):
    model = families.build(family).eval()
    assert token_mean_classifier(extractor(model, processing=families.tokenizer()), "text") is None


@pytest.mark.parametrize("method", ["probe", "pairs_prototype"])
def test_texts(method):
    classifier = few(method).fit(ROWS, "label")
    assert list(classifier.classes_) == ["down", "flat", "up"]
    assert classifier.score(ROWS, "label") > 0.6
    assert (classifier.training_ is None) == (method == "probe")


def test_probabilities_are_those_of_a_logistic_regression():
    assert [method for method in METHODS if hasattr(few(method), "predict_proba")] == ["probe", "pairs"]
    classifier = few("probe").fit(TEXTS[:4], NAMES[:4])
    scores = classifier.decision_function(TEXTS)
    expected = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    np.testing.assert_allclose(classifier.predict_proba(TEXTS), expected, rtol=1e-6)


def test_texts_to_a_plain_model(tmp_path):
    classifier = few().fit(ROWS, "label")
    classifier.save(tmp_path / "few")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "few").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "few")
    with torch.no_grad():
        logits = model(**tokenizer(TEXTS, padding=True, return_tensors="pt")).logits.numpy()
    scores = classifier.decision_function(TEXTS)
    np.testing.assert_allclose(logits, scores, atol=2e-3 * np.abs(scores).max())
    ask = pipeline("text-classification", str(tmp_path / "few"), device="cpu")
    assert [row["label"] for row in ask(TEXTS)] == list(classifier.predict(TEXTS))


@pytest.mark.parametrize("method", ["prototype", "pairs"])
def test_images_to_a_plain_model(method):
    data = pictures.pictures(9)
    classifier = few(method, pictures.resnet(), pictures.processor()).fit(data, "label")
    model = classifier.save().eval()
    with torch.no_grad():
        logits = model(**pictures.processor()(data["image"][:], return_tensors="pt")).logits.numpy()
    np.testing.assert_allclose(logits, classifier.decision_function(data), atol=1e-3)
    assert type(model).__name__ == "ResNetForImageClassification"


def test_one_row_a_class_separates_the_classes():
    classifier = few().fit(TEXTS[:3], NAMES[:3])
    assert list(classifier.predict(TEXTS[:3])) == NAMES[:3]
    assert classifier.training_.steps == 1  # of 3 pairs of two classes


def test_a_linear_prototype_names_the_same_classes():
    x = np.random.default_rng(0).normal(size=(40, 5))
    y = np.arange(40) % 4
    plain, linear = (NearestPrototype(linear=linear).fit(x[:20], y[:20]) for linear in (False, True))
    np.testing.assert_array_equal(plain.predict(x), linear.predict(x))
    lengths = np.linalg.norm(x - x[:20].mean(0), axis=1, keepdims=True)
    np.testing.assert_allclose(linear.decision_function(x), plain.decision_function(x) * lengths)


def test_unit_spread_is_one_number():
    x = np.random.default_rng(0).normal(size=(10, 4)) * [1, 2, 3, 4] + 7
    z = UnitSpread().fit_transform(x)
    np.testing.assert_allclose(np.square(z).sum(1).mean(), 1)
    centred = x - x.mean(0)
    np.testing.assert_allclose(z, centred / np.sqrt(np.square(centred).sum(1).mean()))
    np.testing.assert_allclose(UnitSpread().fit_transform(np.ones((3, 2)) * 0.1), 0, atol=1e-15)
    rounded = np.ones((3, 2)) * 0.1 + np.array([[1e-8], [0], [0]])
    assert UnitSpread().fit(rounded).alike_
    np.testing.assert_allclose(UnitSpread().fit_transform(rounded), 0, atol=1e-7)
    assert not UnitSpread().fit(x).alike_


def test_a_score_on_labels_of_another_kind_is_refused():
    probe = few("probe").fit(TEXTS, NAMES)
    assert probe.score(TEXTS, NAMES) > 0.5
    with pytest.raises(ValueError, match="test: the labels are such as 0, and those that were learned such as 'down'"):
        probe.score(TEXTS, CLASSES)


def test_a_copy_has_the_same_model():
    classifier = few(C=2.0)
    copied = clone(classifier)
    assert copied.model is classifier.model
    assert (copied.C, copied.pairs) == (2.0, FAST)


def test_rows_without_a_label_are_left_out_of_a_column():
    data = Dataset.from_dict({"text": ["w1", "w2", "w3", "w4"], "label": ["1", None, "1.0", ""], "id": [1, 2, 3, 4]})
    rows, labels = labelled_rows(data, "label")
    assert list(rows["text"]) == ["w1", "w3"]
    assert list(labels) == ["1", "1"]
    declared = tiny.domain(4).cast_column("label", tiny.domain(4).features["label"])
    assert list(labelled_rows(declared, "label")[1]) == ["down", "up", "flat", "down"]


@pytest.mark.parametrize(
    ("rows", "y", "message"),
    [
        (TEXTS[:2], ["up", "up"], "All labelled rows of the source are of one class, 'up'"),
        (TEXTS[:2], ["up", None], "source row 1 has no label"),
        (TEXTS[:2], [1.0, float("nan")], "source row 1 has no label"),
        (TEXTS[:2], ["up", 1], "some labels are texts and some are numbers"),
        (TEXTS[:2], [["up"], ["down"]], "source row 0: its label is"),
        (TEXTS[:3], ["up", "down"], "source: there are 2 labels for 3 rows"),
        ([], [], "source is empty"),
        (ROWS, "lable", "has no column 'lable'.*Did you mean 'label'"),
        (Dataset.from_dict({"text": ["w1", "w2"], "label": [None, None]}), "label", "is empty throughout"),
        (Dataset.from_dict({"text": ["w1", "w2"], "label": [["a"], ["b"]]}), "label", "holds lists"),
        (ROWS.to_iterable_dataset(), "label", "source is a stream"),
        (
            Dataset.from_dict({"text": TEXTS[:3], "label": [1.0, 0.5, None]}),
            "label",
            "not whole, such as 0.5, which are",
        ),
        (Dataset.from_dict({"text": TEXTS[:3], "label": ["1", "2.5", ""]}), "label", "not whole, such as 2.5"),
    ],
)
def test_rows_that_cannot_be_learned_from(rows, y, message, monkeypatch):
    monkeypatch.setattr("hftransfer.embeddings.few_shot.few_shot_classifier.train_on_pairs", pytest.fail)
    with pytest.raises((ValueError, TypeError), match=message):
        few().fit(rows, y)


@pytest.mark.parametrize("value", [None, " ", 3])
@pytest.mark.parametrize("method", ["probe", "pairs"])
def test_a_row_without_text_is_named(value, method):
    with pytest.raises(ValueError, match="source row 1"):
        few(method).fit(["w1", value, "w2"], ["up", "down", "down"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "pair"}, "method='pair' must be one of .* Did you mean 'pairs'"),
        ({"method": "probe", "pairs": FAST}, "takes no settings of pairs"),
        ({"folder": 7}, "folder=7 must be a path"),
        ({"method": "probe", "folder": "runs"}, "trains on no pairs, so folder='runs'"),
        ({"method": "prototype", "C": 2.0}, "C=2.0 is of a logistic regression"),
        ({"C": 0}, "C=0 must be"),
        ({"pairs": {"epochs": 1}}, "must be PairSettings"),
        ({"batch_size": 0}, "batch_size=0 must be"),
        ({"cache_dir": True}, "cache_dir=True is no folder"),
        ({"device": "cuda"}, "device='cuda', but the model is on cpu"),
        ({"pooling": "token"}, "must be one pooling"),
        ({"pooling": "avg"}, "pooling='avg' must be one of"),
        ({"column": "text"}, "names a column of a data set"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises((ValueError, TypeError), match=message):
        few(**settings).fit(TEXTS, NAMES)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sampling", "over"),
        ("epochs", 0),
        ("batch_size", 1.5),
        ("learning_rate", float("nan")),
        ("warmup", 1.0),
        ("weight_decay", -1),
        ("max_pairs", 0),
        ("save_steps", 0),
        ("seed", -1),
    ],
)
def test_pair_settings_out_of_range(name, value):
    with pytest.raises(ValueError, match=f"{name}="):
        PairSettings(**{name: value})


def test_a_rate_that_breaks_the_encoder_is_said():
    with pytest.raises(FloatingPointError, match="lower learning_rate"):
        few(pairs=PairSettings(learning_rate=1e30, warmup=0)).fit(TEXTS, NAMES)


def test_rows_that_training_made_alike_are_said(monkeypatch):
    """An encoder whose last layer gives the same for all rows, but for rounding."""

    def collapsed(*args, **kwargs):
        training = train_on_pairs(*args, **kwargs)
        with torch.no_grad():
            norm = training.model.bert.encoder.layer[-1].output.LayerNorm
            norm.weight.fill_(1e-9)
            norm.bias.normal_()
        return training

    monkeypatch.setattr(few_shot_classifier, "train_on_pairs", collapsed)
    with pytest.raises(FloatingPointError, match="features of all rows alike, .*: lower learning_rate"):
        few().fit(TEXTS, NAMES)


def test_what_cannot_be_saved_is_said_before_training():
    classifier = few(model=families.build("distilbert"), processing=families.tokenizer(), pooling="mean")
    with pytest.raises(ValueError, match='pooling="head"'):
        classifier.check_save(TEXTS, NAMES)
    few().check_save(TEXTS, NAMES)
