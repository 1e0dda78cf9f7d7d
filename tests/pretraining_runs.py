"""Runs of pre-training on tiny texts and a tiny model."""

from __future__ import annotations

import masked_models
import numpy as np
import tiny

from hftransfer import PretrainingConfig, pretrain

TARGET = tiny.domain(60, seed=1, labelled=False)
SOURCE = tiny.domain(40, seed=0)
QUIET = {
    "use_cpu": True,
    "report_to": "none",
    "save_strategy": "no",
    "logging_steps": 100,
    "per_device_train_batch_size": 8,
    "disable_tqdm": True,
    "learning_rate": 5e-3,
}


def config(folder, **settings) -> PretrainingConfig:
    return PretrainingConfig(str(folder), **QUIET | {"max_steps": 6} | settings)


def model(family: str = "bert"):
    """A masked language model whose embeddings hold all tokens of `tiny.tokenizer`."""
    return masked_models.masked_model(family)


def run(folder, given: dict | None = None, **settings):
    usual = {"model": model(), "target": TARGET, "processing_class": tiny.tokenizer()}
    arguments = usual | (given or {})
    return pretrain(arguments.pop("model"), args=config(folder, **settings), **arguments)


def contrast_by_hand(first: np.ndarray, second: np.ndarray, temperature: float) -> float:
    """The loss of SimCSE in double precision, of two readings (rows, width)."""
    u, v = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (first, second))
    logits = u @ v.T / temperature
    largest = logits.max(1, keepdims=True)
    log_sums = np.log(np.exp(logits - largest).sum(1)) + largest[:, 0]
    return float((log_sums - np.diag(logits)).mean())
