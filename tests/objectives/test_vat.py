"""Virtual adversarial training: directions, lengths, padding, and what a run sees of it."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cases import FakePerturbedForward, array, make, softmax
from toy import SEEDS, ToyModel, draw

from hftransfer.objectives.schedules import warm_start
from hftransfer.objectives.self_training.vat import start_direction
from hftransfer.trainers.step.perturbed_forward import PerturbedTargetForward


def start(v: np.ndarray, mask: np.ndarray, number: int) -> np.ndarray:
    """The start direction, entry by entry; `v` are the inputs in units of their root mean square."""
    d = np.zeros_like(v)
    for i, t, j in np.ndindex(*v.shape):
        turns = mask[i, : t + 1].sum() * (j + 1) * ((2 * number + 1) * 40503 % 65536) % 65536 / 65536
        d[i, t, j] = mask[i, t] * math.sin(2 * math.pi * turns + v[i, t, j])
    return d


def unit(d: np.ndarray) -> np.ndarray:
    return d / np.sqrt((d**2).sum((1, 2), keepdims=True))


def kl(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    return (p * np.log(p / q)).sum(-1)


def vat(forward: FakePerturbedForward, xi=1.0, eps=5.0, iterations=1, number=0) -> tuple[float, np.ndarray]:
    """The value and the shift, with the derivative of KL by hand: for the mean of l tokens, W(q - p)/l at each."""
    v, mask, w = array(forward.inputs), forward.mask.numpy(), array(forward.weight)
    real = mask[:, :, None].astype(float)
    length = real.sum(1)
    predict = lambda shift: softmax(((v + shift) * real).sum(1) / length @ w)  # noqa: E731
    scale = np.sqrt(((v * real) ** 2).sum((1, 2)) / (length[:, 0] * v.shape[2]))[:, None, None]
    p, u = predict(0), unit(start(v / scale, mask, number))
    for _ in range(iterations):
        u = unit(real * ((predict(xi * scale * u) - p) @ w.T / length)[:, None])
    return kl(p, predict(eps * scale * u)).mean(), eps * scale * u


def shifts(module, forward) -> list[torch.Tensor]:
    """The shifts that the objective asks for, in order."""
    seen = []

    def spy(shift):
        seen.append(shift)
        return forward(shift)

    spy.inputs, spy.mask = forward.inputs, forward.mask
    module(spy)
    return seen


def test_value_and_shift_are_the_definition():
    forward = FakePerturbedForward(6, 5, 3, dtype=torch.float64)
    for xi, eps, iterations in itertools.product((0.1, 1.0), (0.5, 5.0), (1, 3)):
        module = make("vat", xi=xi, eps=eps, iterations=iterations)
        for number in range(3):
            value, shift = vat(forward, xi, eps, iterations, number)
            clean, *_, last = shifts(module, forward)
            assert clean is None
            np.testing.assert_allclose(array(last), shift, atol=1e-9)
            module.calls -= 1
            assert module(forward).item() == pytest.approx(value, rel=1e-9), (xi, eps, iterations, number)


def test_the_gradient_is_that_of_the_moved_prediction_alone():
    """p and the shift are constants: only q moves."""
    forward = FakePerturbedForward(6, 5, 3, dtype=torch.float64)
    _, shift = vat(forward)
    w, p = array(forward.weight), array(forward(None).softmax(-1))
    real = forward.mask.unsqueeze(-1)
    mean = (((forward.inputs + torch.from_numpy(shift)) * real).sum(1) / real.sum(1)).numpy()
    expected = mean.T @ (softmax(mean @ w) - p) / 6
    (found,) = torch.autograd.grad(make("vat")(forward), forward.weight)
    np.testing.assert_allclose(array(found), expected, atol=1e-12)


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_row_is_moved_alike_wherever_it_is_and_however_it_is_padded(side):
    """Two processes pad their shares by themselves and must do what one process does."""
    forward, module = FakePerturbedForward(6, 5, 3), make("vat")
    whole = shifts(module, forward)[-1]
    part, keep = FakePerturbedForward(6, 5, 3), slice(2, 5)
    more = (3, 0) if side == "left" else (0, 3)
    part.inputs = F.pad(forward.inputs[keep], (0, 0, *more), value=7.0)
    part.mask = F.pad(forward.mask[keep], more)
    module.calls.zero_()
    shift = shifts(module, part)[-1]
    torch.testing.assert_close(shift[:, 3:] if side == "left" else shift[:, :4], whole[keep])


def test_rounding_of_inputs_stays_rounding():
    """A start that were a hash of inputs would be another one after a difference in the last digit."""
    forward, near = FakePerturbedForward(6, 5, 3), FakePerturbedForward(6, 5, 3)
    near.inputs = near.inputs * (1 + 1e-6)
    torch.testing.assert_close(shifts(make("vat"), near)[-1], shifts(make("vat"), forward)[-1], atol=1e-4, rtol=1e-4)


def test_starts_change_from_call_to_call_and_favour_no_side():
    """The sign of a shift is that of its start. Were it always the same, each step would push the same way."""
    v, mask = torch.randn(4, 6, 8, generator=torch.Generator().manual_seed(0)), torch.ones(4, 6)
    starts = torch.stack([start_direction(v, mask, torch.ones(4, 1, 1), torch.tensor(i)) for i in range(400)])
    starts = starts / starts.square().sum((2, 3), keepdim=True).sqrt()
    assert starts.mean(0).square().sum((1, 2)).max() < 0.1  # of at most 1
    chosen = torch.randn(6, 8, generator=torch.Generator().manual_seed(1))
    side = ((starts * chosen).sum((2, 3)) > 0).float().mean(0)
    assert ((side > 0.35) & (side < 0.65)).all()


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("weight", torch.zeros_like),  # predictions at 1/K, and no gradient at all
        ("weight", lambda w: 1e4 * w),  # at 0 and 1
        ("weight", lambda w: 1e-20 * w),  # gradients whose squares are 0
        ("inputs", torch.zeros_like),
        ("inputs", lambda v: 1e4 * v),
        ("mask", torch.zeros_like),  # nothing but padding
    ],
)
def test_edges_are_finite(name, change):
    forward, module = FakePerturbedForward(6, 5, 3), make("vat", iterations=2)
    setattr(forward, name, change(getattr(forward, name).detach()))
    forward.weight.requires_grad_()
    value = module(forward)
    assert forward.weight.grad is None  # the power method leaves none behind
    assert torch.isfinite(value)
    assert value >= -1e-6
    assert torch.isfinite(torch.autograd.grad(value, forward.weight)[0]).all()


def test_where_the_gradient_is_lost_in_rounding_the_row_moves_along_its_start():
    """As in half precision, when the step xi changes no digit of the prediction."""
    forward, module = FakePerturbedForward(6, 5, 3, dtype=torch.float64), make("vat")
    forward.weight = torch.zeros_like(forward.weight).requires_grad_()
    shift = array(shifts(module, forward)[-1])
    v = array(forward.inputs)
    scale = np.linalg.norm(shift, axis=(1, 2), keepdims=True) / 5
    np.testing.assert_allclose(shift, 5 * scale * unit(start(v / scale, forward.mask.numpy(), 0)), atol=1e-9)


class ToyTokens:
    """The toy's rows as three tokens of two numbers."""

    def __init__(self, model: ToyModel, x: torch.Tensor):
        self.model, self.inputs, self.mask = model, x.unflatten(1, (3, 2)), torch.ones(len(x), 3)

    def __call__(self, shift: torch.Tensor | None) -> torch.Tensor:
        self.model.eval()
        logits = self.model((self.inputs if shift is None else self.inputs + shift).flatten(1)).logits
        self.model.train()
        return logits


class ToyEyes(torch.nn.Module):
    """The toy model, which looks at pictures of two pixels in three colours."""

    main_input_name = "pixel_values"

    def __init__(self, model: ToyModel):
        super().__init__()
        self.model = model

    def forward(self, pixel_values):
        return self.model(pixel_values.flatten(1))


def toy_pixels(model: ToyModel, x: torch.Tensor) -> PerturbedTargetForward:
    """The toy's rows as such pictures, moved as a run moves them."""
    return PerturbedTargetForward(ToyEyes(model), {"pixel_values": x.view(-1, 3, 1, 2)}, None, None, lambda: None)


def train(seed: int, weight: float, forward=ToyTokens, steps: int = 300) -> tuple[float, float]:
    """Accuracy on source and target rows that training has not seen, as in `toy.train`."""
    torch.manual_seed(seed)
    model, module = ToyModel(), make("vat", eps=0.5)
    g = torch.Generator().manual_seed(1000 + seed)
    (xs, ys), (xt, _) = draw(600, False, g), draw(600, True, g)
    held_out = draw(400, False, g), draw(400, True, g)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(steps):
        s, t = torch.randint(0, 600, (2, 32), generator=g)
        loss = F.cross_entropy(model(xs[s]).logits, ys[s])
        if weight:
            loss = loss + weight * warm_start(torch.tensor(step / steps)) * module(forward(model, xt[t]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    source, target = ((model(x).logits.argmax(-1) == y).float().mean().item() for x, y in held_out)
    return source, target


@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize("forward", [ToyTokens, toy_pixels])
def test_the_target_gains(forward, seeds):
    for seed in seeds:
        (source, target), (source_after, target_after) = train(seed, 0.0), train(seed, 1.0, forward)
        assert target_after > target + 0.02
        assert target_after > 0.98
        assert source_after > source - 0.03
