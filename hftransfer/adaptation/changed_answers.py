"""Target rows whose answer changed, with the words or patches that speak for the new one."""

from __future__ import annotations

import io
import logging
from pathlib import Path
from typing import Any

import numpy as np

from ..data.image_decoding import open_image
from ..data.label_space import column_names
from ..models.pretrained import head_class
from ..reporting.adaptation_facts import ChangedRow
from ..selection.model_predictions import softmax
from ..trainers.setup.run_domains import input_columns
from .attributions import attribute_images, attribute_text
from .judging import Verdicts
from .run_inputs import RunInputs

logger = logging.getLogger(__name__)
MOST = 12
PICTURE_SIDE = 160  # pixels of an image in the report


def changed_rows(inputs: RunInputs, verdicts: Verdicts, folder: Path) -> list[ChangedRow]:
    """Rows that source-only and the chosen model answer differently, the surest of the new answers first.

    Args:
        inputs: of the run.
        verdicts: from `judge`.
        folder: with the model that was handed over; it says what speaks for its answers.

    Returns:
        At most 12; none in tagging, or where every answer is the same.
    """
    model = verdicts.chosen.outcome.model
    assert model is not None
    if model.task == "token-classification":
        return []
    before, after = (softmax(entry.seen().target_logits) for entry in (verdicts.base, verdicts.chosen))
    changed = np.flatnonzero(before.argmax(1) != after.argmax(1))
    chosen = changed[np.argsort(-after.max(1)[changed], kind="stable")][:MOST]
    if not len(chosen):
        return []
    stored = verdicts.chosen.predictions
    rows = [inputs.target[int(row)] for row in stored.target_rows[stored.judged][chosen]]
    classes = after.argmax(1)[chosen]
    shown = (
        _images(inputs, rows, classes, folder) if model.modality == "image" else _texts(inputs, rows, classes, folder)
    )
    return [
        ChangedRow(
            before=model.class_names[int(before[row].argmax())],
            after=model.class_names[int(after[row].argmax())],
            confidence_before=float(before[row].max()),
            confidence_after=float(after[row].max()),
            **parts,
        )
        for row, parts in zip(chosen, shown, strict=True)
    ]


def _texts(inputs: RunInputs, rows: list[dict[str, Any]], classes: np.ndarray, folder: Path) -> list[dict[str, Any]]:
    columns = input_columns(inputs.args).text
    column = columns.text if columns.text in column_names(inputs.target) else columns.tokens
    texts = [" ".join(row[column]) if isinstance(row[column], list) else str(row[column]) for row in rows]
    if columns.text_pair:
        return [{"text": f"{text} | {row[columns.text_pair]}"} for text, row in zip(texts, rows, strict=True)]
    words = _attributions(lambda model, tokenizer: attribute_text(
        model, tokenizer, texts, classes.tolist(), inputs.args.max_length
    ), folder, "sequence-classification", "text")  # fmt: skip
    return [{"text": text, "tokens": words[k] if words is not None else ()} for k, text in enumerate(texts)]


def _images(inputs: RunInputs, rows: list[dict[str, Any]], classes: np.ndarray, folder: Path) -> list[dict[str, Any]]:
    column = inputs.args.image_column
    pictures = [open_image(row[column], "a target row").convert("RGB") for row in rows]

    def attribute(model: Any, processor: Any) -> np.ndarray:
        return attribute_images(model, processor(images=pictures, return_tensors="pt"), classes.tolist())

    patches = _attributions(attribute, folder, "sequence-classification", "image")
    shown = []
    for k, picture in enumerate(pictures):
        picture.thumbnail((PICTURE_SIDE, PICTURE_SIDE))
        file = io.BytesIO()
        picture.save(file, "PNG")
        shown.append({"image": file.getvalue(), "patches": patches[k] if patches is not None else None})
    return shown


def _attributions(attribute: Any, folder: Path, task: str, modality: str) -> Any:
    """What `attribute` says of the saved model; `None`, with a line in the log, where it cannot."""
    from transformers import AutoImageProcessor, AutoTokenizer

    try:
        model = head_class(task, modality).from_pretrained(folder, local_files_only=True)
        loader = AutoImageProcessor if modality == "image" else AutoTokenizer
        return attribute(model, loader.from_pretrained(folder, local_files_only=True))
    except (ValueError, OSError) as error:  # an adapter, or a model without a table of embeddings
        logger.info("No attributions in the report: %s", error)
        return None
