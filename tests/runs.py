"""Trainers of a few steps on tiny data."""

from __future__ import annotations

import tiny
import torch

from hftransfer import AdaptationConfig, AdaptationTrainer


def config(folder, **settings) -> AdaptationConfig:
    """Two steps of 4 + 4 rows on the CPU, nothing saved, with a rate at which every parameter moves."""
    defaults = {
        "objectives": {"mmd": 0.1},
        "max_steps": 2,
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-2,
        "warmup_steps": 0,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": True,
    }
    return AdaptationConfig(output_dir=str(folder), **defaults | settings)


def trainer(folder, model=None, args=None, cls=AdaptationTrainer, **settings) -> AdaptationTrainer:
    """A trainer on tiny domains; what the trainer takes goes by its name, the rest to the config."""
    own = (
        "eval_dataset",
        "compute_metrics",
        "preprocess_logits_for_metrics",
        "callbacks",
        "peft_config",
        "optimizers",
    )
    given = {k: settings.pop(k) for k in own if k in settings}
    given["train_dataset"] = settings.pop("train_dataset", None) or tiny.domain()
    given["target_dataset"] = settings.pop("target_dataset", None) or tiny.domain(seed=1, labelled=False)
    given["processing_class"] = (
        settings.pop("processing_class") if "processing_class" in settings else tiny.tokenizer()
    )
    args = args or config(folder, **settings)
    return cls(model if model is not None else tiny.bert(), args, **given)


def logged(run: AdaptationTrainer, key: str) -> list[float]:
    """Every value of one logged quantity, in order."""
    return [entry[key] for entry in run.state.log_history if key in entry]


def copied(model) -> dict[str, torch.Tensor]:
    """The parameters as they are now, by name."""
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def moved(model, before: dict[str, torch.Tensor]) -> set[str]:
    """Names of the parameters that are no longer what they were."""
    return {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}


def resumed_is_alike(go, folder) -> AdaptationTrainer:
    """`go(folder, steps, resume=None)` trains six steps, saved after three: to the end, and again from the third on,
    which must come to the same to the bit. The run that was left alone."""
    whole = go(folder / "whole", 6)
    again = go(folder / "resumed", 6, str(folder / "whole/checkpoint-3"))
    want, got = whole.model.state_dict(), again.model.state_dict()
    assert want.keys() == got.keys()
    assert all(torch.equal(want[name], got[name]) for name in want)
    assert logged(whole, "loss")[3:] == logged(again, "loss")[3:]
    return whole
