"""Virtual adversarial training (VAT) on a model's inputs."""

from __future__ import annotations

import math
from typing import ClassVar

import torch

from ..base import Objective, PerturbedForward, Range, check_count, is_positive
from ..probabilities import divergence

CYCLE = 1 << 16  # phases of the start direction are whole numbers modulo this, exact on every device
STEP = 40503  # odd, near CYCLE divided by the golden ratio


class VAT(Objective):
    r"""Virtual adversarial training: predictions on target rows stay as they are when inputs move a little in the
    worst direction.

    With p the prediction of a row whose inputs are v (the embeddings of its tokens, or what the model is given if that
    is real numbers already), and s the root mean square of their entries,

    \[\frac1m\sum_i \mathrm{KL}\big(p(v_i)\,\Vert\,p(v_i + r_i)\big),\qquad r_i = \epsilon\, s_i\, u_i,\qquad
      u \leftarrow \frac{g}{\lVert g\rVert},\; g = \nabla_r\,\mathrm{KL}\big(p(v)\,\Vert\,p(v + r)\big)
      \Big|_{r = \xi s u}\]

    p(v) has no gradient. Norms are taken over all real tokens of a row together, padding never moves. The paper on
    text normalises embeddings to variance 1; those of a pretrained model are left alone, and `eps` and `xi` are in
    units of s instead. Where the first g is exactly 0, as rounding in half precision can make it, u stays as it was.

    Nothing is drawn: u starts from a function of the call's number, position, column and the row's own inputs, so
    that a resumed run is the same to the bit, and a row has the same start on whichever process it is and however it
    is padded. It must change from call to call: the sign of u is that of its start, KL being even near 0, and with a
    constant sign every step would push predictions the same way. (On the synthetic shift of the tests that took target
    accuracy from 0.93 to 0.58, where changing signs made it 1.00; means of three seeds.)

    A model that predicts the same everywhere has nothing to lose here: it is the task that forbids it. Each process
    sees its own rows only. DDP's mean over processes is then the mean over all rows.

    Args:
        xi: step at which the direction is measured; the 0.1 of the paper's code is less than bfloat16 rounds a
            sentence by.
        eps: length of the move.
        iterations: of the power method; each is one more forward and backward over the target rows.

    Shapes: a `PerturbedForward` of (m, positions, e) inputs -> ().

    Paper: Miyato et al., Virtual Adversarial Training, TPAMI 2018; on text: Miyato et al., Adversarial Training
    Methods for Semi-Supervised Text Classification, ICLR 2017.
    """

    calls: torch.Tensor
    paper = "Miyato et al., Virtual Adversarial Training, TPAMI 2018"
    default_weight = 0.1
    default_schedule = "warm_start"
    search: ClassVar = {"weight": Range(0.01, 1.0, log=True), "eps": Range(1.0, 20.0, log=True)}

    def __init__(self, xi: float = 1.0, eps: float = 5.0, iterations: int = 1):
        super().__init__()
        for name, value in (("xi", xi), ("eps", eps)):
            if not is_positive(value):
                raise ValueError(f"{name}={value!r} must be a positive number.")
        check_count("iterations", iterations)
        self.xi, self.eps, self.iterations = xi, eps, iterations
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))

    def forward(self, perturbed_target_forward: PerturbedForward) -> torch.Tensor:
        with torch.no_grad():
            log_p = perturbed_target_forward(None).log_softmax(-1)
        shift = self._worst_shift(perturbed_target_forward, log_p)
        self.calls += 1
        return divergence(log_p, perturbed_target_forward(shift).log_softmax(-1)).mean()

    def _worst_shift(self, perturbed_forward: PerturbedForward, log_p: torch.Tensor) -> torch.Tensor:
        """Shift of the inputs in the worst direction, (m, positions, e), without gradient."""
        v, real = perturbed_forward.inputs, perturbed_forward.mask.to(perturbed_forward.inputs.dtype).unsqueeze(-1)
        entries = (real.sum((1, 2), keepdim=True) * v.shape[-1]).clamp_min(1)
        scale = ((v * real).square().sum((1, 2), keepdim=True) / entries).sqrt()
        direction = _unit(start_direction(v, perturbed_forward.mask, scale, self.calls) * real)
        for _ in range(self.iterations):
            with torch.enable_grad():
                shift = (self.xi * scale * direction).requires_grad_()
                total = divergence(log_p, perturbed_forward(shift).log_softmax(-1)).sum()
            gradient = torch.autograd.grad(total, shift)[0] * real
            has_gradient = gradient.abs().amax((1, 2), keepdim=True) > 0
            direction = torch.where(has_gradient, _unit(gradient), direction)
        return self.eps * scale * direction


def start_direction(
    inputs: torch.Tensor, mask: torch.Tensor, scale: torch.Tensor, number: torch.Tensor
) -> torch.Tensor:
    """Start of the search for the worst direction, (m, positions, e) between -1 and 1. It looks random, and changes
    with inputs no faster than they do, so that rounding stays rounding. Positions count real tokens: padding, on
    either side, moves none."""
    position = mask.long().cumsum(1).unsqueeze(-1)
    column = torch.arange(1, inputs.shape[-1] + 1, device=inputs.device)
    phase = position * column * ((2 * number + 1) * STEP % CYCLE) % CYCLE
    angle = phase.to(inputs.dtype) * (2 * math.pi / CYCLE)
    return torch.sin(angle + inputs / scale.clamp_min(torch.finfo(inputs.dtype).tiny))


def _unit(x: torch.Tensor) -> torch.Tensor:
    """Unit rows, of length 1 over positions and columns, or of length 0; divided by their largest entry first, as
    squares of small gradients are 0."""
    tiny = torch.finfo(x.dtype).tiny
    x = x / x.abs().amax((1, 2), keepdim=True).clamp_min(tiny)
    return x / x.square().sum((1, 2), keepdim=True).sqrt().clamp_min(tiny)
