"""WiSE-FT and soups: every weight is the float64 average, the choice reads no target label, folders must be alike."""

from __future__ import annotations

import gc
import json
import os
import shutil
import weakref

import numpy as np
import pytest
import tiny
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertModel,
    ResNetConfig,
    ResNetForImageClassification,
    ViTConfig,
    ViTForImageClassification,
)

from hftransfer.models import interpolation
from hftransfer.models.atomic_folder import new_folder
from hftransfer.models.ingredients import saved_tensors
from hftransfer.models.interpolation import Mixture

BATCH = tiny.tokenizer()(["w1 w2 up", "w3"], padding=True, return_tensors="pt")
NAMES = {"id2label": dict(enumerate(tiny.LABELS)), "label2id": {n: i for i, n in enumerate(tiny.LABELS)}}


def save(folder, model, tokenizer=True):
    model.save_pretrained(folder)
    if tokenizer:
        tiny.tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A start that is a bare backbone, three fine-tuned models, an adapter of the start."""
    folder = tmp_path_factory.mktemp("members")
    start = tiny.bert(seed=9)
    save(folder / "start", BertModel.from_pretrained(save(folder / "whole", start)))
    for i, name in enumerate("abc"):
        save(folder / name, tiny.bert(seed=i))
    torch.manual_seed(4)
    base = AutoModelForSequenceClassification.from_pretrained(folder / "whole")
    wrapped = get_peft_model(base, LoraConfig(r=2, target_modules=["query"], modules_to_save=["classifier"]))
    with torch.no_grad():
        for parameter in wrapped.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    save(folder / "adapter", wrapped)
    save(folder / "merged", wrapped.merge_and_unload())
    return folder


def arrays(model) -> dict[str, np.ndarray]:
    return {name: t.detach().double().numpy() for name, t in saved_tensors(model).items()}


def loaded(folder) -> dict[str, np.ndarray]:
    return arrays(AutoModelForSequenceClassification.from_pretrained(folder))


def logits(model):
    with torch.no_grad():
        return model.eval()(**BATCH).logits


def close(model, expected: dict[str, np.ndarray]) -> None:
    found = arrays(model)
    assert set(found) == set(expected)
    for name in found:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-7, atol=1e-8, err_msg=name)


# ---- weights


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_wise_ft_is_the_average_of_start_and_fine_tuned_but_for_a_head_the_start_lacks(world, alpha):
    start, tuned = loaded(world / "whole"), loaded(world / "a")
    with Mixture([world / "a"], start=world / "start") as mixture:
        model = mixture.set(alpha=alpha)
        expected = {n: (1 - alpha) * start[n] + alpha * tuned[n] for n in tuned}
        expected |= {n: tuned[n] for n in tuned if n.startswith("classifier.")}
        close(model, expected)
        assert "classifier.bias, classifier.weight" in mixture.notes[0]


def test_a_start_with_the_same_labels_gives_its_head_too(world):
    start, tuned = loaded(world / "whole"), loaded(world / "a")
    with Mixture([world / "a"], start=world / "whole") as mixture:
        close(mixture.set(alpha=0.25), {n: 0.75 * start[n] + 0.25 * tuned[n] for n in tuned})
        assert mixture.notes == []


@pytest.mark.parametrize("labels", [("a", "b", "c"), ("a", "b")])
def test_the_head_of_other_labels_is_not_averaged(world, tmp_path, labels):
    other = save(tmp_path / "other", tiny.bert(labels, seed=5))
    start, tuned = loaded(other), loaded(world / "a")
    with Mixture([world / "a"], start=other) as mixture:
        expected = {n: tuned[n] if n.startswith("classifier.") else 0.5 * (start[n] + tuned[n]) for n in tuned}
        close(mixture.set(alpha=0.5), expected)


def test_a_soup_and_a_start_together(world):
    start, *tuned = (loaded(world / name) for name in ("whole", "a", "b", "c"))
    with Mixture([world / n for n in "abc"], start=world / "whole") as mixture:
        model = mixture.set({"a": 0.5, "b": 0.2, "c": 0.3}, alpha=0.6)
        mix = zip((0.4, 0.3, 0.12, 0.18), (start, *tuned), strict=True)
        parts = [{n: w * x for n, x in member.items()} for w, member in mix]
        close(model, {n: sum(part[n] for part in parts) for n in start})


def test_an_adapter_is_merged_first(world):
    """By itself it needs to be told its labels; beside a plain folder it does not. Its base is the start."""
    merged = loaded(world / "merged")
    with Mixture([world / "adapter"], start=world / "whole", labels=tiny.LABELS) as mixture:
        close(mixture.set(), merged)
        start = loaded(world / "whole")
        close(mixture.set(alpha=0.5), {n: 0.5 * (start[n] + merged[n]) for n in start})
    with Mixture([world / "adapter", world / "a"]) as mixture:
        tuned = loaded(world / "a")
        close(mixture.set(), {n: 0.5 * (tuned[n] + merged[n]) for n in tuned})


def test_dtypes_are_agreed_on_before_anything_is_averaged(world, tmp_path):
    half = save(tmp_path / "half", tiny.bert(seed=1).to(torch.bfloat16))
    with pytest.raises(ValueError, match=r'holds torch.bfloat16 weights, .* torch.float32: .*dtype="float32"'):
        Mixture([world / "a", half])
    with Mixture([world / "a", half], dtype="float32") as mixture:
        a, b = loaded(world / "a"), loaded(half)
        close(mixture.set(), {n: 0.5 * (a[n] + b[n]) for n in a})


def test_a_vision_model_whose_files_go_by_older_names(tmp_path):
    """What `save_pretrained` writes of a ViT has other names than the model has."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    for seed in range(2):
        torch.manual_seed(seed)
        config = ViTConfig(**sizes, image_size=16, patch_size=8, **NAMES)
        ViTForImageClassification(config).save_pretrained(tmp_path / str(seed))
    a, b = (arrays(ViTForImageClassification.from_pretrained(tmp_path / str(i))) for i in range(2))
    assert set(a) != set(load_file(tmp_path / "0/model.safetensors"))
    with Mixture([tmp_path / "0", tmp_path / "1"]) as mixture:
        close(mixture.set(), {n: 0.5 * (a[n] + b[n]) for n in a})


def test_batch_norm_is_refused_without_inputs_and_estimated_from_them(tmp_path):
    for seed in range(2):
        torch.manual_seed(seed)
        config = ResNetConfig(embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic", **NAMES)
        model = ResNetForImageClassification(config).train()
        model(torch.randn(4, 3, 32, 32) + seed)  # statistics of its own
        model.save_pretrained(tmp_path / str(seed))
    folders = [tmp_path / "0", tmp_path / "1"]
    with pytest.raises(ValueError, match=r"has batch norm \(.*\): the average of running statistics is not that"):
        Mixture(folders)
    images = torch.randn(6, 3, 32, 32)
    with Mixture(folders, batches=lambda: [{"pixel_values": images}]) as mixture:
        alone = mixture.set({"1": 1.0})
        own = ResNetForImageClassification.from_pretrained(tmp_path / "1")
        assert all(torch.equal(x, y) for x, y in zip(alone.buffers(), own.buffers(), strict=True))
        model = mixture.set()
        stem = model.resnet.embedder.embedder
        x = stem.convolution(images).detach().double().numpy()
        np.testing.assert_allclose(stem.normalization.running_mean, x.mean((0, 2, 3)), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(stem.normalization.running_var, x.var((0, 2, 3), ddof=1), rtol=1e-4)


def test_two_models_are_in_memory_at_most(world, monkeypatch):
    """Counted when each has been loaded; averaging itself reads tensor by tensor."""
    alive, most = weakref.WeakSet(), []
    load = interpolation.load_ingredient

    def counted(*args, **kwargs):
        gc.collect()
        model, fresh = load(*args, **kwargs)
        alive.add(model)
        most.append(len(alive))
        return model, fresh

    monkeypatch.setattr(interpolation, "load_ingredient", counted)
    with Mixture([world / n for n in "abc"], start=world / "whole") as mixture:
        mixture.set(alpha=0.5)
    assert max(most) == 2
    assert len(most) == 4


# ---- choosing


def by_table(table):
    """A score that looks the model up by the first entry of its classifier's bias, which the tests plant."""

    def score(model):
        return {"source_accuracy": table[round(model.classifier.bias[0].item(), 2)], "target_oracle_accuracy": 1.0}

    return score


@pytest.fixture
def planted(tmp_path):
    """Models whose first bias says which they are: 1, 2, 4; averages are told apart by it."""
    for name, value in {"a": 1.0, "b": 2.0, "c": 4.0, "start": 0.0}.items():
        model = tiny.bert(seed=0)
        with torch.no_grad():
            model.classifier.bias[0] = value
        save(tmp_path / name, model)
    return tmp_path


def test_a_greedy_soup_keeps_what_does_not_make_it_worse(planted):
    """b is best; b + c is worse and c is left out; a + b is as good and a stays."""
    table = {1.0: 0.6, 2.0: 0.8, 4.0: 0.7, 3.0: 0.75, 1.5: 0.8}
    with Mixture([planted / n for n in "abc"]) as mixture:
        tried = mixture.search(by_table(table), by="source_accuracy")
        assert [point.name for point in tried] == ["a", "b", "c", "soup of b, c", "soup of b, a"]
        assert mixture.point.shares == {"b": 0.5, "a": 0.5}
        assert mixture.model.classifier.bias[0].item() == 1.5


def test_less_may_be_better_and_a_uniform_soup_takes_all(planted):
    table = {1.0: 0.6, 2.0: 0.8, 4.0: 0.7, 2.5: 0.65, 1.5: 0.7, 2.33: 0.1}
    with Mixture([planted / n for n in "abc"]) as mixture:
        mixture.search(by_table(table), by="source_accuracy", greater_is_better=False)
        assert mixture.point.shares == {"a": 1.0}  # neither b nor c makes less of it
    with Mixture([planted / n for n in "abc"]) as mixture:
        tried = mixture.search(by_table(table), by="source_accuracy", soup="uniform")
        assert tried[-1].name == "uniform soup"
        assert mixture.point.shares == pytest.approx(dict.fromkeys("abc", 1 / 3))


def test_alpha_is_chosen_and_of_equal_ones_the_nearest_to_the_fine_tuned_model(planted):
    table = {0.0: 0.5, 1.0: 0.9, 2.0: 0.9, 4.0: 0.7}
    with Mixture([planted / "c"], start=planted / "start") as mixture:
        tried = mixture.search(by_table(table), by="source_accuracy", alphas=[1, 0, 0.5, 0.25])
        assert [point.alpha for point in tried] == [0, 0.25, 0.5, 1]
        assert mixture.point.alpha == 0.5
        assert mixture.model.classifier.bias[0].item() == 2.0
        assert str(mixture.point) == "0.5 start + 0.5 (1 c)"


@pytest.mark.parametrize(
    ("by", "scores", "message"),
    [
        ("target_oracle_accuracy", {"target_oracle_accuracy": 1.0}, "reads target labels, which must not choose"),
        ("accuracy", {"source_accuracy": 1.0}, r"'accuracy' is not scored; there is source_accuracy\. Did you mean"),
        ("accuracy", {"accuracy": float("nan")}, "accuracy is nan at a: nothing can be chosen by it"),
    ],
)
def test_a_score_that_cannot_choose_is_refused(world, by, scores, message):
    with Mixture([world / "a", world / "b"]) as mixture, pytest.raises(ValueError, match=message):
        mixture.search(lambda model: scores, by)


# ---- keeping


def test_what_is_saved_is_a_plain_model_with_its_tokenizer_and_a_card(world, tmp_path):
    with Mixture([world / "a", world / "b"], start=world / "whole") as mixture:
        expected = logits(mixture.set(alpha=0.5))
        mixture.save(tmp_path / "out")
        with pytest.raises(FileExistsError, match="exists already"):
            mixture.save(tmp_path / "out")
        scratch = mixture._scratch.name
    assert torch.equal(logits(AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")), expected)
    assert AutoTokenizer.from_pretrained(tmp_path / "out").get_vocab() == tiny.tokenizer().get_vocab()
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert config["hftransfer"]["interpolation"] == {"alpha": 0.5, "shares": {"a": 0.5, "b": 0.5}}
    card = (tmp_path / "out/README.md").read_text()
    assert "0.5 start + 0.5 (0.5 a + 0.5 b)" in card
    assert "CVPR 2022" in card
    assert "ICML 2022" in card
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]
    assert not os.path.exists(scratch)


def test_a_folder_is_whole_or_absent(tmp_path):
    def write():
        with new_folder(tmp_path / "out") as folder:
            (folder / "half").write_text("x")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk"):
        write()
    assert list(tmp_path.iterdir()) == []


# ---- bad input


def changed(world, tmp_path, **config):
    return save(tmp_path / "changed", tiny.bert(**config))


BAD = {
    "nothing to average": (lambda w, t: Mixture([w / "a"]), "nothing to average: give a start, or more than one"),
    "no folder": (lambda w, t: Mixture([w / "a", w / "none"]), "no folder"),
    "twice": (lambda w, t: Mixture([w / "a", w / "a"]), "is named twice"),
    "none": (lambda w, t: Mixture([], start=w / "start"), "no fine-tuned model"),
    "other family": (
        lambda w, t: Mixture([w / "a", save(t / "tagger", tiny.bert(tagging=True))]),
        "is a BertForTokenClassification, .* a BertForSequenceClassification",
    ),
    "fewer layers": (
        lambda w, t: Mixture([w / "a", changed(w, t, num_hidden_layers=1)]),
        r"differ in num_hidden_layers \(1 and 2\)",
    ),
    "another activation": (lambda w, t: Mixture([w / "a", changed(w, t, hidden_act="relu")]), "differ in hidden_act"),
    "other labels": (
        lambda w, t: Mixture([w / "a", changed(w, t, labels=("x", "y", "z"))]),
        "have other labels: x, y",
    ),
    "other order": (
        lambda w, t: Mixture([w / "a", changed(w, t, labels=("up", "down", "flat"))]),
        "the same labels in another order: up, down, flat; down, up, flat",
    ),
    "start in other order": (
        lambda w, t: Mixture([w / "a"], start=changed(w, t, labels=("up", "down", "flat"))),
        "the same labels in another order",
    ),
    "a backbone as fine-tuned": (lambda w, t: Mixture([w / "a", w / "start"]), "BertModel is no classifier"),
    "adapter without labels": (
        lambda w, t: Mixture([w / "adapter"], start=w / "whole"),
        "is an adapter, whose folder does not say its labels",
    ),
    "unknown share": (lambda w, t: Mixture([w / "a", w / "b"]).set({"z": 1.0}), "no model 'z'; there is a, b"),
    "shares": (lambda w, t: Mixture([w / "a", w / "b"]).set({"a": 0.5}), r"must sum to 1, not to 0\.5"),
    "alpha": (lambda w, t: Mixture([w / "a"], start=w / "start").set(alpha=5), "alpha=5 must be between 0"),
    "no start": (lambda w, t: Mixture([w / "a", w / "b"]).set(alpha=0.5), "needs a start"),
    "soup": (lambda w, t: Mixture([w / "a", w / "b"]).search(dict, "x", soup="gredy"), "Did you mean 'greedy'"),
    "alphas": (lambda w, t: Mixture([w / "a"], start=w / "start").search(dict, "x", alphas=[]), "alphas is empty"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(world, tmp_path, case):
    make, message = BAD[case]
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        make(world, tmp_path)


def test_a_tokenizer_of_another_vocabulary_is_refused(world, tmp_path):
    shutil.copytree(world / "b", tmp_path / "b")
    tokenizer = tiny.tokenizer()
    tokenizer.add_tokens(["new"])
    tokenizer.save_pretrained(tmp_path / "b")
    with pytest.raises(ValueError, match=r"The tokenizers of .* and .* differ"):
        Mixture([world / "a", tmp_path / "b"])


def test_a_broken_checkpoint_is_refused(world, tmp_path):
    shutil.copytree(world / "b", tmp_path / "b")
    (tmp_path / "b/model.safetensors").write_bytes(b"\x00" * 20)
    with pytest.raises(FileNotFoundError, match="not a whole checkpoint"):
        Mixture([world / "a", tmp_path / "b"])
