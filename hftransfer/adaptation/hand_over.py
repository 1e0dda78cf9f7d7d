"""Handing over: the chosen candidate as one plain model, its correction written into the final layer."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch

from ..models.pretrained import head_class
from ..trainers.saving.written_files import CARD, foreign_names, record_written
from .candidate_run import DONE, PREDICTIONS, CandidateOutcome
from .corrections import Correction

WEIGHTS = ("model*.safetensors*", "adapter_model*.safetensors")
KEPT_BACK = (DONE, PREDICTIONS, "started.json", "training_args.json")


def has_bias(outcome: CandidateOutcome) -> bool:
    """Whether class frequencies can be written into a saved model: it is plain, and its final layer has a bias."""
    assert outcome.folder is not None
    assert outcome.model is not None
    from safetensors import safe_open

    if (outcome.folder / "adapter_config.json").is_file():
        return False
    name = f"{outcome.model.head}.bias"
    for path in outcome.folder.glob("model*.safetensors"):
        with safe_open(path, "pt") as file:
            if name in file.keys():
                return True
    return False


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


def hand_over(outcome: CandidateOutcome, correction: Correction, output_dir: Path, card_section: str = "") -> None:
    """Plain model of a candidate in the output folder, with its tokenizer or image processor and its card.

    What was there before is replaced file by file, the weights last, and only what hftransfer wrote.

    Args:
        outcome: the candidate.
        correction: what is written into its final layer; of an adapter that is not merged, nothing is.
        output_dir: the output folder.
        card_section: markdown that follows the candidate's own card.

    Raises:
        FileExistsError: the folder holds files of somebody else's under names of the model's.
    """
    assert outcome.folder is not None
    assert outcome.model is not None
    with tempfile.TemporaryDirectory(prefix=".handing-over-", dir=outcome.folder.parent) as name:
        staging = Path(name)
        weights = {path.name for pattern in WEIGHTS for path in outcome.folder.glob(pattern)}
        for path in outcome.folder.iterdir():
            if path.is_file() and path.name not in KEPT_BACK and not path.name.startswith(("_", ".")):
                shutil.copy2(path, staging / path.name)
        if not (outcome.folder / "adapter_config.json").is_file():
            cls = head_class(outcome.model.task, outcome.model.modality)
            model = cls.from_pretrained(outcome.folder, local_files_only=True)
            correct_head(model, outcome.model.head, correction)
            for weight_file in weights:
                (staging / weight_file).unlink()
            model.save_pretrained(staging)
        if card_section:
            card = staging / CARD
            text = card.read_text(encoding="utf-8") if card.is_file() else ""
            card.write_text(f"{text.rstrip()}\n\n{card_section.strip()}\n", encoding="utf-8")
        names = sorted(path.name for path in staging.iterdir())
        foreign = foreign_names(output_dir, names)
        if foreign:
            raise FileExistsError(
                f"{output_dir} holds {', '.join(foreign[:5])}, which hftransfer did not write and would replace. "
                "Choose another output_dir, or move them elsewhere."
            )
        for pattern in WEIGHTS:
            for path in output_dir.glob(pattern):
                if path.name not in names:  # shards of an older model would be loaded together with this one
                    path.unlink()
        for file_name in sorted(names, key=lambda n: n.endswith((".safetensors", "index.json"))):
            os.replace(staging / file_name, output_dir / file_name)
        record_written(output_dir, names)
