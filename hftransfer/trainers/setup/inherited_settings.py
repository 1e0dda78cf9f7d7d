"""Settings inherited from `TrainingArguments`: those that work as documented, and those that are refused."""

from __future__ import annotations

import dataclasses
import os
from functools import lru_cache
from typing import Any

import torch
from transformers import TrainingArguments
from transformers.training_args import trainer_log_levels

from ...messages import nearest

# These do here what transformers' documentation says.
HONOURED = frozenset(
    """
    output_dir per_device_train_batch_size num_train_epochs max_steps learning_rate lr_scheduler_type
    lr_scheduler_kwargs warmup_steps optim optim_args optim_target_modules weight_decay adam_beta1 adam_beta2
    adam_epsilon gradient_accumulation_steps max_grad_norm label_smoothing_factor bf16 fp16 bf16_full_eval
    fp16_full_eval tf32 activation_checkpointing activation_checkpointing_kwargs gradient_checkpointing
    gradient_checkpointing_kwargs torch_compile torch_compile_backend torch_compile_mode use_cache
    neftune_noise_alpha torch_empty_cache_steps auto_find_batch_size logging_strategy logging_steps
    logging_first_step log_on_each_node logging_nan_inf_filter include_num_input_tokens_seen log_level
    log_level_replica disable_tqdm report_to run_name project trackio_space_id trackio_bucket_id
    trackio_static_space_id eval_strategy eval_steps eval_delay per_device_eval_batch_size prediction_loss_only
    eval_on_start eval_do_concat_batches eval_use_gather_object eval_accumulation_steps include_for_metrics
    batch_eval_metrics save_only_model save_strategy save_steps save_on_each_node save_total_limit
    enable_jit_checkpoint push_to_hub hub_token hub_private_repo hub_model_id hub_strategy hub_always_push
    hub_revision load_best_model_at_end metric_for_best_model greater_is_better ignore_data_skip
    restore_callback_states_from_checkpoint full_determinism seed data_seed use_cpu accelerator_config
    dataloader_drop_last dataloader_num_workers dataloader_pin_memory dataloader_persistent_workers
    dataloader_prefetch_factor dataloader_multiprocessing_context dataloader_in_order ddp_find_unused_parameters
    ddp_bucket_cap_mb ddp_broadcast_buffers ddp_static_graph ddp_backend ddp_timeout fsdp fsdp_config deepspeed
    skip_memory_metrics resume_from_checkpoint
    """.split()
)

# These would have no effect here: any value but transformers' default is refused, with the reason.
REFUSED = {
    "train_sampling_strategy": "batches pair source with target rows, shuffled. Rows of similar length stand together "
    "with length_aware=True, which is the default",
    "length_column_name": "length_aware=True measures the rows itself",
    "average_tokens_across_devices": "the task's loss is always the mean over the labelled items of all processes",
    "use_liger_kernel": "its kernels are not put into the joint module of source and target. Apply them to the model "
    "before you pass it",
    "liger_kernel_config": "its kernels are not put into the joint module of source and target. Apply them to the "
    "model before you pass it",
    "parallelism_config": "a step runs on whole rows, under DDP or FSDP: set fsdp, or start it with accelerate launch",
    "do_train": "trainer.train() trains, and the recipe always does",
    "do_predict": "trainer.predict() predicts",
    "debug": "transformers' detector fails on boolean masks, which most models have. Every part of the loss is looked "
    "at instead, and the first that is not finite stops the run by its name",
}

# These have one value here, which the config sets itself; any other is refused, with the reason.
FIXED = {
    "label_names": "inputs hold the labels as 'labels'. The column of the data set is named by label_column",
    "remove_unused_columns": "the columns that the model reads are encoded, and all others are left out in any case",
    "do_eval": "eval_strategy says when it evaluates",
    "local_rank": "the launcher's LOCAL_RANK says which process this is",
}
# Of accelerate's settings, in accelerator_config: the same.
ACCELERATOR = {
    "split_batches": (False, "batches hold whole rows of both domains; per_device_train_batch_size is a process's"),
    "dispatch_batches": (None, "every process reads its own rows, so that source and target stay together"),
    "use_seedable_sampler": (True, "what is drawn depends on seed, or data_seed, and the epoch alone"),
}
# Choices that transformers looks at late, or never.
CHOICES = {
    "log_level": tuple(trainer_log_levels),
    "log_level_replica": tuple(trainer_log_levels),
    "include_num_input_tokens_seen": ("no", "all", "non_padding"),
}
# Optimizers that read optim_target_modules; for all others it would have no effect.
LOW_RANK = ("galore", "apollo")
# Optimizers for which optim_args has no effect.
WITHOUT_ARGS = "adamw_torch adamw_torch_fused adamw_torch_xla adamw_torch_npu_fused adafactor lomo adalomo".split()


def check_inherited(args: TrainingArguments) -> None:
    """Check of the fields of `TrainingArguments` that would have no effect; fields of newer versions pass.

    Raises:
        ValueError: one that is set away from its default; the message says why, and what to set instead.
    """
    for name, default in _defaults().items():
        value = getattr(args, name, default)
        reason = REFUSED.get(name) or FIXED.get(name)
        if reason is None or (name != "remove_unused_columns" and _same(value, default)) or _right(args, name, value):
            continue
        raise ValueError(f"{name}={value!r} has no effect here: {reason}. Leave it out.")
    for name, choices in CHOICES.items():
        value = getattr(args, name, choices[0])
        if value not in choices and not (isinstance(value, bool) and "all" in choices):
            raise ValueError(f"{name}={value!r} must be one of {', '.join(choices)}.{nearest(value, choices)}")
    optim = str(getattr(args.optim, "value", args.optim))
    if args.optim_args and optim in WITHOUT_ARGS:
        raise ValueError(
            f"optim_args has no effect with optim={optim!r}: set adam_beta1, adam_beta2, adam_epsilon and "
            "weight_decay, or pass optimizer_cls_and_kwargs to the trainer."
        )
    if args.optim_target_modules is not None and not any(word in optim for word in LOW_RANK):
        raise ValueError(
            f"optim_target_modules has no effect with optim={optim!r}: it says which weights GaLore and APOLLO "
            "project. Leave it out, or choose optim='galore_adamw'; trainable and freeze say what trains at all."
        )


def set_transformers_values(args: Any) -> None:
    """Values that transformers accepts and then fails on, in a form that it can use.

    Args:
        args: is changed in place.
    """
    if args.max_grad_norm is None:  # nothing is clipped
        args.max_grad_norm = 0.0


def set_loading(args: Any) -> None:
    """Settings of loaders and of DDP that pairing, unfreezing and this machine ask for.

    Args:
        args: is changed in place, after `TrainingArguments` has read its fields.
    """
    args.remove_unused_columns = False
    args.label_names = ["labels"]
    if args.unfreeze or args.lp_epochs:  # DDP waits for gradients of what does not move yet otherwise
        args.ddp_find_unused_parameters = True
    args.dataloader_pin_memory &= torch.accelerator.is_available()  # torch warns of it otherwise
    # Streams are read by every process; a main process that cut up batches would mix source and target halves.
    args.accelerator_config.dispatch_batches = False


def check_for_model(args: TrainingArguments, task: str, model: Any) -> None:
    """Check of settings that have no effect for this task or this model.

    Args:
        args: of the run.
        task: one of `hftransfer.data.label_space.TASKS`.
        model: that is to be trained.

    Raises:
        ValueError: labels to smooth where no softmax is, or noise for embeddings that are not there.
    """
    if args.label_smoothing_factor and task in ("regression", "multi-label-classification"):
        raise ValueError(
            f"label_smoothing_factor={args.label_smoothing_factor:g} has no effect on {task}, which has no softmax "
            "over classes. Leave it out."
        )
    if args.neftune_noise_alpha is not None:
        try:
            embeddings = model.get_input_embeddings()
        except (NotImplementedError, AttributeError):
            embeddings = None
        if embeddings is None:
            raise ValueError(
                f"neftune_noise_alpha={args.neftune_noise_alpha:g} adds noise to the input embeddings, which a "
                f"{type(model).__name__} has not. Leave it out."
            )


def check_accelerator(config: Any) -> None:
    """Check of accelerate's settings that paired domains cannot follow.

    Args:
        config: accelerate's settings, as `TrainingArguments` read them.

    Raises:
        ValueError: one that is set away from its default.
    """
    for name, (default, reason) in ACCELERATOR.items():
        value = getattr(config, name, default)
        if value != default and not (name == "dispatch_batches" and value is False):
            raise ValueError(f"accelerator_config: {name}={value!r} has no effect here: {reason}. Leave it out.")


@lru_cache
def _defaults() -> dict[str, Any]:
    """Default of each field of `TrainingArguments`."""
    defaults = {}
    for field in dataclasses.fields(TrainingArguments):
        make: Any = field.default_factory
        defaults[field.name] = field.default if make is dataclasses.MISSING else make()
    return defaults


def _same(value: Any, default: Any) -> bool:
    """Whether a value is a default, also as the text of a file or a command line."""
    return value == default or (isinstance(value, str) and value.strip().lower() == str(default).lower())


def _right(args: TrainingArguments, name: str, value: Any) -> bool:
    """Whether a field of `FIXED` has the value that the config itself gives it, as a copy of a config has."""
    if value is None or (name == "debug" and not value):
        return True
    if name == "label_names":
        return list(value) == ["labels"]
    if name == "remove_unused_columns":
        return str(value).lower() == "false"
    if name == "do_eval":
        return str(getattr(args.eval_strategy, "value", args.eval_strategy)) != "no"
    return name == "local_rank" and str(value) == os.environ.get("LOCAL_RANK", "-1")
