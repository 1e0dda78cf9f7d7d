"""`AdaptationConfig`: `TrainingArguments` and what adaptation adds."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
import yaml
from transformers import TrainingArguments
from transformers.utils import is_torch_bf16_gpu_available

from ..messages import nearest
from ..objectives.label_shift import Estimator
from ..objectives.registry import ObjectiveSpec, parse_objectives

SHIFTS = ("none", *get_args(Estimator))
LOWER_IS_BETTER = ("loss", "entropy", "mse", "mae")  # ends of metrics; of all others, more is better


def _option(default: Any, group: str, text: str) -> Any:
    return field(default=default, metadata={"help": text, "group": group})


@dataclass
class AdaptationConfig(TrainingArguments):
    """Settings of an `AdaptationTrainer`.

    Every field of `transformers.TrainingArguments` is here too. Defaults that differ from it: `learning_rate` 5e-5
    with `warmup_steps` 0.1 and `weight_decay` 0.01, batches of 16 (64 in evaluation), logging every 10 steps, no
    unused-parameter search and no buffer broadcast under DDP, and no NaN filter in the logged loss (it costs a device
    sync a step; a part that is not finite stops the run instead). `greater_is_better` is read off the metric's name:
    less of loss, entropy, mse and mae is better.

    Example:
        >>> AdaptationConfig(output_dir="out", objectives={"mmd": 1.0})
    """

    objectives: dict | str | None = _option(
        None,
        "Adaptation",
        'What pulls the domains together: a map of names to weights, {"mmd": 1.0}, or to settings, '
        '{"cdan": {"weight": 0.5, "schedule": "linear"}}; JSON or YAML. Empty trains on the source alone.',
    )
    target_ratio: float = _option(1.0, "Adaptation", "Target rows per source row in a batch.")
    epoch_by: Literal["source", "longest"] = _option(
        "source", "Adaptation", "An epoch ends when the source was seen once, or when the longer domain was."
    )
    balance_sources: bool = _option(False, "Adaptation", "Draw several sources in equal shares instead of by size.")
    source_weights: dict | str | None = _option(
        None,
        "Adaptation",
        'What a row of each source counts, in the task and in the objectives: a map of names to weights, {"papers": '
        "2.0}; JSON or YAML. Sources that are not named count 1.",
    )
    reveal_target_labels: int = _option(
        0, "Adaptation", "Few-shot: how many labelled target rows of each class training may read."
    )
    freeze: str = _option(
        "none",
        "Adaptation",
        "What moves: none (everything moves), head (only the head), last_2 (the head and the last two layers; any "
        "number), embeddings (all but the embeddings).",
    )
    objective_lr_multiplier: float = _option(
        10.0, "Adaptation", "Learning rate of the objectives' own parameters (a discriminator), times the base rate."
    )
    batch_norm: Literal["joint", "separate"] = _option(
        "joint", "Adaptation", "Batch norm sees source and target together, or each by itself (two forwards)."
    )
    label_shift: Literal["none", "mlls", "bbse", "pada"] = _option(
        "none",
        "Adaptation",
        "Estimate how much commoner each class is in the target, from predictions alone, each time the target was "
        "seen once; objectives weigh source rows by it. mlls or bbse; pada for a target that lacks classes.",
    )
    label_shift_task: Literal["weights", "bias", "none"] = _option(
        "weights",
        "Adaptation",
        "What the task makes of label_shift: weigh its rows, correct the saved head's bias at the end, or nothing.",
    )
    allow_oracle_selection: bool = _option(
        False, "Adaptation", "Let a metric that reads target labels choose the best checkpoint (not honest)."
    )

    task: str | None = _option(
        None,
        "Data",
        "sequence-classification, token-classification, multi-label-classification or regression; read off the "
        "labels when absent.",
    )
    text_column: str = _option("text", "Data", "Column with the text.")
    text_pair_column: str | None = _option(None, "Data", "Column with a second text, encoded as a pair.")
    tokens_column: str = _option("tokens", "Data", "Column with pre-split words.")
    label_column: str = _option("label", "Data", "Column with the label.")
    max_length: int | None = _option(None, "Data", "Longest input in tokens; the model's own limit when absent.")
    length_aware: bool = _option(True, "Data", "Batch rows of similar length, each domain by itself, to pad less.")

    merge_adapter: bool = _option(False, "Output", "Save and push an adapter merged into a plain model.")
    overwrite_output_dir: bool = _option(False, "Output", "Replace the run that an output folder already holds.")

    # Defaults that differ from TrainingArguments.
    per_device_train_batch_size: int = field(default=16, metadata={"help": "Source rows per device and step."})
    per_device_eval_batch_size: int = field(default=64, metadata={"help": "Rows per device in evaluation."})
    warmup_steps: float = field(default=0.1, metadata={"help": "Warm-up steps, or their share when below 1."})
    weight_decay: float = field(default=0.01, metadata={"help": "Weight decay of the optimizer."})
    logging_steps: float = field(default=10, metadata={"help": "Steps between logs, or their share when below 1."})
    logging_nan_inf_filter: bool = field(default=False, metadata={"help": "Hide losses that are not finite in logs."})
    remove_unused_columns: bool = field(
        default=False, metadata={"help": "Unused: hftransfer prepares the columns itself."}
    )
    ddp_find_unused_parameters: bool | None = field(
        default=False, metadata={"help": "Let DDP look for parameters that a step did not use."}
    )
    ddp_broadcast_buffers: bool | None = field(
        default=False, metadata={"help": "Let DDP broadcast buffers at each forward."}
    )

    def __post_init__(self) -> None:
        self._check_precision()
        undecided = self.greater_is_better is None
        super().__post_init__()
        if undecided and str(self.metric_for_best_model).endswith(LOWER_IS_BETTER):
            self.greater_is_better = False
        self._check()
        word = str(self.resume_from_checkpoint).lower()
        if word in ("true", "false"):  # a command line and a YAML file have no other way to say "the last one"
            self.resume_from_checkpoint = word == "true"  # type: ignore[assignment]
        self.remove_unused_columns = False
        self.label_names = ["labels"]
        self.dataloader_pin_memory &= torch.accelerator.is_available()  # torch warns of it otherwise
        # Streams are read by every process; a main process that cut up batches would mix source and target halves.
        self.accelerator_config.dispatch_batches = False  # type: ignore[union-attr]

    def objective_specs(self) -> list[ObjectiveSpec]:
        """The objectives, read and checked."""
        return parse_objectives(self.objectives)

    def source_weight_map(self) -> dict[str, float]:
        """What a row of each named source counts.

        Raises:
            ValueError: no map, or a weight that is negative or not finite.
        """
        given = self.source_weights
        if isinstance(given, str):
            try:
                given = yaml.safe_load(given)
            except yaml.YAMLError as error:
                raise ValueError(f"source_weights is neither JSON nor YAML: {self.source_weights!r}") from error
        if not isinstance(given, (dict, type(None))):
            raise ValueError(f'source_weights must map names to weights, such as {{"papers": 2.0}}, not {given!r}.')
        for name, weight in (given or {}).items():
            if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 <= weight < math.inf:
                raise ValueError(f"source_weights: {name!r} must be a number of at least 0, not {weight!r}.")
        return {str(name): float(weight) for name, weight in (given or {}).items()}

    def _check_precision(self) -> None:
        """Before `TrainingArguments` refuses in words that name neither the setting nor the way out."""
        if (self.bf16 or self.bf16_full_eval) and not self.use_cpu and not is_torch_bf16_gpu_available():
            name = "bf16" if self.bf16 else "bf16_full_eval"
            raise ValueError(
                f"{name}=True, but no accelerator of this machine computes in bfloat16. Leave it off; use_cpu=True "
                "runs it on the CPU, where it is mostly slower than float32."
            )

    def _check(self) -> None:
        self.objective_specs()
        self.source_weight_map()
        for name in ("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1.")
        if not self.target_ratio > 0:
            raise ValueError(f"target_ratio={self.target_ratio} must be positive.")
        if self.epoch_by not in ("source", "longest"):
            raise ValueError(f"epoch_by={self.epoch_by!r} must be 'source' or 'longest'.")
        if self.batch_norm not in ("joint", "separate"):
            raise ValueError(f"batch_norm={self.batch_norm!r} must be 'joint' or 'separate'.")
        for name, choices in (("label_shift", SHIFTS), ("label_shift_task", ("weights", "bias", "none"))):
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"{name}={getattr(self, name)!r} must be one of {', '.join(choices)}."
                    f"{nearest(getattr(self, name), choices)}"
                )
        if self.reveal_target_labels < 0:
            raise ValueError(f"reveal_target_labels={self.reveal_target_labels} must be at least 0.")
        if self.max_length is not None and self.max_length < 4:
            raise ValueError(f"max_length={self.max_length} leaves no room for text; it must be at least 4.")
        if not self.objective_lr_multiplier > 0:
            raise ValueError(f"objective_lr_multiplier={self.objective_lr_multiplier} must be positive.")
