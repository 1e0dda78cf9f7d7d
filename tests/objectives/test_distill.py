"""Distillation and learning without forgetting against NumPy: what is compared, whose labels, which rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cases import array, batch, call, domains, make, softmax

from hftransfer.objectives import REGISTRY, build_objectives, parse_objectives
from hftransfer.objectives.anchoring.distill_attention import attention_divergence
from hftransfer.objectives.base import LayerPair, TeacherFacts


def kl(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    return (p * (np.log(p) - np.log(q))).sum(-1)


def of_all(inputs, what="logits") -> np.ndarray:
    return np.concatenate(domains(inputs, what))


def facts(width=6, labels=("0", "1", "2"), same=True, head=None, name="a teacher") -> TeacherFacts:
    return TeacherFacts(name, width, tuple(labels), same, head)


def taught(kind: str, teachers, classes: int = 3, **settings):
    torch.manual_seed(0)
    specs = parse_objectives({kind: settings})
    return build_objectives(specs, 6, classes, teachers=lambda where: teachers)[0][kind]


@pytest.mark.parametrize("kind", ["lwf", "distill_logits"])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_logits(kind, temperature):
    inputs = batch()
    teacher, student = array(inputs["teacher_logits"][0]), of_all(inputs)
    tllibs = kl(softmax(teacher / temperature), softmax(student / temperature)).mean()
    want = temperature**2 * tllibs  # which leaves the square out
    assert call(make(kind, temperature=temperature), inputs).item() == pytest.approx(want, rel=1e-5)


@pytest.mark.parametrize("kind", ["lwf", "distill_logits", "rkd"])
@pytest.mark.parametrize(("rows", "part"), [("source", slice(0, 7)), ("target", slice(7, 12))])
def test_rows(kind, rows, part):
    """The setting says which input is given; the value is that of these rows alone."""
    inputs = batch()
    what = "features" if kind == "rkd" else "logits"
    assert REGISTRY[kind].reads({"rows": rows})[what] == f"{rows}_{what}"
    assert REGISTRY[kind].reads({"rows": rows})[f"teacher_{what}"] == f"teacher_{rows}_{what}"
    together = {w: inputs[f"{rows}_{w}"] for w in ("features", "logits")}
    together |= {f"teacher_{w}": [inputs[f"teacher_{w}"][0][part]] for w in ("features", "logits")}
    assert torch.equal(call(make(kind, rows=rows), inputs), call(make(kind), together))


def test_several_teachers_pull_as_their_mean_prediction():
    inputs, g = batch(), torch.Generator().manual_seed(5)
    teachers = [torch.randn(12, 3, generator=g) for _ in range(3)]
    module = taught("distill_logits", [facts(name=str(i)) for i in range(3)], temperature=1.0)
    value = call(module, inputs, teacher_logits=teachers)
    want = np.mean([kl(softmax(array(z)), softmax(of_all(inputs))).mean() for z in teachers])
    assert value.item() == pytest.approx(want, rel=1e-5)
    mean = torch.stack([z.softmax(-1) for z in teachers]).mean(0).log()
    both = [inputs["source_logits"], inputs["target_logits"]]
    one = call(make("distill_logits", temperature=1.0), inputs, teacher_logits=[mean])
    torch.testing.assert_close(torch.autograd.grad(value, both), torch.autograd.grad(one, both))


def test_features_through_a_projection_to_any_width():
    inputs, g = batch(), torch.Generator().manual_seed(5)
    teachers = [torch.randn(12, 6, generator=g), torch.randn(12, 9, generator=g)]
    module = taught("distill_features", [facts(6), facts(9)])
    value = call(module, inputs, teacher_features=teachers)
    want = 0.0
    for layer, h in zip(module.projections, teachers, strict=True):
        projected = of_all(inputs, "features") @ array(layer.weight).T + array(layer.bias)
        want += ((projected - array(h)) ** 2).mean() / 2
    assert value.item() == pytest.approx(want, rel=1e-5)
    assert torch.equal(module.projections[0].weight, torch.eye(6))  # equal widths start where they are


def attention(heads: int, seed: int, rows: int = 3, tokens: int = 4, real: int = 4) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, tokens, heads, tokens, generator=g, dtype=torch.float64)
    logits[..., real:] = -torch.inf
    return logits.softmax(-1)


@pytest.mark.parametrize("heads", [(2, 2), (2, 4)])
def test_attention(heads):
    """Padding keys have probability 0 on both sides, padding queries share 0; unequal heads are averaged first."""
    q, p = attention(heads[0], 0, real=3).requires_grad_(), attention(heads[1], 1, real=3)
    share = torch.tensor([1, 1, 1, 0], dtype=torch.float64).expand(3, 4) / 3
    value = attention_divergence(LayerPair(q, p, share))
    a, b = array(p)[:, :3, :, :3], array(q)[:, :3, :, :3]
    if heads[0] != heads[1]:
        a, b = a.mean(2, keepdims=True), b.mean(2, keepdims=True)
    assert value.item() == pytest.approx(kl(a, b).mean(), rel=1e-9)
    assert torch.isfinite(torch.autograd.grad(value, q)[0]).all()
    assert attention_divergence(LayerPair(p, p, share)).item() == 0


def test_the_old_head_is_the_teachers_and_learns():
    """Of a teacher with other labels, lwf keeps the head beside the model's."""
    inputs, g = batch(), torch.Generator().manual_seed(5)
    weight, bias, z = (torch.randn(shape, generator=g) for shape in ((4, 6), (4,), (12, 4)))
    module = taught("lwf", [facts(labels="abcd", same=False, head=(weight, bias))])
    value = call(module, inputs, teacher_logits=[z])
    now = of_all(inputs, "features") @ array(weight).T + array(bias)
    assert value.item() == pytest.approx(4 * kl(softmax(array(z) / 2), softmax(now / 2)).mean(), rel=1e-5)
    assert set(dict(module.named_parameters())) == {"head.weight", "head.bias"}
    value.backward()
    assert module.head.weight.grad.abs().sum() > 0
    assert not dict(taught("lwf", [facts()]).named_parameters())  # of one with the run's labels, nothing


@pytest.mark.parametrize(
    ("kind", "teachers", "settings", "message"),
    [
        ("distill_logits", [facts(labels="xyz", same=False)], {}, "labels of a teacher .* are not the run's"),
        ("lwf", [facts(9, "abcd", False, (torch.ones(4, 9), None))], {}, "the model's 6. Use 'distill_logits'"),
        ("lwf", [facts(), facts()], {}, "there are 2: .*'distill_logits' takes several"),
        ("co_tuning", [facts(), facts()], {}, "there are 2"),
        ("delta", [facts(), facts()], {}, "there are 2"),
        ("distill_logits", [], {"rows": "tarjet"}, "rows='tarjet' must be"),
        ("distill_features", [], {"rows": "tarjet"}, "rows='tarjet' must be"),
        ("distill_attention", [], {"rows": "source"}, "has no setting 'rows'"),
        ("distill_features", [], {"temperature": 2}, "has no setting 'temperature'"),
        ("distill_logits", [], {"temperature": 0}, "must be a positive number"),
        ("lwf", [], {"temperature": "hot"}, "must be a positive number"),
    ],
)
def test_what_is_refused(kind, teachers, settings, message):
    with pytest.raises(ValueError, match=message):
        taught(kind, teachers, **settings)


@pytest.mark.parametrize("kind", ["lwf", "co_tuning", "bi_tuning"])
def test_a_head_is_put_on_the_heads_features_only(kind):
    with pytest.raises(ValueError, match="leave features at 'head'"):
        parse_objectives({kind: {"features": "mean"}})
