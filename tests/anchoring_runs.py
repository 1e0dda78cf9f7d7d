"""Runs with anchoring objectives on tiny data, and teachers as folders."""

from __future__ import annotations

import runs
import tiny

from hftransfer import AdaptationTrainer

STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
KINDS = {
    "l2_sp": {"l2_sp": 1.0},
    "lwf": {"lwf": 1.0},
    "distill_logits": {"distill_logits": 1.0},
    "distill_features": {"distill_features": {"features": "hidden:0"}},
    "distill_attention": {"distill_attention": 1.0},
    "bss": {"bss": 0.001},
    "delta": {"delta": 0.1},
    "delta_attention": {"delta": {"weight": 0.1, "attention": True, "layers": 1}},
    "rkd": {"rkd": 1.0},
    "co_tuning": {"co_tuning": 1.0},
    "bi_tuning": {"bi_tuning": 1.0},
}
MANY = {
    "l2_sp": 1.0,
    "lwf": 1.0,
    "co_tuning": 1.0,
    "bi_tuning": {"queue": 3},
    "delta": KINDS["delta_attention"]["delta"],
}


def alone(folder, model=None, train=None, target=None, **settings) -> AdaptationTrainer:
    """A run on labelled rows only, unless there is a target."""
    peft = settings.pop("peft_config", None)
    args = runs.config(folder, **settings)
    model = tiny.bert(**STILL) if model is None else model
    return AdaptationTrainer(model, args, train or tiny.domain(), target, None, tiny.tokenizer(), peft)


def saved(folder, model, tokenizer=None) -> str:
    model.save_pretrained(folder)
    (tokenizer or tiny.tokenizer()).save_pretrained(folder)
    return str(folder)
