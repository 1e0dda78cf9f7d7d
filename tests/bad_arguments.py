"""Settings and arguments that users bring along from other code: what is given, the error, the culprit, the remedy."""

from __future__ import annotations

from typing import Any

import tiny
from transformers import TrainerCallback

# Settings of an `AdaptationConfig`.
ALONE = {
    "prefetching without workers": (
        {"dataloader_prefetch_factor": 2}, ValueError, "dataloader_prefetch_factor=2", "dataloader_num_workers",
    ),
    "workers that stay, of none": (
        {"dataloader_persistent_workers": True}, ValueError, "dataloader_persistent_workers=True", "leave it out",
    ),
    "how to recompute, without doing so": (
        {"activation_checkpointing_kwargs": {"use_reentrant": False}}, ValueError, "activation_checkpointing_kwargs",
        "activation_checkpointing=True",
    ),
    "the same by its former name": (
        {"gradient_checkpointing_kwargs": {"use_reentrant": False}}, ValueError, "gradient_checkpointing_kwargs",
        "activation_checkpointing=True",
    ),
    "recomputing with a typo": (
        {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_rentrant": True}}, ValueError,
        "no 'use_rentrant'", "Did you mean 'use_reentrant'?",
    ),
    "how to shard, without doing so": ({"fsdp_config": {"min_num_params": 1}}, ValueError, "fsdp_config", "fsdp=True"),
    "a file for sharding that is gone": (
        {"fsdp": True, "fsdp_config": "gone.json"}, FileNotFoundError, "fsdp_config='gone.json'", "Give a JSON file",
    ),
    "a file for accelerate that is gone": (
        {"accelerator_config": "gone.json"}, FileNotFoundError, "accelerator_config='gone.json'", "or a map",
    ),
    "a typo for accelerate": (
        {"accelerator_config": {"even_batch": True}}, ValueError, "accelerator_config has no 'even_batch'",
        "Did you mean 'even_batches'?",
    ),
    "a file for deepspeed that is gone": (
        {"deepspeed": "ds.json"}, FileNotFoundError, "deepspeed='ds.json'", "Give a JSON file",
    ),
    "deepspeed that is not installed": (
        {"deepspeed": {"zero_optimization": {"stage": 2}}}, ImportError, "deepspeed is set", "pip install deepspeed",
    ),
    "a backend that there is not": ({"ddp_backend": "glo"}, ValueError, "ddp_backend='glo'", "Did you mean 'gloo'?"),
    "momentum with a typo": (
        {"optim": "sgd", "optim_args": "momentun=0.9"}, ValueError, "'momentun' has no effect", "'momentum'",
    ),
    "settings of an optimizer in words": (
        {"optim": "sgd", "optim_args": "much momentum"}, ValueError, "optim_args='much momentum'", "momentum=0.9",
    ),
    "a report without its package": (
        {"report_to": "neptune"}, ImportError, "report_to='neptune'", "pip install neptune",
    ),
    "a report with a typo": ({"report_to": ["tensorbord"]}, ValueError, "'tensorbord'", "Did you mean 'tensorboard'"),
    "a folder without a name": ({"output_dir": ""}, ValueError, "output_dir is empty", "name the folder"),
    "a folder of blanks": ({"output_dir": " "}, ValueError, "output_dir is empty", "name the folder"),
}  # fmt: skip
SCHEDULES = {
    "a setting that the schedule has not": (
        {"lr_scheduler_type": "cosine", "lr_scheduler_kwargs": {"cycles": 2}}, ValueError,
        "lr_scheduler_kwargs={'cycles': 2}", "It takes num_cycles",
    ),
    "a schedule that lacks a setting": (
        {"lr_scheduler_type": "cosine_with_min_lr"}, ValueError, "lr_scheduler_type='cosine_with_min_lr'", "min_lr",
    ),
    "a decay of no length": (
        {"lr_scheduler_type": "warmup_stable_decay"}, ValueError, "'num_decay_steps'", "It takes num_decay_steps",
    ),
    "a power in words": (
        {"lr_scheduler_type": "polynomial", "lr_scheduler_kwargs": {"power": "two"}}, ValueError,
        "'power': 'two'", "lr_scheduler_type='polynomial'",
    ),
    "settings of a rate that stays": (
        {"lr_scheduler_type": "constant", "lr_scheduler_kwargs": {"power": 2}}, ValueError,
        "lr_scheduler_kwargs={'power': 2}", "Leave it out",
    ),
}  # fmt: skip
FORMER = {
    f"the former {name}": ({name: value}, TypeError, f"no setting {name!r}", now)
    for name, value, now in (
        ("evaluation_strategy", "epoch", "eval_strategy"),
        ("warmup_ratio", 0.1, "warmup_steps below 1"),
        ("no_cuda", True, "use_cpu"),
        ("use_mps_device", True, "MPS is used"),
        ("adafactor", True, "optim='adafactor'"),
        ("group_by_length", True, "length_aware=True"),
        ("per_gpu_train_batch_size", 8, "per_device_train_batch_size"),
        ("logging_dir", "logs", "TENSORBOARD_LOGGING_DIR"),
        ("lr", 1e-3, "learning_rate"),
        ("objectivs", {}, "Did you mean 'objectives'?"),
    )
}
SETTINGS = ALONE | FORMER


def numbers(prediction: Any) -> dict[str, float]:
    return {"n": float(len(prediction.predictions))}


SETS = {"source": tiny.domain(6, seed=2), "target": tiny.domain(6, seed=3)}
BEST = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1}
# Arguments of an `AdaptationTrainer`, its config's under "config".
ARGUMENTS = {
    "a tokenizer by its former name": (
        {"tokenizer": tiny.tokenizer()}, TypeError, "no argument 'tokenizer'", "processing_class",
    ),
    "an adapter with a typo": ({"peft_confg": 1}, TypeError, "no argument 'peft_confg'", "'peft_config'"),
    "sets with an s": ({"eval_datasets": SETS}, TypeError, "no argument 'eval_datasets'", "eval_dataset"),
    "a loss of one's own": ({"compute_loss_func": numbers}, ValueError, "compute_loss_func", "`objectives`"),
    "one callback": ({"callbacks": TrainerCallback()}, TypeError, "must be a list of callbacks", "TrainerCallback"),
    "a callback by its name": ({"callbacks": ["early"]}, TypeError, "callbacks holds str", "no TrainerCallback"),
    "metrics by their name": ({"compute_metrics": "accuracy"}, TypeError, "compute_metrics must be", "a function"),
    "a collator by its name": ({"data_collator": "default"}, TypeError, "data_collator must be", "a function"),
    "the worst loss": (
        {
            "eval_dataset": SETS,
            "config": {**BEST, "metric_for_best_model": "eval_source_loss", "greater_is_better": True},
        },
        ValueError, "greater_is_better=True", "Leave it out",
    ),
    "the worst accuracy": (
        {
            "eval_dataset": SETS,
            "config": {**BEST, "metric_for_best_model": "eval_source_accuracy", "greater_is_better": False},
        },
        ValueError, "greater_is_better=False", "Leave it out",
    ),
    "the least information": (
        {
            "eval_dataset": SETS,
            "config": {**BEST, "metric_for_best_model": "eval_target_information", "greater_is_better": False},
        },
        ValueError, "greater_is_better=False", "Leave it out",
    ),
    **{
        name: ({"config": given}, error, culprit, remedy)
        for name, (given, error, culprit, remedy) in SCHEDULES.items()
    },
    "sharding in one process": ({"config": {"fsdp": True}}, ValueError, "this run has one", "leave fsdp out"),
}  # fmt: skip
# What `compute_metrics` returns.
RESULTS = {
    "nothing": (lambda p: None, "returns NoneType", "dict of numbers by name"),
    "a number": (lambda p: 0.5, "returns float", "dict of numbers by name"),
    "a name that is a number": (lambda p: {1: 2}, "called 1", "names must be text"),
    "an object": (lambda p: {"matrix": object()}, "object as 'matrix'", "return a number"),
    "a set": (lambda p: {"classes": {1, 2}}, "set as 'classes'", "return a number"),
}
