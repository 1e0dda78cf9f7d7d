"""Statistics that leave a site: against NumPy, bounded in what a row adds, noised, read back, and aligned to."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import runs
import tiny
import torch
from peft import LoraConfig
from scipy.stats import norm as gaussian

from hftransfer import AdaptationTrainer, embed, load_statistics, publish_statistics
from hftransfer.embeddings import clipped_sums as sums_module
from hftransfer.embeddings import private_noise
from hftransfer.objectives.alignment.coral import CORAL
from hftransfer.objectives.alignment.mmd_rff import MMDRFF
from hftransfer.objectives.alignment.prototype import Prototype

# The module, which the function of its name hides.
publishing = sys.modules["hftransfer.embeddings.publish_statistics"]
ALL = ("moments", "prototypes", "random_features")
WIDTH = 32


@pytest.fixture(scope="module")
def news():
    return tiny.domain(30)


@pytest.fixture(scope="module")
def features(model_folder, news):
    return np.asarray(embed(news, model_folder, pooling="head", cache_dir=False, progress=False).features, np.float64)


@pytest.fixture(scope="module")
def clipped(features):
    """The clipping norm lies among the rows' lengths."""
    lengths = np.linalg.norm(features, axis=1)
    norm = float(np.median(lengths))
    return features * np.minimum(1, norm / lengths)[:, None], norm


@pytest.fixture(scope="module")
def published(model_folder, news, clipped, tmp_path_factory):
    folder = tmp_path_factory.mktemp("published") / "news"
    publish_statistics(
        model_folder, news, folder, statistics=ALL, clip_norm=clipped[1], cache_dir=False,
        processing_class=tiny.tokenizer(),
    )  # fmt: skip
    return folder


def noised(monkeypatch, multiplier: float = 0.5) -> None:
    """Noise of a multiplier, without the library that accounts for it."""
    monkeypatch.setattr(publishing, "read_noise", lambda *_: (multiplier, 1.5, 1e-5))


def alone(objective, **inputs):
    return objective(**{name: torch.as_tensor(value).float() for name, value in inputs.items()})


# ---- what is published


def test_statistics_are_those_of_numpy(published, clipped, news):
    statistics, (x, norm) = load_statistics(published), clipped
    held = {name: tensor.double().numpy() for name, tensor in statistics.tensors.items()}
    assert 5 < (np.linalg.norm(x, axis=1) < norm * (1 - 1e-6)).sum() < 25
    np.testing.assert_allclose(held["mean"], x.mean(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(held["covariance"], np.cov(x.T), rtol=1e-3, atol=1e-6)
    labels = np.array(news["label"])
    np.testing.assert_allclose(held["counts"], np.bincount(labels))
    for k in range(3):
        np.testing.assert_allclose(held["prototypes"][k], x[labels == k].mean(0), rtol=1e-4, atol=1e-6)
    bandwidth = statistics.facts["kernel"]["bandwidth"]
    distances = ((x[:, None] - x[None]) ** 2).sum(-1)
    assert bandwidth == pytest.approx(distances.sum() / (30 * 29), rel=1e-4)
    angle = x @ held["frequencies"]
    phi = np.concatenate([held["amplitude"] * np.cos(angle), held["amplitude"] * np.sin(angle)], 1)
    np.testing.assert_allclose(np.linalg.norm(phi, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(held["random_features"], phi.mean(0), rtol=1e-3, atol=1e-6)
    kernel = np.mean([np.exp(-distances / (bandwidth * 2.0**p)) for p in range(-2, 3)], 0)
    np.testing.assert_allclose(phi @ phi.T, kernel, atol=0.2)  # 512 frequencies
    within = (np.sum(phi @ phi.T) - 30) / (30 * 29)
    assert statistics.facts["kernel"]["within"] == pytest.approx(within, rel=1e-4)


def test_the_folder_says_what_leaves_the_site(published, news, caplog):
    assert sorted(path.name for path in published.iterdir()) == ["facts.json", "statistics.safetensors"]
    statistics = load_statistics(published)
    text = "\n".join(statistics.summary)
    for name, tensor in statistics.tensors.items():
        assert f"  {name}: " in text
        assert f"{tensor.nbytes:,} bytes" in text
    assert "statistics of rows are not anonymous" in text
    facts = (published / "facts.json").read_text()
    assert not any(row in facts for row in news["text"])
    assert str(published.parent) not in facts
    assert statistics.facts["epsilon"] is None
    assert statistics.facts["classes"] == list(tiny.LABELS)


def test_one_row_adds_at_most_its_bound():
    """To each sum as it is divided, and √B to all; the bound is reached."""
    draws = np.random.default_rng(0)
    rows, norm = draws.normal(0, 1, (12, 4)) * np.logspace(-2, 4, 12)[:, None], 1.7
    classes, kinds = draws.integers(0, 3, 12), ("moments", "prototypes")
    x, bounds = sums_module.clip(rows, norm), sums_module.bounds_of(norm)
    whole, largest = sums_module.clipped_sums(x, kinds, classes, 3), 0.0
    for i in range(12):
        left = np.arange(12) != i
        less = sums_module.clipped_sums(x[left], kinds, classes[left], 3)
        moved = [np.linalg.norm(whole[name] - less[name]) / bounds[name] for name in whole]
        assert max(moved) <= 1 + 1e-9
        largest = max(largest, float(np.linalg.norm(moved)))
    assert len(whole) == 4
    assert largest == pytest.approx(2.0)


@pytest.mark.parametrize("seed", [None, 3])
def test_noise_has_the_stated_spread(seed):
    noise = private_noise.Noise(seed)
    drawn = noise.draw(20_000)
    assert np.mean(drawn) == pytest.approx(0, abs=0.05)
    assert np.std(drawn) == pytest.approx(1, abs=0.03)
    assert np.quantile(drawn, 0.9) == pytest.approx(gaussian.ppf(0.9), abs=0.06)
    square = noise.draw_symmetric(120)
    assert (square == square.T).all()
    assert np.std(np.diag(square)) == pytest.approx(1, abs=0.25)
    assert np.std(square[np.triu_indices(120, 1)]) == pytest.approx(0.5**0.5, abs=0.03)
    assert (private_noise.Noise(seed).draw(5) == private_noise.Noise(seed).draw(5)).all() == (seed is not None)


def test_noise_is_scaled_by_the_sensitivity(monkeypatch, model_folder, news, tmp_path, clipped):
    """Counts, class sums, sums and outer products are four sums: twice the multiplier, times each one's bound."""
    noised(monkeypatch)
    seen = {}
    add = sums_module.add_noise
    monkeypatch.setattr(sums_module, "add_noise", lambda s, scales, n: seen.update(scales) or add(s, scales, n))
    found = publish_statistics(
        model_folder, news, tmp_path / "out", statistics=("moments", "prototypes"), clip_norm=3.0, epsilon=1.5,
        delta=1e-5, noise_seed=1, cache_dir=False,
    )  # fmt: skip
    assert seen["count"] == pytest.approx(1.0)
    assert seen["sum"] == seen["class_sums"] == pytest.approx(3.0)
    assert seen["outer"] == pytest.approx(9.0)
    assert found.facts["noise"]["sensitivity"] == pytest.approx(2.0)
    assert "seed 1: not private" in found.facts["noise"]["source"]
    assert "ε = 1.5 at δ = 1e-05" in found.facts["means"]
    counts = found.tensors["counts"]
    assert not torch.equal(counts, counts.round())
    assert torch.linalg.eigvalsh(found.tensors["covariance"].double()).min() > -1e-3
    again = publish_statistics(
        model_folder, news, tmp_path / "again", statistics=("moments", "prototypes"), clip_norm=3.0, epsilon=1.5,
        delta=1e-5, noise_seed=1, cache_dir=False,
    )  # fmt: skip
    assert all(torch.equal(again.tensors[name], tensor) for name, tensor in found.tensors.items())


def test_the_term_of_pairs_is_unbiased_under_noise(monkeypatch, news, tmp_path):
    """The noise's own squared length is taken off; on average over seeds the term is that without noise."""
    given = {"statistics": "random_features", "clip_norm": 1.0, "bandwidth": 1.0, "frequencies": 32,
             "processing_class": tiny.tokenizer(), "cache_dir": tmp_path / "cache"}  # fmt: skip
    model = tiny.bert().eval()
    expected = publish_statistics(model, news, tmp_path / "plain", **given).facts["kernel"]["within"]
    noised(monkeypatch, 1.0)
    found = [
        publish_statistics(model, news, tmp_path / f"{s}", epsilon=1, delta=1e-5, noise_seed=s, **given)
        for s in range(12)
    ]
    terms = [statistics.facts["kernel"]["within"] for statistics in found]
    squares = [float(s.tensors["random_features"].double().square().sum()) for s in found]
    assert np.mean(terms) == pytest.approx(expected, abs=4 * np.std(terms) / 12**0.5)
    assert np.mean(squares) > expected + 3 * np.std(squares) / 12**0.5


def test_epsilon_is_that_of_the_analytic_gaussian_mechanism():
    """δ(ε) = Φ(1/2σ - εσ) - e^ε Φ(-1/2σ - εσ), Balle and Wang 2018: the library's ε is a little above."""
    pytest.importorskip("dp_accounting", reason="the extra `privacy` is not installed")
    delta_of = lambda s, e: gaussian.cdf(0.5 / s - e * s) - np.exp(e) * gaussian.cdf(-0.5 / s - e * s)  # noqa: E731
    for sigma in (0.7, 4.0):
        found, epsilon, delta = private_noise.read_noise(None, 1e-5, sigma)
        assert (found, delta) == (sigma, 1e-5)
        assert delta_of(sigma, epsilon) <= 1e-5 < delta_of(sigma, 0.98 * epsilon)
    multiplier, epsilon, _ = private_noise.read_noise(1.0, 1e-6, None)
    assert epsilon <= 1.001
    assert delta_of(multiplier, 1.001) <= 1e-6 < delta_of(0.98 * multiplier, 1.0)


def test_a_missing_library_is_named(monkeypatch, model_folder, news, tmp_path):
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    with pytest.raises(ImportError, match=r'dp-accounting.*pip install "hf-domain-adaptation\[privacy\]"'):
        publish_statistics(model_folder, news, tmp_path / "out", clip_norm=1.0, epsilon=1.0, delta=1e-5)
    assert not (tmp_path / "out").exists()


def test_a_class_that_noise_covers_has_no_prototype():
    sums = {"count": np.array([100.0, 3.0, 0.0]), "class_sums": np.ones((3, 16))}
    means, present = sums_module.prototypes(sums, scale=2.0, clip_norm=1.0)
    assert present.tolist() == [True, False, False]  # noise of the length 8, over 100 rows and over 3
    assert (means[1:] == 0).all()
    assert sums_module.prototypes(sums, scale=0.0, clip_norm=None)[1].tolist() == [True, True, False]


# ---- what objectives read


def test_coral_is_that_of_the_rows(published, clipped, features):
    x, _ = clipped
    y = np.random.default_rng(1).normal(0, 0.05, (9, WIDTH))
    found = alone(CORAL(mean_weight=0.5, statistics=str(published)), target_features=y)
    expected = ((np.cov(x.T) - np.cov(y.T)) ** 2).sum() / (4 * WIDTH**2)
    expected += 0.5 * ((x.mean(0) - y.mean(0)) ** 2).mean()
    assert float(found) == pytest.approx(expected, rel=1e-3)
    far = alone(CORAL(statistics=str(published)), target_features=1e4 * y)  # clipped as the site's rows were
    lengths = np.linalg.norm(y, axis=1, keepdims=True)
    near = ((np.cov(x.T) - np.cov((y / lengths * clipped[1]).T)) ** 2).sum() / (4 * WIDTH**2)
    assert float(far) == pytest.approx(near, rel=1e-3)


@pytest.mark.parametrize("estimator", ["unbiased", "biased"])
def test_mmd_rff_is_that_of_the_rows(published, clipped, estimator):
    x, y = clipped[0], np.random.default_rng(1).normal(0, 0.1, (9, WIDTH))
    held = {k: v.double().numpy() for k, v in load_statistics(published).tensors.items()}
    phi = lambda r: np.concatenate(  # noqa: E731
        [held["amplitude"] * f(r @ held["frequencies"]) for f in (np.cos, np.sin)], 1
    )
    s, t = phi(x), phi(y)
    if estimator == "biased":
        expected = ((s.mean(0) - t.mean(0)) ** 2).sum()
    else:
        pairs = lambda a: (np.sum(a @ a.T) - len(a)) / (len(a) * (len(a) - 1))  # noqa: E731
        expected = pairs(s) + pairs(t) - 2 * s.mean(0) @ t.mean(0)
    found = alone(MMDRFF(WIDTH, estimator=estimator, statistics=str(published)), target_features=y)
    assert float(found) == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_prototypes_are_matched_by_name(published, clipped, news):
    x, labels = clipped[0], np.array(news["label"])
    names = ("flat", "down", "up")
    objective = Prototype(WIDTH, 3, decay=0.0, threshold=0.5, statistics=str(published), class_names=names)
    y = np.random.default_rng(1).normal(0, 0.1, (2, WIDTH))
    logits = torch.tensor([[9.0, 0, 0], [0, 0, 9.0]])
    found = objective(target_features=torch.as_tensor(y).float(), target_logits=logits)
    centre = {name: x[labels == tiny.LABELS.index(name)].mean(0) for name in names}
    expected = np.mean([((centre["flat"] - y[0]) ** 2).sum(), ((centre["up"] - y[1]) ** 2).sum()])
    assert float(found) == pytest.approx(expected, rel=1e-3)
    with pytest.raises(ValueError, match="down, up, flat, and this run has a, b, c: rename"):
        Prototype(WIDTH, 3, statistics=str(published), class_names=("a", "b", "c"))


def test_classes_without_a_prototype_are_named_and_none_at_all_is_refused(monkeypatch, model_folder, news, tmp_path):
    usual = {"statistics": "prototypes", "cache_dir": False, "processing_class": tiny.tokenizer()}
    two = news.filter(lambda row: row["label"] != 1)
    found = publish_statistics(model_folder, two, tmp_path / "two", **usual)
    assert "No prototype, for lack of rows or under the noise: up." in found.summary
    assert Prototype(WIDTH, 3, class_names=tiny.LABELS, statistics=str(tmp_path / "two")).seen[0].tolist() == [1, 0, 1]
    noised(monkeypatch, 1000.0)
    publish_statistics(
        model_folder, news, tmp_path / "none", clip_norm=1.0, noise_multiplier=1000.0, delta=1e-5, **usual
    )
    with pytest.raises(ValueError, match="no class of the published prototypes has one.*of more rows"):
        Prototype(WIDTH, 3, class_names=tiny.LABELS, statistics=str(tmp_path / "none"))


def test_a_weak_model_is_aligned_to_prototypes(published):
    """It is some 60 % sure of the best rows: 0.9 takes none, the mean confidence on the target the surer half."""
    names = tuple(tiny.LABELS)
    draw = np.random.default_rng(2)
    y, p = draw.normal(0, 0.1, (8, WIDTH)), np.full((8, 3), 0.0)
    chosen, sure = draw.integers(0, 3, 8), np.array([0.61, 0.4, 0.6, 0.45, 0.58, 0.42, 0.6, 0.41])
    for row, (k, confidence) in enumerate(zip(chosen, sure, strict=True)):
        p[row] = (1 - confidence) / 2
        p[row, k] = confidence
    rows, logits = torch.as_tensor(y).float(), torch.as_tensor(p).float().log()
    settings = {"decay": 0.0, "statistics": str(published), "class_names": names}
    fixed, relative = Prototype(WIDTH, 3, threshold=0.9, **settings), Prototype(WIDTH, 3, **settings)
    assert float(fixed(target_features=rows, target_logits=logits)) == 0
    site = load_statistics(published).tensors["prototypes"].double().numpy()
    rows.requires_grad_(True)
    found = relative(target_features=rows, target_logits=logits)
    passed = sure >= sure.mean()
    distances = [((site[k] - y[passed & (chosen == k)].mean(0)) ** 2).sum() for k in set(chosen[passed])]
    assert found.item() == pytest.approx(np.mean(distances), rel=1e-3)
    found.backward()
    moved = rows.grad.abs().sum(1).numpy() > 0
    assert moved.tolist() == passed.tolist()


@pytest.mark.parametrize(
    ("make", "culprit", "remedy"),
    [
        (lambda p: MMDRFF(WIDTH, kernels=3, statistics=p), "kernels has no effect", "leave it out"),
        (lambda p: MMDRFF(7, statistics=p), "32 features a row, and this model has 7", "load the encoder"),
        (
            lambda p: Prototype(WIDTH, 3, threshold=0.9, relative_threshold=0.8, statistics=p),
            "relative_threshold=0.8 one that follows the confidence on the target",
            "Give one of them",
        ),
        (lambda p: CORAL(statistics=7), "statistics=7", "publish_statistics wrote"),
        (lambda p: CORAL()(target_features=torch.ones(3, 2)), "source_features is missing", "published statistics"),
    ],
)
def test_objectives_refuse_what_does_not_fit(published, make, culprit, remedy):
    with pytest.raises((ValueError, TypeError)) as found:
        make(str(published))
    assert culprit in str(found.value)
    assert remedy in str(found.value)


# ---- the other site


def test_a_run_aligns_to_a_file(published, model_folder, tmp_path):
    """The task loss is off, so all that moves moves for the file; a run that was killed goes on as if it was not."""
    objectives = {"coral": {"weight": 50.0, "statistics": str(published), "schedule": "constant", "mean_weight": 1.0}}
    settings = {"objectives": objectives, "task_weight": 0.0, "max_steps": 6, "learning_rate": 1e-3}
    settings |= {"save_strategy": "steps", "save_steps": 3}
    whole = runs.trainer(tmp_path / "whole", model_folder, **settings)
    whole.train()
    losses = runs.logged(whole, "coral_loss")
    assert np.mean(losses[-2:]) < 0.9 * np.mean(losses[:2])
    assert "source_features" not in whole.model.objectives.inputs["coral"]

    part = runs.trainer(tmp_path / "part", model_folder, **settings)
    part.train(resume_from_checkpoint=str(tmp_path / "whole/checkpoint-3"))
    for (name, a), b in zip(part.model.named_parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(a, b), name


def test_a_weak_model_follows_prototypes_without_a_source(published, model_folder, tmp_path):
    """A head that was hardly trained is sure of nothing; the term acts from the first step, and a run resumes."""
    objectives = {"prototype": {"weight": 1.0, "statistics": str(published), "schedule": "constant"}}

    def train(folder, resume=None):
        args = runs.config(folder, objectives=objectives, max_steps=4, save_strategy="steps", save_steps=2)
        target = tiny.domain(seed=1, labelled=False)
        run = AdaptationTrainer(model_folder, args, target_dataset=target, processing_class=tiny.tokenizer())
        run.train(resume_from_checkpoint=resume)
        return run

    whole = train(tmp_path / "whole")
    assert min(runs.logged(whole, "prototype_loss")) > 0
    own = whole.model.objectives.by_name["prototype"].pseudo_labels.own_confidence
    assert float(own.total / own.count) < 0.9
    part = train(tmp_path / "part", str(tmp_path / "whole/checkpoint-2"))
    for (name, a), b in zip(part.model.state_dict().items(), whole.model.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_a_run_goes_on_with_its_own_statistics_wherever_they_lie(published, model_folder, tmp_path):
    """Checkpoints hold the tensors, so that others in the same folder would be half read."""
    folder = tmp_path / "statistics"
    shutil.copytree(published, folder)

    def trainer(statistics):
        objectives = {"mmd_rff": {"weight": 1.0, "statistics": str(statistics)}}
        settings = {"objectives": objectives, "max_steps": 2, "save_strategy": "steps", "save_steps": 1}
        return runs.trainer(tmp_path / "run", model_folder, **settings)

    trainer(folder).train()
    shutil.move(folder, tmp_path / "moved")
    trainer(tmp_path / "moved").train(resume_from_checkpoint=str(tmp_path / "run/checkpoint-1"))
    publish_statistics(
        model_folder, tiny.domain(seed=9), folder, statistics="random_features", cache_dir=False, device="cpu"
    )
    other = trainer(folder)
    with pytest.raises(ValueError, match=r"mmd_rff.statistics is sha256 \w+ there and sha256 \w+ here"):
        other.train(resume_from_checkpoint=str(tmp_path / "run/checkpoint-1"))


def test_an_adapter_over_the_encoder_is_accepted_and_another_encoder_is_not(published, model_folder, tmp_path):
    objectives = {"prototype": {"statistics": str(published)}, "mmd_rff": {"statistics": str(published)}}
    run = runs.trainer(
        tmp_path / "lora", model_folder, objectives=objectives, peft_config=LoraConfig(r=2), max_steps=1
    )
    run.train()
    assert run.state.global_step == 1
    for make, wrong in ((lambda: tiny.bert(seed=5), {}), (lambda: model_folder, {"features": "mean"})):
        bad = {"coral": {"statistics": str(published), **wrong}}
        with pytest.raises(ValueError, match="another encoder" if not wrong else "leave features at 'head'"):
            runs.trainer(tmp_path / "out", make(), objectives=bad)
    assert not (tmp_path / "out").exists()


def test_the_examples_of_the_page_run(tmp_path, monkeypatch, news):
    """Both sites, in order, from one checkpoint with a head."""
    noised(monkeypatch)
    monkeypatch.chdir(tmp_path)
    tiny.bert().save_pretrained("runs/news")
    tiny.tokenizer().save_pretrained("runs/news")
    page = (Path(__file__).parents[2] / "docs/exchange.md").read_text(encoding="utf-8")
    short = 'output_dir="runs/medical", max_steps=1, use_cpu=True, report_to=[], disable_tqdm=True'
    scope = {"news": news, "medical": tiny.domain(seed=1, labelled=False)}
    for code in re.findall(r"```python\n(.*?)```", page, re.S):
        exec(code.replace('output_dir="runs/medical"', short), scope)
    head = scope["trainer"].model.model.classifier.weight
    before = head.detach().clone()
    scope["trainer"].train()
    assert scope["trainer"].state.global_step == 1
    assert torch.equal(head, before)
