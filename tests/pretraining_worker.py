"""Runs of pre-training in processes of their own: killed, or several on one batch."""

from __future__ import annotations

import os
import signal

import masked_models
import pictures
import tiny
from peft import LoraConfig
from torch import nn

from hftransfer.pretraining.pretraining_trainer import PretrainingTrainer

CASES = {
    "packed": {},
    "padded": {"packing": False, "sentence_anchor": 0.5},
    "adapter": {"peft": True, "gradient_accumulation_steps": 2},
    "contrast": {"sentence_contrast": 0.5},
    "stream": {"stream": True, "held_out": 4},
    "whole texts": {"mask_probability": 0, "sentence_contrast": 1.0, "gradient_accumulation_steps": 2},
    "denoising": {"mask_probability": 0, "sentence_denoising": 1.0, "sentence_pooling": "cls"},
    "all": {"sentence_contrast": 0.5, "sentence_denoising": 0.5, "denoising_layers": 1, "balance_domains": True},
    "images": {},
    "image adapter": {"peft": True, "gradient_accumulation_steps": 2},
    "image stream": {"stream": True, "held_out": 4},
}


def without_dropout(model):
    """The model, whose dropout does nothing."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if hasattr(module, "dropout_prob"):
            module.dropout_prob = 0.0
    model.config.attention_probs_dropout_prob = 0.0
    return model


def model_of(settings: dict):
    """The tiny model of a case: without a head where no words are masked."""
    model = masked_models.masked_model()
    return model if settings.get("mask_probability", 1) else model.base_model


def train(folder: str, case: str, settings: dict, kill_at: int = 0) -> None:
    """A run; with `kill_at`, the process is killed in the forward with that number."""
    import pretraining_runs as runs  # its data sets are made in this process

    chosen = dict(CASES[case]) | settings
    if case.startswith("image"):
        import masked_images

        model, rows, processing = masked_images.painter(), masked_images.TARGET, pictures.processor()
    else:
        model, rows, processing = model_of(chosen), runs.TARGET, tiny.tokenizer()
    if chosen.pop("no_dropout", False):
        without_dropout(model)
        if "sentence_contrast" not in chosen:  # which asks for some
            model.config.hidden_dropout_prob = 0.0  # of a decoder
    peft = LoraConfig(r=2, lora_dropout=0.1) if chosen.pop("peft", False) else None
    target = rows.to_iterable_dataset() if chosen.pop("stream", False) else rows
    if kill_at:
        forwards = [0]
        compute = PretrainingTrainer.compute_loss

        def counted(self, *args, **kwargs):
            forwards[0] += 1
            if forwards[0] == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return compute(self, *args, **kwargs)

        PretrainingTrainer.compute_loss = counted
    given = {"model": model, "target": target, "peft_config": peft}
    if "balance_domains" in chosen:
        given["source"] = runs.SOURCE
    runs.run(folder, given | {"processing_class": processing}, **chosen)
