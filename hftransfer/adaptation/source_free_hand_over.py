"""Handing over of a source-free adaptation: the adapted model, or the start with its final layer corrected or not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..models.pretrained import load_model
from ..selection.source_numbers import KEY
from ..trainers.saving.written_files import CARD
from .candidate_list import CandidateRecipe
from .candidate_run import CandidateOutcome
from .corrections import Correction
from .hand_over import correct_head, write_model
from .source_free_run import ADAPTED, SourceFreeRun
from .source_free_verdict import SourceFreeVerdict


def write_source_free_model(run: SourceFreeRun, verdict: SourceFreeVerdict, folder: Path, card_section: str) -> None:
    """Plain model of the verdict in an empty folder, with its tokenizer or image processor and its card.

    Args:
        run: trained.
        verdict: from `decide`; one that hands a model over.
        folder: an empty folder.
        card_section: markdown that follows the model's own card.
    """
    if verdict.facts.verdict in ("adapted", "student"):
        outcome = CandidateOutcome(CandidateRecipe(ADAPTED), run.folder, model=run.model)
        write_model(outcome, Correction(), folder, card_section)
        return
    _write_start(run, verdict.correction, folder, card_section)


def _write_start(run: SourceFreeRun, correction: Correction, folder: Path, card_section: str) -> None:
    inputs, facts = run.inputs, run.model
    options: dict[str, Any] = dict(inputs.model_kwargs or {})
    model = load_model(inputs.model, facts.task, facts.class_names, modality=facts.modality, **options)
    if correction.weights is not None:
        correct_head(model, facts.head, correction)
        metadata = dict(getattr(model.config, "hftransfer", None) or {})
        metadata.pop(KEY, None)  # they are of the model before it was corrected
        model.config.hftransfer = metadata
    model.save_pretrained(folder)
    run.trainer.prepared.processing_class.save_pretrained(folder)
    own_card = Path(inputs.model) / CARD
    name = Path(str(inputs.args.output_dir)).absolute().name
    text = own_card.read_text(encoding="utf-8") if own_card.is_file() else f"# {name}"
    (folder / CARD).write_text(f"{text.rstrip()}\n\n{card_section.strip()}\n", encoding="utf-8")
