"""Adaptation at test time: the step against NumPy, what moves and what does not, resets, and a stream continued."""

from __future__ import annotations

import math
import re
from pathlib import Path

import bad_streams
import numpy as np
import pictures
import pytest
import tiny
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from hftransfer import TestTimeAdapter
from hftransfer.test_time.mixed_statistics import mixed_statistics
from hftransfer.test_time.reliable_rows import class_mix, select_rows
from hftransfer.test_time.stream_settings import StreamSettings

DOCS = Path(__file__).parents[2] / "docs"
METHODS = ("stable", "tent", "eata", "sar")
LEARNS = {"entropy_threshold": 1.0, "redundancy_margin": None, "full_step_rows": 1, "learning_rate": 0.05}


class Probe(nn.Module):
    """A norm and a linear map, whose logits are a bare tensor."""

    def __init__(self, width: int = 5, classes: int = 3, norm=nn.LayerNorm):
        super().__init__()
        torch.manual_seed(0)
        self.norm, self.head = norm(width), nn.Linear(width, classes)
        nn.init.normal_(self.norm.weight, 1, 0.2)
        nn.init.normal_(self.head.weight, 0, 1)
        self.eval()

    def forward(self, pixel_values):
        return self.head(self.norm(pixel_values))


def rows(count: int = 6, width: int = 5, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def texts(*sentences: str) -> dict:
    return dict(tiny.tokenizer()(list(sentences), padding=True, return_tensors="pt"))


BATCHES = [texts("w1 w2 up", "w3 down w4"), texts("w7"), texts("w5 w6", "w8 flat w9 w1", "up")]
PIXELS = [torch.rand(n, 3, 12, 12, generator=torch.Generator().manual_seed(n)) for n in (4, 1, 7)]


def sure(model):
    """A model whose predictions are far from even."""
    with torch.no_grad():
        [m for m in model.modules() if isinstance(m, nn.Linear)][-1].weight.mul_(30)
    return model


def state(model) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def equal(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


# ---- formulas


def numpy_entropies(probe: Probe, x: np.ndarray, theta: np.ndarray) -> np.ndarray:
    weight, bias = np.split(theta, 2)
    x = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5) * weight + bias
    z = x @ probe.head.weight.detach().double().numpy().T + probe.head.bias.detach().double().numpy()
    p = np.exp(z - z.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    return -(p * np.log(p)).sum(1)


def slope(f, theta: np.ndarray) -> np.ndarray:
    """Central differences."""
    steps = 1e-6 * np.eye(len(theta))
    return np.array([(f(theta + s) - f(theta - s)) / 2e-6 for s in steps])


@pytest.mark.parametrize("sharpness", [0.0, 0.3])
@pytest.mark.parametrize("weighs", [False, True])
def test_two_steps_are_those_of_numpy(sharpness, weighs):
    """Weighted entropy of reliable rows, at the worst point near by, pulled to the start, with momentum."""
    probe, share, rate, pull = Probe(), 0.8, 0.3, 0.5
    adapter = TestTimeAdapter(
        probe, "tent", batch_norm="running", optimizer="sgd", learning_rate=rate, full_step_rows=1, anchor=pull,
        sharpness=sharpness, entropy_threshold=share, entropy_weights=weighs,
    )  # fmt: skip
    start = np.concatenate([probe.norm.weight.detach().double().numpy(), probe.norm.bias.detach().double().numpy()])
    theta, velocity, bound = start.copy(), 0.0, share * math.log(3)
    for seed in (0, 1):
        x = rows(seed=seed)
        before = numpy_entropies(probe, x.double().numpy(), theta)
        chosen = before < bound
        weights = np.exp(bound - before) if weighs else np.ones_like(before)
        of = lambda t, keep, x=x, w=weights: (w * numpy_entropies(probe, x.double().numpy(), t))[keep].mean()  # noqa: E731
        gradient = slope(lambda t: of(t, chosen), theta)  # noqa: B023
        if sharpness:
            moved = theta + sharpness * gradient / np.linalg.norm(gradient)
            chosen = chosen & (numpy_entropies(probe, x.double().numpy(), moved) < bound)
            gradient = slope(lambda t: of(t, chosen), moved)  # noqa: B023
        assert 0 < chosen.sum() < len(x)
        velocity = 0.9 * velocity + gradient + pull * (theta - start)
        theta = theta - rate * velocity
        assert adapter.adapt_and_predict(x).learned_rows == chosen.sum()
    found = torch.cat([adapter.model.norm.weight, adapter.model.norm.bias]).detach().numpy()
    np.testing.assert_allclose(found, theta, rtol=1e-4, atol=1e-5)
    assert np.abs(theta - start).max() > 1e-3


def test_rows_are_chosen_by_entropy_novelty_and_agreement():
    z = 3 * rows(40, 4).double()
    log_p, start = z.log_softmax(1), rows(40, 4, seed=1).double().log_softmax(1)
    average = log_p.exp().mean(0)
    settings = StreamSettings(entropy_threshold=0.6, redundancy_margin=1.4)
    found = select_rows(log_p, settings, average, start)
    p, a = log_p.exp().numpy(), average.numpy()
    h = -(p * np.log(p)).sum(1)
    cosine = p @ a / np.linalg.norm(p, axis=1) / np.linalg.norm(a)
    parts = [h < 0.6 * np.log(4), cosine < 1.4 / 2, p.argmax(1) == start.numpy().argmax(1)]
    expected = np.logical_and.reduce(parts)
    assert all(0 < part.sum() < 40 for part in parts)
    assert 0 < expected.sum()
    assert (found.chosen.numpy() == expected).all()
    np.testing.assert_allclose(found.weights.numpy(), np.where(expected, np.exp(0.6 * np.log(4) - h), 0))


@pytest.mark.parametrize("prior", [0.0, 5.0])
@pytest.mark.parametrize("kind", [nn.BatchNorm1d, nn.BatchNorm2d])
def test_mixed_statistics_are_those_of_numpy(prior, kind):
    torch.manual_seed(1)
    norm = kind(3).eval()
    nn.init.normal_(norm.weight), nn.init.normal_(norm.bias)
    norm.running_mean.normal_(), norm.running_var.uniform_(0.5, 2)
    kept = state(norm)
    x = 2 + 3 * torch.randn(4, 3, *([5, 5] if kind is nn.BatchNorm2d else []))
    with mixed_statistics(norm, prior):
        found = norm(x)
    flat = np.moveaxis(x.double().numpy(), 1, 0).reshape(3, -1)
    share = 4 / (4 + prior)
    mean = share * flat.mean(1) + (1 - share) * norm.running_mean.double().numpy()
    variance = share * flat.var(1) + (1 - share) * norm.running_var.double().numpy()
    shape = (1, 3, *[1] * (x.ndim - 2))
    expected = (x.double().numpy() - mean.reshape(shape)) / np.sqrt(variance.reshape(shape) + norm.eps)
    expected = expected * norm.weight.detach().numpy().reshape(shape) + norm.bias.detach().numpy().reshape(shape)
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-4, atol=1e-5)
    assert equal(state(norm), kept)
    assert "forward" not in norm.__dict__
    with mixed_statistics(norm, prior):  # one value a channel has no variance: the running statistics
        one = norm(x[:1] if kind is nn.BatchNorm1d else x[:1, :, :1, :1])
    torch.testing.assert_close(one, norm(x[:1] if kind is nn.BatchNorm1d else x[:1, :, :1, :1]))


def test_predictions_are_the_mean_of_both_models():
    probe = Probe(norm=nn.BatchNorm1d)
    probe.norm.running_mean.fill_(0.5)
    x = rows(8)
    found = TestTimeAdapter(probe, start_share=0.25, class_mix=False, learning_rate=0.0).predict(x).logits.exp()
    with torch.no_grad():
        start = probe(x).softmax(1)
        with mixed_statistics(probe, 64):
            adapted = probe(x).softmax(1)
    assert not torch.allclose(start, adapted, atol=1e-3)
    torch.testing.assert_close(found, 0.25 * start + 0.75 * adapted)

    mixed = TestTimeAdapter(probe, start_share=0.25, learning_rate=0.0).adapt_and_predict(x).logits.exp()
    mix = (1 / adapted.mean(0).square().sum() - 1) / (8 * 3 / 10 - 1)
    share = 1 - 0.75 * min(1.0, float(mix))
    torch.testing.assert_close(mixed, share * start + (1 - share) * adapted)
    with torch.no_grad():
        probe.head.bias.add_(torch.tensor([60.0, 0, 0]))  # one class only: the start's word alone
        only = TestTimeAdapter(probe, learning_rate=0.0).adapt_and_predict(x).logits
        torch.testing.assert_close(only, probe(x).log_softmax(1))


def test_the_mix_of_classes_is_even_where_chance_would_have_it():
    """The expectation of Σ p̄² over drawn rows is 1 / D̄; a single class is 0, a single row 1."""
    labels = torch.from_numpy(np.random.default_rng(0).integers(0, 5, (4000, 8)))
    shares = torch.nn.functional.one_hot(labels, 5).double().mean(1)
    assert float(1 / shares.square().sum(1).mean()) == pytest.approx(8 * 5 / 12, rel=0.01)
    certain = lambda *ids: (torch.nn.functional.one_hot(torch.tensor(ids), 5) * 80.0).log_softmax(1)  # noqa: E731
    assert float(class_mix(certain(2, 2, 2, 2))) == pytest.approx(0, abs=1e-6)
    assert float(class_mix(certain(2))) == 1
    assert float(class_mix(certain(0, 1, 2, 3))) == 1
    assert float(class_mix(certain(0, 0, 1, 1))) == pytest.approx((2 - 1) / (20 / 8 - 1))


# ---- what moves and what does not


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("make", "batches"), [(tiny.bert, BATCHES), (pictures.resnet, PIXELS)], ids=["text", "image"])
def test_norms_move_and_nothing_else(method, make, batches):
    """With batches of any size, in training mode, with labels that would fail if the model saw them."""
    model = sure(make()).train()
    next(model.parameters()).requires_grad_(False)
    flags, kept = [p.requires_grad for p in model.parameters()], state(model)
    adapter = TestTimeAdapter(
        model, method, copy=False, **LEARNS | ({"entropy_threshold": None} if method == "tent" else {})
    )
    for batch in batches:
        labelled = {"pixel_values": batch} if isinstance(batch, torch.Tensor) else dict(batch)
        count = len(next(iter(labelled.values())))
        found = adapter.adapt_and_predict({**labelled, "labels": torch.full((2, 3, 4), 1e9), "label": ["unread"]})
        assert found.logits.shape == (count, 3)
        assert found.logits.isfinite().all()
    assert adapter.facts["steps"] > 0
    assert [p.requires_grad for p in model.parameters()] == flags
    assert model.training
    assert all(m.training for m in model.modules())
    moved = {name for name, tensor in state(model).items() if not torch.equal(tensor, kept[name])}
    assert moved
    assert all("norm" in name.lower() for name in moved)
    assert not {name for name in moved if "running" in name or "num_batches" in name}
    adapter.reset()
    assert equal(state(model), kept)
    assert all(p.grad is None for p in model.parameters())


def test_a_copy_leaves_the_model_alone():
    model = tiny.bert()
    kept = state(model)
    adapter = TestTimeAdapter(model, **LEARNS)
    adapter.adapt_and_predict(BATCHES[0])
    assert adapter.facts["drift"] > 0
    assert equal(state(model), kept)


def test_prediction_alone_changes_nothing():
    adapter = TestTimeAdapter(tiny.bert(), **LEARNS)
    adapter.adapt_and_predict(BATCHES[0])
    before = adapter.state_dict()["tensors"]
    adapter.predict(BATCHES[2])
    assert equal(adapter.state_dict()["tensors"], before)


def test_lora_adapts_alone():
    model = get_peft_model(tiny.bert(), LoraConfig(r=2, target_modules=["query"], init_lora_weights=False))
    kept = state(model)
    adapter = TestTimeAdapter(model, parameters="lora", copy=False, **LEARNS)
    for batch in BATCHES:
        adapter.adapt_and_predict(batch)
    moved = {name for name, tensor in state(model).items() if not torch.equal(tensor, kept[name])}
    assert moved
    assert all("lora_" in name for name in moved)


def test_folders_of_models_and_of_adapters(model_folder, tmp_path):
    plain = TestTimeAdapter(model_folder)
    loaded = tiny.bert().eval()
    with torch.no_grad():
        expected = loaded(**BATCHES[0]).logits.log_softmax(1)
    torch.testing.assert_close(plain.adapt_and_predict(BATCHES[0]).logits, expected)

    base = type(loaded).from_pretrained(model_folder)
    config = LoraConfig("SEQ_CLS", r=2, target_modules=["query"], init_lora_weights=False)
    lora = get_peft_model(base, config).eval()
    lora.save_pretrained(tmp_path / "adapter")
    with torch.no_grad():
        expected = lora(**BATCHES[0]).logits.log_softmax(1)
    adapter = TestTimeAdapter(str(tmp_path / "adapter"), parameters="lora")
    torch.testing.assert_close(adapter.adapt_and_predict(BATCHES[0]).logits, expected)


@pytest.mark.parametrize("around", [torch.inference_mode, torch.no_grad])
@pytest.mark.parametrize(
    ("make", "batch"), [(tiny.bert, BATCHES[0]), (pictures.resnet, {"pixel_values": PIXELS[0]})], ids=["text", "image"]
)
def test_a_step_is_the_same_in_the_callers_modes(around, make, batch):
    usual, inside = (TestTimeAdapter(sure(make()), **LEARNS) for _ in range(2))
    usual.adapt_and_predict(batch)
    with around():
        inside.adapt_and_predict({name: tensor.clone() for name, tensor in batch.items()})
    assert usual.facts["steps"] == 1
    assert equal(usual.state_dict()["tensors"], inside.state_dict()["tensors"])


@pytest.mark.parametrize("parameters", ["norms", "lora"])
def test_autocast_computes_with_the_new_weights(parameters):
    """Of a LoRA adapter, autocast would keep the weights that it has cast: the second forward would be the first."""
    model = get_peft_model(sure(tiny.bert()), LoraConfig(r=2, target_modules=["query"], init_lora_weights=False))
    adapter = TestTimeAdapter(model, parameters=parameters, **LEARNS | {"learning_rate": 2.0, "largest_drift": None})
    with torch.autocast("cpu", torch.bfloat16):
        for _ in range(4):
            adapter.adapt_and_predict(BATCHES[2])
        found = adapter.predict(BATCHES[2]).logits
    with torch.autocast("cpu", torch.bfloat16):
        again = adapter.predict(BATCHES[2]).logits
    assert torch.equal(found, again)
    assert adapter.facts["drift"] > 0
    assert all(tensor.dtype == torch.float32 for tensor in adapter.weights.values.values())


def test_small_steps_add_up_in_half_precision():
    model = sure(tiny.bert()).to(torch.bfloat16)
    adapter = TestTimeAdapter(model, **LEARNS | {"learning_rate": 1e-5})
    for _ in range(3):
        adapter.adapt_and_predict(BATCHES[0])
    drift = [float((v - adapter.weights.first[n]).abs().max()) for n, v in adapter.weights.values.items()]
    assert 0 < max(drift) < 1e-3


# ---- safeguards


def test_drift_is_limited_and_fisher_and_anchor_hold():
    free, near, pulled, fisher = (
        TestTimeAdapter(Probe(), "tent", learning_rate=0.1, full_step_rows=1, **given)
        for given in (
            {},
            {"largest_drift": 0.02},
            {"anchor": 50.0},
            {"fisher": 5000.0, "fisher_batches": [rows(32, seed=7), rows(16, seed=8)]},
        )
    )
    for seed in range(10):
        for adapter in (free, near, pulled, fisher):
            adapter.adapt_and_predict(rows(seed=seed))
    assert near.facts["drift"] == pytest.approx(0.02, rel=1e-3)
    assert free.facts["drift"] > 2 * max(near.facts["drift"], pulled.facts["drift"], fisher.facts["drift"])


def test_fisher_information_is_that_of_numpy():
    probe, batches = Probe(), [rows(4, seed=7), rows(3, seed=8)]
    adapter = TestTimeAdapter(probe, "eata", batch_norm="running", fisher_batches=batches)
    theta = np.concatenate([p.detach().double().numpy() for p in probe.norm.parameters()])

    def loss(t, x, predicted):
        weight, bias = np.split(t, 2)
        x = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5) * weight + bias
        z = x @ probe.head.weight.detach().double().numpy().T + probe.head.bias.detach().double().numpy()
        return float(np.mean(np.log(np.exp(z).sum(1)) - z[np.arange(len(z)), predicted]))

    squares = []
    for batch in batches:
        predicted = probe(batch).argmax(1).numpy()
        squares.append(slope(lambda t, x=batch, y=predicted: loss(t, x.double().numpy(), y), theta) ** 2)
    np.testing.assert_allclose(
        torch.cat(list(adapter.fisher.values())).numpy(), np.mean(squares, 0), rtol=1e-3, atol=1e-7
    )


def test_a_collapse_starts_again():
    """Weights that predict one class only, where the start weights predict all four."""
    guarded, free = (TestTimeAdapter(Probe(classes=4), learning_rate=0.0, least_diversity=d) for d in (0.7, None))
    for adapter in (guarded, free):
        adapter.adapt_and_predict(rows(64))
        adapter.weights.values["norm.bias"].copy_(20 * adapter.model.head.weight[0].detach())
        adapter.weights.write()
        assert adapter.facts["drift"] > 1
    found = [[adapter.adapt_and_predict(rows(64, seed=seed)) for seed in range(12)] for adapter in (guarded, free)]
    reasons = [[prediction.reset for prediction in of if prediction.reset] for of in found]
    assert "classes are predicted" in reasons[0][0]
    assert len(reasons[0]) == guarded.facts["resets"] == 1
    assert guarded.facts["drift"] == 0
    assert not reasons[1]
    assert free.facts["drift"] > 1
    assert free.facts["diversity"] < 0.7 * free.monitor.diversity("start")


@pytest.mark.parametrize("given", [{}, {"sharpness": 0.0}])
def test_a_very_low_entropy_starts_again(given):
    adapter = TestTimeAdapter(sure(Probe()), "sar", **given)
    found = adapter.adapt_and_predict(rows(64))
    assert "the entropy is" in found.reset
    assert adapter.facts["resets"] == 1
    assert adapter.facts["drift"] == 0


def test_weights_that_are_no_longer_finite_start_again():
    adapter = TestTimeAdapter(Probe(), **LEARNS)
    next(iter(adapter.weights.values.values())).fill_(float("nan"))
    adapter.weights.write()
    found = adapter.adapt_and_predict(rows())
    assert "not finite" in found.reset
    assert found.logits.isfinite().all()
    torch.testing.assert_close(found.logits, Probe()(rows()).log_softmax(1).detach())


def test_restoring_sets_entries_back():
    free, restored = (
        TestTimeAdapter(Probe(40), "tent", learning_rate=0.1, full_step_rows=1, restore=share) for share in (0.0, 0.5)
    )
    for adapter in (free, restored):
        adapter.adapt_and_predict(rows(width=40))
    at_start = lambda a: sum(int((v == a.weights.first[n]).sum()) for n, v in a.weights.values.items())  # noqa: E731
    assert at_start(free) < 8
    assert 20 < at_start(restored) < 60


def test_a_shift_of_the_inputs_is_followed():
    """Two clouds a batch norm and a line tell apart are moved and scaled; accuracy is an oracle's."""
    torch.manual_seed(0)
    labels = torch.arange(512) % 2
    x = torch.randn(512, 4) + 3 * labels.unsqueeze(1)
    model = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 2))
    optimizer = torch.optim.Adam(model.parameters(), 0.05)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), labels).backward()
        optimizer.step()
    model.eval()
    moved = x + 2
    right = {}
    for method in ("stable", "tent", "statistics"):
        adapter = TestTimeAdapter(_Named(model), method)
        found = [adapter.adapt_and_predict(part).predictions for part in moved.split(64)]
        right[method] = float((torch.cat(found) == labels).float().mean())
    unadapted = float((model(moved).argmax(1) == labels).float().mean())
    assert unadapted < 0.7
    assert right["stable"] > unadapted + 0.1
    assert right["statistics"] > unadapted + 0.1
    assert right["tent"] > 0.9
    half = TestTimeAdapter(_Named(model), "statistics", prior_rows=1e9).adapt_and_predict(moved)  # as the start
    assert float((half.predictions == labels).float().mean()) == unadapted


class _Named(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, pixel_values):
        return self.inner(pixel_values)


# ---- state


@pytest.mark.parametrize("method", METHODS)
def test_a_saved_stream_goes_on_bit_for_bit(method, tmp_path):
    """In another adapter of the same folder, with momentum, averages and draws; as if never interrupted."""
    model_folder = str(tmp_path / "model")
    sure(tiny.bert()).save_pretrained(model_folder)
    given = {"restore": 0.1, "full_step_rows": 1} | ({} if method == "tent" else {"entropy_threshold": 1.0})
    whole, first, second = (TestTimeAdapter(model_folder, method, **given) for _ in range(3))
    for batch in BATCHES * 2:
        expected = whole.adapt_and_predict(batch)
    for batch in BATCHES:
        first.adapt_and_predict(batch)
    file = tmp_path / "states/stream.safetensors"
    first.save(file)
    first.save(file)  # an earlier state is replaced
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    second.load(file)
    for batch in BATCHES:
        found = second.adapt_and_predict(batch)
    assert torch.equal(found.logits, expected.logits)
    assert equal(second.state_dict()["tensors"], whole.state_dict()["tensors"])
    np.testing.assert_equal(second.facts, whole.facts)
    assert whole.facts["steps"] > 0


@pytest.mark.parametrize(
    ("change", "culprit", "remedy"),
    [
        ("settings", "learning_rate=0.5", "the same settings"),
        ("model", "another model", "that the stream was started with"),
        ("cut", "or not whole", "save it again"),
        ("else", "no state of a stream", "save it again"),
        ("tensor", "missing or has another shape", "not whole"),
    ],
)
def test_a_state_that_does_not_fit_is_refused(tmp_path, change, culprit, remedy):
    adapter, file = TestTimeAdapter(Probe(), learning_rate=0.5), tmp_path / "stream.safetensors"
    adapter.save(file)
    rate = 0.25 if change == "settings" else 0.5
    other = TestTimeAdapter(Probe(classes=4 if change == "model" else 3), learning_rate=rate)
    if change == "cut":
        file.write_bytes(file.read_bytes()[:-9])
    if change == "else":
        file.write_text("my notes")
    held = adapter.state_dict()
    del held["tensors"]["weights.norm.bias"]
    before = other.state_dict()["tensors"]
    read = (lambda: other.load_state_dict(held)) if change == "tensor" else (lambda: other.load(file))
    with pytest.raises(ValueError, match=".") as found:
        read()
    assert culprit in str(found.value)
    assert remedy in str(found.value)
    assert equal(other.state_dict()["tensors"], before)
    if change == "else":
        with pytest.raises(FileExistsError, match="name another file"):
            adapter.save(file)
        assert file.read_text() == "my notes"
    with pytest.raises(FileNotFoundError, match=r"TestTimeAdapter\.save wrote"):
        other.load(tmp_path / "none.safetensors")


# ---- the page


def test_the_example_of_the_page_runs(tmp_path, monkeypatch):
    (example,) = re.findall(r"```python\n(.*?)```", (DOCS / "test_time.md").read_text(encoding="utf-8"), re.S)
    monkeypatch.chdir(tmp_path)
    pictures.resnet().save_pretrained("runs/phone")
    scope: dict = {"stream": PIXELS}
    exec(example, scope)
    assert scope["adapter"].facts["batches"] == 3
    assert (tmp_path / "runs/stream.safetensors").is_file()


# ---- bad input


@pytest.mark.parametrize(
    ("given", "error", "culprit", "remedy"), bad_streams.STREAMS.values(), ids=bad_streams.STREAMS.keys()
)
def test_bad_input_is_named(given, error, culprit, remedy):
    make, keywords, batch = given
    with pytest.raises(error) as found:
        TestTimeAdapter(make(), **keywords).adapt_and_predict(batch)
    assert culprit in str(found.value)
    assert remedy in str(found.value)
