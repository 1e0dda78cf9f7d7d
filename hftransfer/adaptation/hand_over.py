"""Handing over: the chosen candidate as one plain model, its correction written into the final layer."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch

from ..models.pretrained import head_class
from ..selection.source_numbers import KEY, SourceNumbers
from ..trainers.saving.written_files import CARD
from .candidate_folder import KEPT_BACK, WEIGHTS
from .candidate_run import CandidateOutcome
from .corrections import Correction
from .judging import Entry
from .run_inputs import RunInputs

ADAPTER = "adapter_config.json"


def correction_obstacle(outcome: CandidateOutcome) -> str:
    """Why class frequencies cannot be written into a saved model, in a sentence; empty where they can."""
    assert outcome.folder is not None
    assert outcome.model is not None
    from safetensors import safe_open

    if (outcome.folder / ADAPTER).is_file():
        return "what is saved is an adapter, which is not merged into a plain model."
    name = f"{outcome.model.head}.bias"
    for path in outcome.folder.glob("model*.safetensors"):
        with safe_open(path, "pt") as file:
            if name in file.keys():
                return ""
    return f"the final layer {outcome.model.head!r} has no bias that they could be written to."


@torch.no_grad()
def correct_head(model: Any, head: str, correction: Correction) -> None:
    r"""Correction written into a model's final layer: W/T and b/T + log w.

    Args:
        model: a plain model.
        head: name of its final linear layer.
        correction: temperature and class weights.

    Raises:
        ValueError: class weights, and a layer without a bias.
    """
    layer = model.get_submodule(head)
    if correction.weights is not None and layer.bias is None:
        raise ValueError(f"The final layer {head!r} has no bias that class frequencies could be written to.")
    layer.weight.copy_((layer.weight.double() / correction.temperature).to(layer.weight.dtype))
    if layer.bias is not None:
        shift = torch.as_tensor(correction.bias, dtype=torch.float64, device=layer.bias.device)
        layer.bias.copy_((layer.bias.double() / correction.temperature + shift).to(layer.bias.dtype))


def source_numbers(chosen: Entry, inputs: RunInputs) -> SourceNumbers | None:
    """Counts on source validation rows that the chosen model's config is to carry, as it is handed over.

    Args:
        chosen: the entry, with its correction.
        inputs: of the run.

    Returns:
        `None` where `save_source_numbers` is off, rows are not classified as a whole, or an adapter is handed over.
    """
    outcome = chosen.outcome
    assert outcome.folder is not None
    assert outcome.model is not None
    is_adapter = (outcome.folder / ADAPTER).is_file()
    if not inputs.args.save_source_numbers or outcome.model.task != "sequence-classification" or is_adapter:
        return None
    seen = chosen.predictions
    return SourceNumbers.of(seen.source_validation_logits, seen.source_validation_labels, outcome.model.class_names)


def write_model(
    outcome: CandidateOutcome,
    correction: Correction,
    folder: Path,
    card_section: str = "",
    numbers: SourceNumbers | None = None,
) -> None:
    """Plain model of a candidate in an empty folder, with its tokenizer or image processor and its card.

    Args:
        outcome: the candidate.
        correction: what is written into its final layer; of an adapter that is not merged, nothing is.
        folder: an empty folder.
        card_section: markdown that follows the candidate's own card.
        numbers: counts on source validation rows that a plain model's config carries; `None` for none.
    """
    assert outcome.folder is not None
    assert outcome.model is not None
    is_adapter = (outcome.folder / ADAPTER).is_file()
    weights = {path.name for pattern in WEIGHTS for path in outcome.folder.glob(pattern)}
    for path in outcome.folder.iterdir():
        kept_back = path.name in KEPT_BACK or path.name.startswith(("_", "."))
        if path.is_file() and not kept_back and (is_adapter or path.name not in weights):
            shutil.copy2(path, folder / path.name)
    if not is_adapter:
        cls = head_class(outcome.model.task, outcome.model.modality)
        model = cls.from_pretrained(outcome.folder, local_files_only=True)
        correct_head(model, outcome.model.head, correction)
        metadata = {k: v for k, v in (getattr(model.config, "hftransfer", None) or {}).items() if k != KEY}
        model.config.hftransfer = metadata if numbers is None else metadata | {KEY: numbers.as_json()}
        model.save_pretrained(folder)
    if card_section:
        card = folder / CARD
        text = card.read_text(encoding="utf-8") if card.is_file() else ""
        card.write_text(f"{text.rstrip()}\n\n{card_section.strip()}\n", encoding="utf-8")
