"""`PretrainingConfig`: settings of pre-training, on top of transformers' `TrainingArguments`."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Literal

from transformers import TrainingArguments

from ..data.block_masking import USUAL_SHARE
from ..data.word_masking import check_shares
from ..messages import keep_secret
from ..models.parameter_sets import parse_freeze, parse_trainable
from ..settings import explain_fields, field_of, read_fields
from ..settings import option as _option
from ..trainers.config import AdaptationConfig
from ..trainers.saving.resume_setting import read_resume
from ..trainers.setup.dependent_settings import check_dependent_settings, check_report_to
from ..trainers.setup.inherited_settings import (
    check_accelerator,
    check_inherited,
    set_loading,
    set_transformers_values,
)
from ..trainers.setup.learning_rate_check import check_rates
from ..trainers.setup.learning_rate_schedule import check_schedule_name, check_slanted, known_to_transformers
from ..trainers.setup.precision_check import check_precision
from .sentence_settings import USUAL_DELETED, USUAL_TEMPERATURE, check_sentence_settings

# Settings of `TrainingArguments` that say nothing of pre-training, with the reason.
REFUSED = {
    "label_smoothing_factor": "what was hidden is predicted as it stood",
    "neftune_noise_alpha": "masking is the noise of this training",
    "fsdp": "the model is held whole by each process",
    "deepspeed": "the model is held whole by each process",
    "torch_compile": "batches differ in shape, and each shape would be compiled anew",
    "include_for_metrics": "what is measured on held-out rows is the loss at what was masked",
    "batch_eval_metrics": "what is measured on held-out rows is the loss at what was masked",
    "eval_do_concat_batches": "what is measured on held-out rows is the loss at what was masked",
    "eval_use_gather_object": "what is measured on held-out rows is the loss at what was masked",
    "eval_accumulation_steps": "no predictions are kept in evaluation",
    "prediction_loss_only": "no predictions are kept in evaluation",
}
PlainAugment = Literal["none", "weak"]  # other colours and shapes would be what the model learns to paint
METRICS = tuple(f"{kind}{name}" for kind in ("", "eval_") for name in ("loss", "perplexity", "reconstruction_loss"))


@explain_fields(inherited="Training defaults that differ")
@dataclass
class PretrainingConfig(TrainingArguments):
    """Settings of pre-training on masked words, sentences or images.

    Every field of `transformers.TrainingArguments` is here too, and those below besides. A batch holds
    `per_device_train_batch_size` texts, packed or not, or images.

    Example:
        >>> PretrainingConfig(output_dir="out", num_train_epochs=1).mask_probability
        0.15
    """

    mask_probability: float = _option(
        0.15,
        "Masking",
        "Share of the words that are masked, whole words each. 0 masks none: what is learnt comes from "
        "sentence_contrast or sentence_denoising, and the model is a plain encoder without a masked-language head.",
    )
    mask_hidden_share: float = _option(0.8, "Masking", "Share of masked words that become mask tokens.")
    mask_random_share: float = _option(
        0.1, "Masking", "Share of masked words that become random tokens; the rest stays as it is."
    )
    target_word_bias: float = _option(
        0.0,
        "Masking",
        "Mask words more often the commoner they are in the target than in the source: the power of that ratio which "
        "a word's probability follows. 0 masks all words alike. Needs both domains.",
    )
    image_mask_share: float = _option(USUAL_SHARE, "Masking", "Share of the units of an image that are masked.")
    image_mask_unit: int | None = _option(
        None,
        "Masking",
        "Side of the square units of an image that are masked or not, in pixels: whole patches that divide the image. "
        "When absent 32, in images of fewer than 192 pixels a sixth of their side, as nearly as that can be.",
    )
    sentence_anchor: float = _option(
        0.0,
        "Training objective",
        "Weight of a second loss, which keeps a text's vector near that of the model before training: for sentence "
        "encoders. 1 is a start; 0 leaves it out.",
    )
    sentence_contrast: float = _option(
        0.0,
        "Training objective",
        "Weight of a contrast of two readings of each text under different dropout (SimCSE), among the texts of the "
        "batch on all processes: for sentence encoders. 1 is a start; 0 leaves it out.",
    )
    contrast_temperature: float = _option(
        USUAL_TEMPERATURE,
        "Training objective",
        "Temperature of sentence_contrast: lower looks at the nearest texts alone.",
    )
    sentence_denoising: float = _option(
        0.0,
        "Training objective",
        "Weight of writing each text anew from the vector of what is left of it when words are deleted (TSDAE): for "
        "sentence encoders. 1 is a start; 0 leaves it out.",
    )
    deleted_share: float = _option(
        USUAL_DELETED, "Training objective", "Share of the words that sentence_denoising deletes."
    )
    denoising_layers: int = _option(
        0,
        "Training objective",
        "Layers of sentence_denoising's decoder, with weights of their own. 0 ties it to the encoder, which takes an "
        "encoder of BERT's, RoBERTa's or ELECTRA's kind.",
    )
    sentence_pooling: str | None = _option(
        None,
        "Training objective",
        "The vector of a text: mean, of its last hidden states, or cls, that of its first token. When absent, what "
        "the checkpoint declares (sentence-transformers), else mean.",
    )
    trainable: dict | str | list | None = _option(
        "all",
        "Policy",
        "What trains: all, head, last_2 (the head and the last two layers), norms or biases (those and the head), "
        "block:layer.3, pattern:*.attention.* or regex:… (those alone); or a list. What freeze names is taken out.",
    )
    freeze: dict | str | list | None = _option(
        None,
        "Policy",
        "Removed from what `trainable` selects: embeddings, first_2 (the embeddings and the first two layers), "
        "block:layer.3, pattern:*.attention.* or regex:…; or a list. The projection onto the vocabulary is tied to "
        "the embeddings and stays with them.",
    )
    layer_decay: float = field_of(AdaptationConfig, "layer_decay")
    head_lr_multiplier: float = _option(
        1.0,
        "Policy",
        "Learning rate of the head that predicts, times the base rate; more suits a new head.",
    )
    backbone_lr_multiplier: float = field_of(AdaptationConfig, "backbone_lr_multiplier")

    balance_domains: bool = _option(
        False,
        "Data",
        "Every batch holds the domains in equal shares instead of by size, so that texts are told apart across "
        "domains; an epoch is then one pass over the largest domain. Streams always take turns.",
    )
    held_out: float = _option(
        0.05,
        "Data",
        "Target rows (source rows without a target) that are held out to measure the perplexity (and the losses of "
        "sentences) before and after, of images the reconstruction loss: a share below 1, or their number. 0 measures "
        "nothing. A validation split is used instead where there is one.",
    )
    text_column: str | None = field_of(AdaptationConfig, "text_column")
    text_pair_column: str | None = _option(None, "Data", "Column with second texts, each read as a text of its own.")
    tokens_column: str = field_of(AdaptationConfig, "tokens_column")
    image_column: str = field_of(AdaptationConfig, "image_column")
    image_size: int | None = field_of(AdaptationConfig, "image_size")
    augment: PlainAugment | None = _option(
        None, "Data", "How training images are changed at random: none, or weak (a random resized crop), when absent."
    )
    augment_flip: bool = field_of(AdaptationConfig, "augment_flip")
    max_length: int | None = _option(
        None,
        "Data",
        "Longest text in tokens; longer ones are cut into several. The model's own limit when absent, at most 512.",
    )
    new_words: int = _option(
        0,
        "Data",
        "Most words of the target's texts that become tokens of their own, where they make the texts shorter "
        "(`extend_vocabulary`); 0 leaves the vocabulary as it is.",
    )
    packing: bool = _option(
        True,
        "Data",
        "Pack the texts of a batch into few sequences, where the model's attention keeps them apart; otherwise, or "
        "where it does not, a batch holds texts of similar length.",
    )
    pack_length: int = _option(
        128, "Data", "Tokens of a packed sequence, more if a text is longer; more pads less and attends more."
    )

    merge_adapter: bool | None = _option(
        None,
        "Output",
        "Save an adapter merged into a plain model, which other recipes take; when absent, wherever it can be merged.",
    )
    overwrite_output_dir: bool = field_of(AdaptationConfig, "overwrite_output_dir")

    # Defaults that differ from TrainingArguments.
    per_device_train_batch_size: int = field(default=32, metadata={"help": "Texts or images per device and step."})
    per_device_eval_batch_size: int = field(default=64, metadata={"help": "Texts or images per device in evaluation."})
    lr_scheduler_type: str = field_of(AdaptationConfig, "lr_scheduler_type")
    warmup_steps: float = field_of(AdaptationConfig, "warmup_steps")
    weight_decay: float = field_of(AdaptationConfig, "weight_decay")
    logging_steps: float = field_of(AdaptationConfig, "logging_steps")
    logging_nan_inf_filter: bool = field_of(AdaptationConfig, "logging_nan_inf_filter")
    remove_unused_columns: bool = field_of(AdaptationConfig, "remove_unused_columns")
    ddp_find_unused_parameters: bool | None = field_of(AdaptationConfig, "ddp_find_unused_parameters")
    ddp_broadcast_buffers: bool | None = field_of(AdaptationConfig, "ddp_broadcast_buffers")

    def __post_init__(self) -> None:
        keep_secret(self.hub_token)
        if self.resume_from_checkpoint is not None:
            self.resume_from_checkpoint = read_resume(self.resume_from_checkpoint)  # type: ignore[assignment]
        _check_refused(self)
        check_inherited(self)
        check_schedule_name(self)
        read_fields(self)
        set_transformers_values(self)
        check_dependent_settings(self)
        check_precision(self)
        if self.mask_probability:
            check_shares(self.mask_probability, self.mask_hidden_share, self.mask_random_share)
        check_sentence_settings(self)
        if self.metric_for_best_model is not None and self.metric_for_best_model not in METRICS:
            raise ValueError(
                f"metric_for_best_model={self.metric_for_best_model!r}: pre-training measures loss and perplexity (of "
                "images, reconstruction_loss) on held-out rows. Leave it out, or name one of them."
            )
        if self.load_best_model_at_end or self.metric_for_best_model is not None:
            self.metric_for_best_model = self.metric_for_best_model or "loss"
            self.greater_is_better = False
        with known_to_transformers(self):
            super().__post_init__()
        check_report_to(self.report_to)
        check_accelerator(self.accelerator_config)
        self.trainable = "all" if self.trainable is None else self.trainable
        if "auto" in str(self.trainable).split():
            raise ValueError("trainable='auto' goes by labelled rows, and these have no labels. Say what trains.")
        parse_trainable(self.trainable)
        parse_freeze(self.freeze)
        check_rates(self)
        check_slanted(self)
        set_loading(self)

    # What the trainer that this one is built on asks for, and pre-training has not.

    @property
    def recomputes_activations(self) -> bool:
        return any(getattr(self, f"{kind}_checkpointing", False) for kind in ("activation", "gradient"))

    @property
    def unfreeze(self) -> None:
        return None

    @property
    def lp_epochs(self) -> float:
        return 0.0

    @property
    def objective_lr_multiplier(self) -> float:
        return 1.0


def _check_refused(args: Any) -> None:
    """Check of the settings that pre-training has no use for; raises `ValueError`."""
    for f in fields(TrainingArguments):
        if f.name not in REFUSED:
            continue
        make: Any = f.default_factory
        default = f.default if make is MISSING else make()
        value = getattr(args, f.name)
        if value is not None and value != default and not (value is False and not default):
            raise ValueError(f"{f.name}={value!r} is not for pre-training: {REFUSED[f.name]}. Leave it out.")
