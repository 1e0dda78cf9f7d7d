"""MDD: the margin loss, its stable logarithm, TLlib's logarithm."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from cases import array, batch, call, make, mlp, softmax
from moment_cases import weighted


def reference(module, inputs, shift: float = 0.0) -> float:
    """γ times the weighted mean of -log σ_h(s), minus the mean of log(1 - σ_h(t))."""
    parts = []
    for domain in ("source", "target"):
        p = softmax(mlp(module.head, array(inputs[f"{domain}_features"])))
        parts.append(p[np.arange(len(p)), array(inputs[f"{domain}_logits"]).argmax(1)])
    agree = np.average(-np.log(parts[0]), weights=array(inputs["source_weights"]))
    return module.margin * agree - np.log(np.minimum(1 - parts[1] + shift, 1)).mean()


@pytest.mark.parametrize("margin", [1.0, 4.0])
def test_value_given_the_head(margin):
    module = make("mdd", margin=margin)
    for inputs in (batch(), weighted(), batch(4, 9), weighted(4, 9)):
        assert call(module, inputs).item() == pytest.approx(reference(module, inputs), rel=1e-6)


def test_tllib_has_the_same_value_until_the_head_is_sure():
    """It shifts its logarithm by 1e-6."""
    module, inputs = make("mdd"), batch()
    assert call(module, inputs).item() == pytest.approx(reference(module, inputs, shift=1e-6), rel=1e-5)
    inputs["target_features"] = inputs["target_features"].detach() * 300
    inputs["target_logits"] = module.head(inputs["target_features"]).detach()
    assert call(module, inputs).item() > reference(module, inputs, shift=1e-6) + 1


def test_log_of_one_minus_p_is_right_where_p_is_1():
    """By hand: logits 40, 0, 0 leave 1 - p = 2e-40/(1 + 2e-40), whose logarithm fp32 cannot get from p."""
    module, inputs = make("mdd", width=3, depth=0), batch(width=3)
    with torch.no_grad():
        module.head[0].weight.copy_(torch.eye(3))
        module.head[0].bias.zero_()
    inputs["target_features"] = torch.tensor([[40.0, 0.0, 0.0]]).requires_grad_()
    inputs["target_logits"] = torch.tensor([[1.0, 0.0, 0.0]])
    source = {"source_features": torch.zeros(7, 3), "strength": torch.tensor(-1.0)}
    value = call(module, inputs, **source)
    assert value.item() == pytest.approx(4 * math.log(3) + 40 - math.log(2), abs=1e-5)
    (gradient,) = torch.autograd.grad(value, inputs["target_features"])
    torch.testing.assert_close(gradient, torch.tensor([[1.0, -0.5, -0.5]]))
