"""ADDA: value, and a target encoder that comes to the frozen source encoder."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import toy
from cases import array, batch, call, domain_entropy, make, mlp

from hftransfer.objectives.alignment.adda import ADDA
from hftransfer.objectives.base import TeacherFacts


@pytest.mark.parametrize(("hidden", "depth"), [(256, 2), (8, 0)])
def test_value_given_the_discriminator(hidden, depth):
    module, inputs = make("adda", hidden=hidden, depth=depth), batch()
    source = mlp(module.discriminator, array(inputs["teacher_source_features"][0]))
    target = mlp(module.discriminator, array(inputs["target_features"]))
    assert call(module, inputs).item() == pytest.approx(domain_entropy(source, target), abs=1e-6)


@pytest.mark.parametrize("seeds", toy.SEEDS)
def test_the_target_comes_to_the_frozen_encoder_and_gains(seeds):
    """A model that learnt the source alone; then its copy's body moves, its head does not, and no label is read."""
    gains = []
    for seed in seeds:
        module, (_, (xt, yt)), _ = toy.fit(None, seed)
        teacher, model = module.model.eval(), copy.deepcopy(module.model)
        torch.manual_seed(seed)
        objective = ADDA(toy.WIDTH)
        groups = [{"params": model.body.parameters(), "lr": 1e-3}, {"params": objective.parameters(), "lr": 3e-3}]
        optimizer, g = torch.optim.AdamW(groups), torch.Generator().manual_seed(seed)
        before = (model(xt).logits.argmax(1) == yt).float().mean().item()
        for step in range(400):
            (xs, _), (x, _) = toy.draw(64, False, g), toy.draw(64, True, g)
            fixed = teacher.body(xs).detach()
            value = objective([fixed], model.body(x), torch.ones(()).expand(64), torch.tensor(min(1.0, step / 200)))
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
        gains.append((model(xt).logits.argmax(1) == yt).float().mean().item() - before)
    assert min(gains) > 0
    assert np.mean(gains) > 0.03


def test_a_teacher_of_another_width_is_refused():
    with pytest.raises(ValueError, match="which are 4 wide, and the model's are 6"):
        ADDA(6, [TeacherFacts("a teacher", 4, ("a", "b"), True)])
