"""Small models and batches for tests of streams."""

from __future__ import annotations

import tiny
import torch
from torch import nn

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
