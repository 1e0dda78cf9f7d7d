"""A tiny model, and adapters of it that do something."""

from __future__ import annotations

import tiny
import torch

BATCH = tiny.tokenizer()(["w1 w2 up", "w3"], padding=True, return_tensors="pt")
QV = ["query", "value"]


def logits(model):
    with torch.no_grad():
        return model.eval()(**BATCH).logits


def base():
    return tiny.bert(seed=0).eval()


def moved(model, seed: int, scale: float = 0.1):
    """Makes an adapter that does something, of whatever kind."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(scale * torch.randn_like(parameter))
    return model
