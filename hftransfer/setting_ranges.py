"""Ranges of numeric settings, and the check of a number against its range."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, NoReturn

from .messages import redacted


@dataclass(frozen=True)
class Bounds:
    """Range of a number.

    Args:
        low, high: its limits, which belong to the range unless `above` or `below` says otherwise.
        whole: it counts something.
        above, below: `low` or `high` itself is left out.
        share: below 1 it is a share of all steps; from 1 on it counts steps.
        none: nothing at all is right too, even where it is not the default.
        besides: single values that are right too, with a meaning of their own.
        hint: what to do instead, at the end of the message.
    """

    low: float | None = 0
    high: float | None = None
    whole: bool = False
    above: bool = False
    below: bool = False
    share: bool = False
    besides: tuple[float, ...] = ()
    none: bool = False
    hint: str = ""

    def read(self, name: str, value: Any) -> int | float:
        """Number in its range, whole ones as `int`; text that is a number is read as one.

        Raises:
            ValueError: it is no number, not finite, not whole where it has to be, or out of range.

        Example:
            >>> Bounds(1, whole=True).read("max_steps", "20")
            20
        """
        number = _number(value)
        if number is None:
            self._refuse(name, value, self._kind())
        if number in self.besides:
            return number
        if not math.isfinite(number):
            self._refuse(name, value, self._limits() + " and finite" * (self.high is None))
        if self.whole or (self.share and number >= 1):
            if number != int(number):
                self._refuse(name, value, self._kind())
            number = int(number)
        too_low = self.low is not None and (number <= self.low if self.above else number < self.low)
        too_high = self.high is not None and (number >= self.high if self.below else number > self.high)
        if too_low or too_high:
            self._refuse(name, value, self._limits())
        return number if self.whole else int(number) if isinstance(value, int) else float(number)

    def _kind(self) -> str:
        """Description of the allowed numbers, such as "a whole number, at least 1"."""
        return self._limits() if self.share else f"a {'whole ' * self.whole}number, {self._limits()}"

    def _limits(self) -> str:
        """Description of the limits, such as "above 0 and at most 1"."""
        if self.share:
            zero = "" if self.above else "0, "
            return f"{zero}a whole number of steps, or a share of all steps, above 0 and below 1"
        if self.low == 0 and self.above and self.high is None:
            return "positive"
        parts = []
        if self.low is not None:
            parts.append(f"{'above' if self.above else 'at least'} {self.low}")
        if self.high is not None:
            parts.append(f"{'below' if self.below else 'at most'} {self.high}")
        return " or ".join([" and ".join(parts), *(f"{value:g}" for value in self.besides)])

    def _refuse(self, name: str, value: Any, expected: str) -> NoReturn:
        shown_value = redacted(repr(value))
        shown_value = shown_value if len(shown_value) < 60 else f"{shown_value[:57]}…"
        raise ValueError(" ".join(filter(None, [f"{name}={shown_value} must be {expected}.", self.hint])))


def _number(value: Any) -> Any:
    """Python number, or `None` for what is none. A switch is none; 1e-3 in YAML is text, and a number."""
    if isinstance(value, str):
        text = value.strip()
        try:
            return int(text)
        except ValueError:
            pass
        try:
            return float(text) if "_" not in text else None
        except ValueError:
            return None
    if isinstance(value, bool) or type(value).__name__ in ("bool_", "bool"):
        return None
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    return None


COUNT = Bounds(1, whole=True)
FROM_ZERO = Bounds(0)
POSITIVE = Bounds(0, above=True)
STEPS = Bounds(0, above=True, share=True)
SHARE_BELOW_1 = Bounds(0, 1, below=True)
SHARE_ABOVE_0 = Bounds(0, 1, above=True)
SEED = Bounds(0, 2**32 - 1, whole=True)  # what numpy takes

# Every number of every setting, by the setting's name. `None` is right where it is the default.
RANGES: dict[str, Bounds] = {
    # transformers.TrainingArguments
    "per_device_train_batch_size": COUNT,
    "per_device_eval_batch_size": COUNT,
    "gradient_accumulation_steps": COUNT,
    "num_train_epochs": POSITIVE,
    "max_steps": Bounds(1, whole=True, besides=(-1,), hint="-1 leaves the end to num_train_epochs."),
    "learning_rate": FROM_ZERO,
    "warmup_steps": Bounds(0, share=True),
    "weight_decay": FROM_ZERO,
    "adam_beta1": SHARE_BELOW_1,
    "adam_beta2": SHARE_BELOW_1,
    "adam_epsilon": POSITIVE,
    "max_grad_norm": Bounds(0, none=True, hint="0 clips nothing."),
    "label_smoothing_factor": Bounds(0, 1, below=True, hint="At 1 nothing of the labels would be left."),
    "neftune_noise_alpha": POSITIVE,
    "torch_empty_cache_steps": COUNT,
    "logging_steps": STEPS,
    "eval_steps": STEPS,
    "save_steps": STEPS,
    "eval_delay": FROM_ZERO,
    "eval_accumulation_steps": COUNT,
    "save_total_limit": Bounds(1, whole=True, hint="Leave it out to keep all checkpoints."),
    "seed": SEED,
    "data_seed": SEED,
    "dataloader_num_workers": Bounds(0, whole=True),
    "dataloader_prefetch_factor": COUNT,
    "ddp_bucket_cap_mb": COUNT,
    "ddp_timeout": COUNT,
    "local_rank": Bounds(-1, whole=True),
    # AdaptationConfig
    "task_weight": FROM_ZERO,
    "target_ratio": POSITIVE,
    "reveal_target_labels": Bounds(0, whole=True),
    "lp_epochs": FROM_ZERO,
    "frozen_cache_gb": Bounds(0, above=True, hint="To keep nothing, leave cache_frozen_layers out."),
    "layer_decay": Bounds(
        0, 1, above=True, hint="Each layer's rate is that of the one above it times this; 1 makes them equal."
    ),
    "head_lr_multiplier": POSITIVE,
    "backbone_lr_multiplier": Bounds(0, above=True, hint="To keep the backbone as it is, use trainable='head'."),
    "objective_lr_multiplier": POSITIVE,
    "forward_rows": Bounds(1, whole=True, hint="Leave it out to run all rows at a time."),
    "batch_norm_mix": Bounds(
        0,
        1,
        above=True,
        hint="With 0, all channels would use the batch's statistics: that is batch_norm='joint'.",
    ),
    "batch_norm_momentum": Bounds(0, 1, above=True, hint="To keep the running statistics, set batch_norm='frozen'."),
    "max_length": Bounds(4, whole=True, hint="Fewer tokens leave no room for text."),
    "image_size": Bounds(4, whole=True, hint="Images are squares of at least 4 pixels a side."),
    # PretrainingConfig
    "mask_probability": Bounds(0, 1, below=True, hint="It is a share of the words; 0.15 is usual, 0 masks none."),
    "mask_hidden_share": Bounds(0, 1),
    "mask_random_share": Bounds(0, 1),
    "image_mask_share": Bounds(0, 1, above=True, below=True, hint="It is a share of an image's units; 0.6 is usual."),
    "image_mask_unit": Bounds(1, whole=True, hint="It counts pixels."),
    "target_word_bias": Bounds(0, 4, hint="1 follows the ratio of the frequencies; 0 masks all words alike."),
    "sentence_anchor": FROM_ZERO,
    "sentence_contrast": FROM_ZERO,
    "contrast_temperature": POSITIVE,
    "sentence_denoising": FROM_ZERO,
    "deleted_share": Bounds(0, 1, above=True, below=True, hint="It is a share of the words; the paper's is 0.6."),
    "denoising_layers": Bounds(0, whole=True, hint="0 ties the decoder to the encoder's own layers."),
    "held_out": Bounds(0, hint="It is a share below 1, or a number of rows; 0 holds nothing out."),
    "pool_rows": COUNT,
    "new_words": Bounds(0, whole=True),
    "pack_length": Bounds(8, whole=True, hint="It counts tokens."),
    # the recipes' own
    "validation_fraction": Bounds(0, 1, below=True, hint="It is a share, between 0 and 1; 0 holds nothing out."),
    "lora_r": COUNT,
    "lora_alpha": Bounds(1, whole=True, hint="At 0 the adapter would do nothing."),
    "lora_dropout": SHARE_BELOW_1,
    "alphas": Bounds(0, 1),
    "max_rows": Bounds(10, whole=True, hint="From fewer rows nothing can be chosen."),
    "resamples": Bounds(1, whole=True),
}


def read_number(name: str, value: Any) -> int | float:
    """Number of a setting, in its range.

    Raises:
        ValueError: as in `Bounds.read`.

    Example:
        >>> read_number("learning_rate", "1e-3")
        0.001
    """
    return RANGES[name].read(name, value)
