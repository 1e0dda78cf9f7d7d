"""Stochastic normalisation of a model: what each channel is normalised by, what is kept, which channels are chosen."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from hftransfer.models.batch_norm_statistics import batch_norms
from hftransfer.models.stochastic_norm import ChannelMix

EPS, MOMENTUM = 1e-5, 0.1
SHAPES = {nn.BatchNorm1d: (6, 8), nn.BatchNorm2d: (6, 8, 3, 2)}


def layer(kind=nn.BatchNorm2d, affine: bool = True, momentum: float | None = MOMENTUM):
    """A batch norm of eight channels that has seen something else before."""
    draw = torch.Generator().manual_seed(0)
    made = kind(8, affine=affine, momentum=momentum).double()
    made.running_mean.copy_(torch.randn(8, generator=draw))
    made.running_var.copy_(0.5 + torch.rand(8, generator=draw))
    if affine:
        with torch.no_grad():
            made.weight.copy_(torch.randn(8, generator=draw))
            made.bias.copy_(torch.randn(8, generator=draw))
    return made.train()


def pixels(shape=SHAPES[nn.BatchNorm2d], seed: int = 1) -> torch.Tensor:
    return 2 + torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def chosen_by(mix: ChannelMix, *widths: int) -> list[np.ndarray]:
    """What the next forward will choose."""
    return [c.numpy() for c in copy.deepcopy(mix)._choose(list(widths))]


def by_hand(module, x: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Output, running mean and running variance."""
    axes = (0, *range(2, x.ndim))
    count = x.size // x.shape[1]
    mean, variance = x.mean(axes), x.var(axes)
    past_mean, past_variance = module.running_mean.numpy().copy(), module.running_var.numpy().copy()
    shape = (1, -1, *[1] * (x.ndim - 2))
    use = [np.where(chosen, a, b).reshape(shape) for a, b in ((past_mean, mean), (past_variance, variance))]
    scale, shift = (
        (module.weight.detach().numpy().reshape(shape), module.bias.detach().numpy().reshape(shape))
        if module.affine
        else (1.0, 0.0)
    )
    out = scale * (x - use[0]) / np.sqrt(use[1] + EPS) + shift
    unbiased = variance * count / (count - 1)
    return (
        out,
        (1 - MOMENTUM) * past_mean + MOMENTUM * mean,
        (1 - MOMENTUM) * past_variance + MOMENTUM * unbiased,
    )


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("share", [0.3, 0.5, 1.0])
def test_every_channel_is_normalised_by_its_own_choice_and_all_are_recorded(kind, affine, share):
    module, mix, x = layer(kind, affine), ChannelMix(share, seed=4), pixels(SHAPES[kind])
    (chosen,) = chosen_by(mix, 8)
    assert chosen.all() == (share == 1)
    assert chosen.any()
    expected, mean, variance = by_hand(module, x.numpy(), chosen)
    with mix.mixing(module):
        out = module(x)
    np.testing.assert_allclose(out.detach().numpy(), expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(module.running_mean.numpy(), mean, rtol=1e-12)
    np.testing.assert_allclose(module.running_var.numpy(), variance, rtol=1e-12)


@pytest.mark.parametrize("kind", SHAPES)
def test_gradient_sees_kept_statistics_as_constants(kind):
    """By finite differences, of rows, scale and shift; and of a chosen channel it is the scale over the deviation."""
    x, module, mix = pixels(SHAPES[kind]).requires_grad_(), layer(kind), ChannelMix(0.5, seed=4)
    weights = pixels(SHAPES[kind], seed=2)

    def loss(rows, scale, shift):
        fresh, again = copy.deepcopy(module), copy.deepcopy(mix)
        fresh.weight.data, fresh.bias.data = scale.detach(), shift.detach()
        with again.mixing(fresh):
            out = torch.func.functional_call(fresh, {"weight": scale, "bias": shift}, (rows,))
        return (weights * out).sum()

    scale, shift = (p.detach().clone().requires_grad_() for p in (module.weight, module.bias))
    assert torch.autograd.gradcheck(loss, (x, scale, shift))
    (chosen,) = chosen_by(mix, 8)
    (gradient,) = torch.autograd.grad(loss(x, scale, shift), x)
    slope = module.weight / (module.running_var + EPS).sqrt()
    expected = (weights * slope.view(1, -1, *[1] * (x.ndim - 2))).detach()
    torch.testing.assert_close(gradient[:, chosen], expected[:, chosen])


def test_choices_depend_on_seed_and_step_alone_and_leave_the_global_generator_as_it_was():
    widths = [64, 32]
    first = chosen_by(ChannelMix(seed=1), *widths)
    state = torch.get_rng_state()
    mix = ChannelMix(seed=1)
    drawn = [torch.cat(mix._choose(widths)) for _ in range(4)]
    assert torch.equal(state, torch.get_rng_state())
    assert np.array_equal(np.concatenate(first), drawn[0].numpy())
    assert len({tuple(d.tolist()) for d in drawn}) == 4
    assert not np.array_equal(np.concatenate(first), np.concatenate(chosen_by(ChannelMix(seed=2), *widths)))
    resumed = ChannelMix(seed=1)
    resumed.load_state_dict(mix.state_dict())
    assert torch.equal(torch.cat(resumed._choose(widths)), torch.cat(mix._choose(widths)))


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_as_many_channels_are_chosen_as_asked(share):
    (chosen,) = ChannelMix(share)._choose([20_000])
    assert chosen.float().mean().item() == pytest.approx(share, abs=0.02)


class Tower(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = layer(), layer(), layer()
        self.plain = nn.BatchNorm2d(8, track_running_stats=False).double()

    def forward(self, x):
        return self.plain(self.third(self.second(self.first(x))))


def test_layers_choose_apart_and_those_that_stand_still_are_left_alone():
    """In eval mode, or without running statistics, a batch norm does what it always did; outside, all do."""
    model, mix, x = Tower().train(), ChannelMix(seed=3), pixels()
    model.second.eval()
    first, third = chosen_by(mix, 8, 8)
    assert not np.array_equal(first, third)
    before = [model.second.running_mean.clone(), model.second.running_var.clone()]
    plain = copy.deepcopy(model)
    middle = torch.from_numpy(by_hand(model.first, x.numpy(), first)[0])
    last = by_hand(model.third, plain.second(middle).detach().numpy(), third)[0]
    with mix.mixing(model):
        found = model(x)
    np.testing.assert_allclose(
        found.detach().numpy(), plain.plain(torch.from_numpy(last)).detach().numpy(), rtol=1e-10
    )
    assert all(
        torch.equal(a, b) for a, b in zip(before, (model.second.running_mean, model.second.running_var), strict=True)
    )
    assert not any(m._forward_hooks for m in model.modules())
    model.load_state_dict(plain.state_dict())
    torch.testing.assert_close(model(x), plain(x))


def test_a_forward_that_fails_leaves_no_hook():
    model, mix = Tower().train(), ChannelMix()
    with pytest.raises(ValueError, match="expected 4D input"), mix.mixing(model):
        model(pixels((6, 8)))
    assert not any(m._forward_hooks for m in model.modules())
    assert len(batch_norms(model)) == 3


@pytest.mark.parametrize("share", [0.0, -0.1, 1.5])
def test_bad_shares(share):
    with pytest.raises(ValueError, match="must be above 0 and at most 1"):
        ChannelMix(share)
