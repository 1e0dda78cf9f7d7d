"""Adaptation at test time: what moves and what does not, safeguards, resets, and a stream continued."""

from __future__ import annotations

import re
from pathlib import Path

import bad_streams
import numpy as np
import pictures
import pytest
import tiny
import torch
from peft import LoraConfig, get_peft_model
from stream_cases import BATCHES, LEARNS, METHODS, PIXELS, Probe, equal, rows, state, sure
from torch import nn

from hftransfer import TestTimeAdapter

DOCS = Path(__file__).parents[2] / "docs"
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


def test_a_stream_that_is_begun_in_inference_mode_goes_on_outside(tmp_path):
    settings = LEARNS | {"method": "sar"}  # with momentum in the optimizer
    usual = TestTimeAdapter(sure(tiny.bert()), **settings)
    with torch.inference_mode():
        inside = TestTimeAdapter(sure(tiny.bert()), **settings)
        inside.adapt_and_predict(BATCHES[0])
        inside.save(tmp_path / "state")
        inside.reset()
        inside.load(tmp_path / "state")
        made_inside = tiny.bert()
    for batch in BATCHES:
        inside.adapt_and_predict(batch)
    for batch in (BATCHES[0], *BATCHES):
        usual.adapt_and_predict(batch)
    assert usual.facts["steps"] == inside.facts["steps"] == 4
    assert equal(usual.state_dict()["tensors"], inside.state_dict()["tensors"])
    assert TestTimeAdapter(made_inside).adapt_and_predict(BATCHES[0]).logits.shape == (2, 3)
    with pytest.raises(ValueError, match="made under torch.inference_mode.*leave copy=True"):
        TestTimeAdapter(made_inside, copy=False)


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


MOMENTUM, WEIGHT = "optimizer.momentum_buffer.norm.weight", "weights.norm.weight"


@pytest.mark.parametrize(
    ("change", "culprit"),
    [
        (lambda tensors, facts: tensors[WEIGHT].fill_(torch.nan), f"{WEIGHT} is not finite"),
        (lambda tensors, facts: tensors[MOMENTUM].fill_(torch.inf), f"{MOMENTUM} is not finite"),
        (lambda tensors, facts: tensors.update({MOMENTUM: torch.zeros(9)}), f"{MOMENTUM} is missing or has"),
        (lambda tensors, facts: tensors.pop(MOMENTUM), f"{MOMENTUM} is missing"),
        (
            lambda tensors, facts: tensors.update({WEIGHT: tensors[WEIGHT].double()}),
            f"{WEIGHT} is missing or has another",
        ),
        (
            lambda tensors, facts: tensors.update({"average.start": torch.ones(7)}),
            "average.start is missing or has another",
        ),
        (
            lambda tensors, facts: tensors.update({"average.entropy": torch.ones(7)}),
            "average.entropy is missing or has",
        ),
        (lambda tensors, facts: tensors.update({"weights.more": torch.ones(7)}), "weights.more, which is no part"),
        (lambda tensors, facts: tensors.update(draws=torch.zeros(5)), "draws is missing or has another"),
        (lambda tensors, facts: facts["counts"].update(rows="many"), "counts must hold batches, rows"),
        (lambda tensors, facts: facts["counts"].update(rows=-1), "counts must hold batches, rows"),
        (lambda tensors, facts: facts["settings"].update(later=1), "later=1"),
        (lambda tensors, facts: facts.update(settings=[1]), "no state of a TestTimeAdapter"),
    ],
)
def test_a_damaged_state_is_refused_by_name_and_nothing_changes(change, culprit):
    adapters = [TestTimeAdapter(Probe(), **LEARNS) for _ in range(2)]
    for adapter in adapters:
        adapter.adapt_and_predict(rows(8))
    state = adapters[0].state_dict()
    assert MOMENTUM in state["tensors"]
    change(state["tensors"], state["facts"])
    before = adapters[1].state_dict()
    with pytest.raises(ValueError, match=re.escape(culprit)):
        adapters[1].load_state_dict(state)
    after = adapters[1].state_dict()
    assert equal(after["tensors"], before["tensors"])
    assert after["facts"] == before["facts"]


def test_the_classes_of_a_state_are_those_of_the_model():
    adapter = TestTimeAdapter(tiny.bert())
    adapter.adapt_and_predict(BATCHES[0])
    state = adapter.state_dict()
    state["tensors"] |= {f"average.{name}": torch.full((7,), 1 / 7) for name in ("adapted", "start")}
    with pytest.raises(ValueError, match="counts 7 classes, and the model has 3"):
        adapter.load_state_dict(state)


def test_a_state_that_is_not_finite_is_not_saved(tmp_path):
    adapter = TestTimeAdapter(Probe())
    adapter.weights.values["norm.weight"].fill_(torch.inf)
    with pytest.raises(ValueError, match=r"weights\.norm\.weight is not finite"):
        adapter.save(tmp_path / "stream.safetensors")
    with pytest.raises(FileExistsError, match="name another file"):
        TestTimeAdapter(Probe()).save(tmp_path)
    assert not list(tmp_path.iterdir())


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
