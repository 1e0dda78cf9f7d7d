"""Settings of sentence pre-training that depend on each other: what cannot be is refused before anything is loaded."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..messages import nearest

USUAL_TEMPERATURE = 0.05  # SimCSE's
USUAL_DELETED = 0.6  # TSDAE's
POOLINGS = ("mean", "cls")
TERMS = "sentence_contrast or sentence_denoising"
# Settings of a loss that is off, with their usual values.
OF_CONTRAST = {"contrast_temperature": USUAL_TEMPERATURE}
OF_DENOISING = {"deleted_share": USUAL_DELETED, "denoising_layers": 0}
OF_MASKING = {
    "mask_hidden_share": 0.8,
    "mask_random_share": 0.1,
    "target_word_bias": 0.0,
    "head_lr_multiplier": 1.0,
}


def check_sentence_settings(args: Any) -> None:
    """Check that there is something to learn, and that no setting is of a loss that is off.

    Args:
        args: a `PretrainingConfig`.

    Raises:
        ValueError: the first setting that cannot be, and what to do.
    """
    if not args.mask_probability and not args.sentence_contrast and not args.sentence_denoising:
        anchor = ""
        if args.sentence_anchor:
            anchor = f" sentence_anchor={args.sentence_anchor:g} keeps vectors where they are, and teaches nothing."
        raise ValueError(
            f"mask_probability=0 hides no words, so there is nothing to train on.{anchor} Give {TERMS} a weight, or "
            "mask words: 0.15 is usual."
        )
    if not args.sentence_contrast:
        _check_unused(args, OF_CONTRAST, "sentence_contrast, which is 0. Give that a weight")
    if not args.sentence_denoising:
        _check_unused(args, OF_DENOISING, "sentence_denoising, which is 0. Give that a weight")
    if not args.mask_probability:
        _check_unused(args, OF_MASKING, "masked words, and mask_probability=0 masks none. Mask some")
        if args.metric_for_best_model in ("perplexity", "eval_perplexity"):
            raise ValueError(
                f"metric_for_best_model={args.metric_for_best_model!r} is measured at masked words, and "
                "mask_probability=0 masks none. Name 'loss', the weighted sum on held-out texts."
            )
    if args.sentence_pooling is not None:
        if args.sentence_pooling not in POOLINGS:
            raise ValueError(
                f"sentence_pooling={args.sentence_pooling!r} must be one of {', '.join(POOLINGS)}."
                f"{nearest(str(args.sentence_pooling), POOLINGS)}"
            )
        if not (args.sentence_contrast or args.sentence_denoising or args.sentence_anchor):
            raise ValueError(
                f"sentence_pooling={args.sentence_pooling!r} makes the vectors of sentences, and nothing here reads "
                f"them. Give {TERMS} a weight, or leave it out."
            )


def check_contrast_rows(args: Any, held_out_rows: int) -> None:
    """Check that a contrast has several texts to tell apart, in training and where it is measured.

    Args:
        args: a `PretrainingConfig`.
        held_out_rows: texts to measure on; 0 without.

    Raises:
        ValueError: there is one alone.
    """
    if not args.sentence_contrast:
        return
    if args.per_device_train_batch_size * args.world_size < 2:
        raise ValueError(
            "sentence_contrast tells the texts of a batch apart, and per_device_train_batch_size=1 leaves one alone. "
            "Raise it, or leave sentence_contrast out."
        )
    if held_out_rows == 1 or (held_out_rows and args.per_device_eval_batch_size < 2):
        what = "held_out leaves one" if held_out_rows == 1 else "per_device_eval_batch_size=1 leaves each alone"
        raise ValueError(
            f"sentence_contrast is measured among held-out texts of a batch, and {what}. Raise it, or set held_out=0 "
            "to measure nothing."
        )


def check_contrast_texts(args: Any, domains: Iterable[Any]) -> None:
    """Check that two of the encoded texts differ, so that a contrast can tell them apart; raises a `ValueError`.

    Args:
        args: a `PretrainingConfig`.
        domains: encoded rows; no streams.
    """
    if not args.sentence_contrast:
        return
    texts = (row["input_ids"] for rows in domains for row in rows)
    first = next(texts, None)
    if all(text == first for text in texts):
        raise ValueError(
            "sentence_contrast tells the texts of a batch apart, and there is one text to train on, or all are the "
            "same. Give more texts, or leave sentence_contrast out."
        )


def _check_unused(args: Any, usual: dict[str, float], whose: str) -> None:
    """Check that settings of a loss that is off have their usual values; raises `ValueError`."""
    for name, value in usual.items():
        given = getattr(args, name)
        if given != value:
            raise ValueError(f"{name}={given:g} is of {whose}, or leave {name} out.")
