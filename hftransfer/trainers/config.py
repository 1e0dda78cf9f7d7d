"""`AdaptationConfig`: `TrainingArguments` and what adaptation adds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from transformers import TrainingArguments

from ..data.augmentation import Augment
from ..data.label_space import check_label_separator
from ..data.pairing import EpochBy
from ..former_names import SETTINGS, checks_names
from ..messages import keep_secret
from ..models.batch_norm_statistics import BatchNorm, check_adabn
from ..models.parameter_sets import parse_freeze, parse_trainable
from ..models.stochastic_norm import check_stochastic_norm
from ..objectives.label_shift_weights import Estimator
from ..objectives.specification import ObjectiveSpec, check_task_weight, checked_objectives, parse_objectives
from ..settings import explain_fields, read_fields
from ..settings import option as _option
from .metrics import lower_is_better
from .saving.resume_setting import read_resume
from .setup.dependent_settings import check_dependent_settings, check_report_to
from .setup.inherited_settings import check_accelerator, check_inherited, set_loading, set_transformers_values
from .setup.learning_rate_check import check_rates
from .setup.learning_rate_schedule import check_schedule_name, check_slanted, known_to_transformers
from .setup.precision_check import check_precision
from .setup.row_weights import read_row_weights
from .setup.unfreezing import check_phases
from .teachers.teacher_setting import read_teacher_names

FrozenCache = Literal["none", "float16", "float32"]


@explain_fields(inherited="Training defaults that differ")
@checks_names("AdaptationConfig has no setting", SETTINGS)
@dataclass
class AdaptationConfig(TrainingArguments):
    """Settings of an `AdaptationTrainer`.

    Every field of `transformers.TrainingArguments` is here too, and those below besides. `greater_is_better` is read
    off the metric's name: less of loss, entropy, mse and mae is better.

    Example:
        >>> AdaptationConfig(output_dir="out", objectives="mmd").weight_decay
        0.01
    """

    objectives: dict | str | None = _option(
        None,
        "Adaptation",
        "What pulls the domains together: names alone, such as mmd, at their default weights, or a map of names to "
        'weights at the end of the schedule, {"mmd": 0.2}, or to settings, {"cdan": {"weight": 0.5, "schedule": '
        '"linear"}}; JSON or YAML. Empty trains on the source alone.',
    )
    trust_config_code: bool = _option(
        False,
        "Adaptation",
        "Allow objectives in a config file or on the command line to import Python code (module:name).",
    )
    task_weight: float = _option(
        1.0, "Adaptation", "What the task's own loss counts; 0 trains on the objectives alone."
    )
    target_ratio: float = _option(1.0, "Adaptation", "Target rows per source row in a batch.")
    epoch_by: EpochBy = _option(
        "source", "Adaptation", "An epoch ends when the source was seen once, or when the longer domain was."
    )
    balance_sources: bool = _option(False, "Adaptation", "Draw several sources in equal shares instead of by size.")
    teacher: list | str | None = _option(
        None,
        "Adaptation",
        "Model that anchoring objectives compare with or distil from: a Hub id or folder, or a list of several as "
        "JSON or YAML. When absent, the model itself as it is before training.",
    )
    source_weights: dict | str | None = _option(
        None,
        "Adaptation",
        'What a row of each source counts, in the task and in the objectives: a map of names to weights, {"papers": '
        "2.0}; JSON or YAML. Sources that are not named count 1.",
    )
    class_weights: dict | str | None = _option(
        None,
        "Adaptation",
        "What a source row of each class counts, in the task and in the objectives: a map of class names to weights, "
        '{"up": 2.0}; JSON or YAML. Classes that are not named count 1.',
    )
    reveal_target_labels: int = _option(
        0, "Adaptation", "Few-shot: how many labelled target rows of each class training may read."
    )
    trainable: dict | str | list | None = _option(
        "all",
        "Policy",
        "What trains: all, head, last_2 (the head and the last two layers), norms or biases (those and the head), "
        "block:layer.3, pattern:*.attention.* or regex:… (those alone), auto (by labelled rows and size); or a list. "
        "What freeze names is taken out of it.",
    )
    freeze: dict | str | list | None = _option(
        None,
        "Policy",
        "Removed from what `trainable` selects: embeddings, classifier (the layer whose output is the logits), "
        "first_2 (the embeddings and the first two layers), block:layer.3, pattern:*.attention.* or regex:…; or a "
        "list.",
    )
    unfreeze: dict | str | None = _option(
        None,
        "Policy",
        'Start with the head and add one layer at a time, from the top: {"by": "epoch", "every": 1}, or by step; JSON '
        "or YAML.",
    )
    lp_epochs: float = _option(
        0.0, "Policy", "Linear probing: train the head alone for so many epochs first, then everything."
    )
    cache_frozen_layers: FrozenCache = _option(
        "none",
        "Policy",
        "What the layers below the first one that trains give is computed once, kept on disk and read in each step: "
        "in float16, or exactly in float32. Where it cannot be, the run says why and goes on without.",
    )
    frozen_cache_gb: float = _option(
        10.0, "Policy", "Most that cache_frozen_layers may keep for a run, in GB; above, it is off."
    )
    layer_decay: float = _option(
        1.0,
        "Policy",
        "Factor on the learning rate per step away from the head: the last layer gets it once, the one before twice.",
    )
    head_lr_multiplier: float = _option(1.0, "Policy", "Learning rate of the head, times the base rate.")
    backbone_lr_multiplier: float = _option(1.0, "Policy", "Learning rate of the backbone, times the base rate.")
    objective_lr_multiplier: float = _option(
        10.0, "Policy", "Learning rate of the objectives' own parameters (a discriminator), times the base rate."
    )
    forward_rows: int | None = _option(
        None,
        "Adaptation",
        "Run the model on so many rows at a time; activations are recomputed in the backward pass, to save memory.",
    )
    forward_by_domain: bool = _option(
        False,
        "Adaptation",
        "Run the model on source rows and then on target rows, each padded to its own longest: for texts whose "
        "length differs much between the domains. The plan says what it saves.",
    )
    batch_norm: BatchNorm = _option(
        "joint",
        "Adaptation",
        "Statistics of batch norm in training. joint: those of source and target together; separate: those of each "
        "domain in a forward of its own, and the running statistics are the target's; frozen: the running statistics, "
        "as they are; stochastic: channel by channel at random, those of the batch or the running ones.",
    )
    batch_norm_mix: float = _option(
        0.5,
        "Adaptation",
        "With batch_norm=stochastic: the chance of each channel to use its running statistics in a step.",
    )
    batch_norm_momentum: float | None = _option(
        None,
        "Adaptation",
        "How much of batch norm's running statistics a batch replaces; the model's own when absent, 0.1 where that "
        "is above 0.5.",
    )
    adabn: bool = _option(
        False, "Adaptation", "AdaBN: estimate batch norm's running statistics anew on target rows, after training."
    )
    label_shift: Literal["none", Estimator] = _option(
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
    stop_when_refused: bool = _option(
        False,
        "Adaptation",
        "Stop early when the run can only end in a model that no rule would take: predictions on the target have "
        "collapsed and stay so, or accuracy on a source's evaluation set is far below its best.",
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
    text_column: str | None = _option(
        None, "Data", "Column with the text; text when absent. Name it when images stand beside it."
    )
    text_pair_column: str | None = _option(None, "Data", "Column with a second text, encoded as a pair.")
    tokens_column: str = _option("tokens", "Data", "Column with pre-split words.")
    image_column: str = _option("image", "Data", "Column with the image: a path, bytes, a PIL image or an array.")
    label_column: str = _option("label", "Data", "Column with the label.")
    weight_column: str | None = _option(
        None,
        "Data",
        "Column with what each source row counts, in the task and in the objectives; weight when absent, where a "
        "source has it. none reads no weights.",
    )
    label_separator: str | None = _option(
        None,
        "Data",
        'Separator of the labels of one text, as in "up,new". Setting it makes the task multi-label classification.',
    )
    merge_label_case: bool = _option(False, "Data", "Labels that differ by case alone (up, Up) are one class.")
    max_length: int | None = _option(None, "Data", "Longest input in tokens; the model's own limit when absent.")
    image_size: int | None = _option(
        None, "Data", "Height and width of images in pixels; the image processor's own when absent."
    )
    augment: Augment | None = _option(
        None,
        "Data",
        "How training images are changed at random: none, weak (a random resized crop) or strong (that and two "
        "operations of RandAugment); weak when absent.",
    )
    augment_flip: bool = _option(False, "Data", "Mirror half of the training images; not for digits and letters.")
    length_aware: bool = _option(True, "Data", "Batch rows of similar length, each domain by itself, to pad less.")

    merge_adapter: bool | None = _option(
        None,
        "Output",
        "Save and push an adapter merged into a plain model, which pipeline(...) loads; when absent, one that the run "
        "itself adds, where its method can be merged. Checkpoints hold the adapter either way.",
    )
    save_source_numbers: bool = _option(
        True,
        "Output",
        "Write counts to the saved model's config.json that adapt-source-free reads: the confusion matrix on source "
        "validation rows, class counts and a temperature. No row is in them.",
    )
    overwrite_output_dir: bool = _option(False, "Output", "Replace the run that an output folder already holds.")

    # Defaults that differ from TrainingArguments.
    per_device_train_batch_size: int = field(default=16, metadata={"help": "Source rows per device and step."})
    per_device_eval_batch_size: int = field(default=64, metadata={"help": "Rows per device in evaluation."})
    lr_scheduler_type: str = field(
        default="linear",
        metadata={
            "help": "How the learning rate goes on: linear, cosine, constant … (transformers' SchedulerType), or "
            "slanted_triangular."
        },
    )
    warmup_steps: float = field(default=0.1, metadata={"help": "Warm-up steps, or their share when below 1."})
    weight_decay: float = field(default=0.01, metadata={"help": "Weight decay of the optimizer."})
    logging_steps: float = field(default=10, metadata={"help": "Steps between logs, or their share when below 1."})
    logging_nan_inf_filter: bool = field(
        default=False,
        metadata={
            "help": "Hide losses that are not finite in logs, at a device sync a step. Otherwise the first "
            "one stops the run."
        },
    )
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
        keep_secret(self.hub_token)
        if self.resume_from_checkpoint is not None:
            self.resume_from_checkpoint = read_resume(self.resume_from_checkpoint)  # type: ignore[assignment]
        check_inherited(self)
        check_schedule_name(self)
        read_fields(self)
        set_transformers_values(self)
        check_dependent_settings(self)
        check_precision(self)
        if self.greater_is_better is None and lower_is_better(self.metric_for_best_model):
            self.greater_is_better = False
        with known_to_transformers(self):
            super().__post_init__()
        check_report_to(self.report_to)
        check_accelerator(self.accelerator_config)
        self.objectives = checked_objectives(self.objectives, self.trust_config_code)
        check_task_weight(self.task_weight, self.objective_specs())
        read_row_weights("source_weights", self.source_weights)
        read_row_weights("class_weights", self.class_weights)
        read_teacher_names(self.teacher)
        check_label_separator(self.label_separator)
        check_stochastic_norm(self.batch_norm, self.batch_norm_mix, self.recomputes_activations)
        check_adabn(self.adabn, self.fsdp)
        self.trainable = "all" if self.trainable is None else self.trainable
        parse_trainable(self.trainable)
        parse_freeze(self.freeze)
        check_phases(self)
        check_rates(self)
        check_slanted(self)
        set_loading(self)

    @property
    def adapts(self) -> bool:
        """Whether the run adapts to a target; otherwise the model trains on the sources alone."""
        return bool(self.objective_specs()) or self.label_shift != "none" or self.adabn

    @property
    def recomputes_activations(self) -> bool:
        """Whether activations are recomputed in the backward pass; transformers renamed the setting in 5.23."""
        return any(getattr(self, f"{kind}_checkpointing", False) for kind in ("activation", "gradient"))

    def with_hyperparameters(self, settings: Mapping[str, Any]) -> AdaptationConfig:
        """A copy with the settings that `hyperparameter_search` found.

        Args:
            settings: fields of the config, and `objectives.<name>.<setting>`.

        Raises:
            ValueError: there is no such field, objective or setting.

        Example:
            >>> AdaptationConfig(objectives="mmd").with_hyperparameters({"objectives.mmd.weight": 0.5})
        """
        from .hyperparameter_search import with_hyperparameters

        return with_hyperparameters(self, settings)

    def objective_specs(self) -> list[ObjectiveSpec]:
        """The objectives, read and checked."""
        return parse_objectives(self.objectives)

    def teacher_names(self) -> list[str]:
        """Hub ids or folders of the teachers, in order; none for the initial model.

        Raises:
            ValueError: neither a name nor a list of names, or a name twice.
        """
        return read_teacher_names(self.teacher)

    def source_weight_map(self) -> dict[str, float]:
        """Weights of source rows by the source's name.

        Raises:
            ValueError: no map, or a weight that is negative or not finite.
        """
        return read_row_weights("source_weights", self.source_weights)

    def class_weight_map(self) -> dict[str, float]:
        """Weights of source rows by the name of their class.

        Raises:
            ValueError: no map, or a weight that is negative or not finite.
        """
        return read_row_weights("class_weights", self.class_weights)
