"""Sentence terms of a pre-training: anchor, contrast and denoising, as its settings ask for them."""

from __future__ import annotations

from typing import Any

import torch

from .denoising_decoder import make_decoder
from .pretraining_config import PretrainingConfig
from .pretraining_model import PretrainingModel
from .sentence_anchor import SentenceAnchor
from .sentence_contrast import SentenceContrast
from .sentence_denoising import SentenceDenoising
from .sentence_settings import check_contrast_rows
from .sentence_vectors import SentencePooling, declared_pooling

SPOKEN = {"mean": "means of hidden states", "cls": "hidden states of first tokens"}


class SentenceTerms:
    """What is asked of the vectors of sentences.

    Args:
        args: the run's settings.
        model: as it was loaded, before an adapter is put on it.
        longest: tokens of a text.
        pad_id: fills up texts.
        tokens: ids of ordinary tokens, to try models on.
        revision: of the checkpoint.

    Raises:
        ValueError: one text a batch, or no decoder of the encoder's kind.
    """

    def __init__(
        self, args: PretrainingConfig, model: Any, longest: int, pad_id: int, tokens: Any, revision: str | None = None
    ):
        self.args = args
        self.anchor: SentenceAnchor | None = None
        self.is_asked = bool(args.sentence_anchor or args.sentence_contrast or args.sentence_denoising)
        check_contrast_rows(args, 0)
        self.pooling, self.reason = self._choose_pooling(model, revision)
        self.decoder = make_decoder(model, args.denoising_layers, longest, pad_id, tokens) if self._denoises else None

    def keep_start(self, model: Any, shares_all: bool = False) -> None:
        """The model before training, kept where the anchor asks for it, once it is known what trains.

        Args:
            model: plain.
            shares_all: nothing of its backbone will train.
        """
        if self.args.sentence_anchor:
            self.anchor = SentenceAnchor(model, shares_all, self.pooling)

    def of(self, model: Any, probe: dict[str, torch.Tensor]) -> dict[str, Any]:
        """Arguments of a `PretrainingModel`.

        Args:
            model: the one that trains, PEFT-wrapped or not.
            probe: inputs of two rows.
        """
        args, denoising = self.args, None
        contrast = SentenceContrast(model, args.contrast_temperature, self.pooling) if args.sentence_contrast else None
        if self.decoder is not None:
            words = next(model.parameters())
            width = int(self.decoder.config.hidden_size)
            vectors = torch.ones(len(probe["input_ids"]), 1, width, dtype=words.dtype, device=words.device)
            inputs = {**probe, "encoder_hidden_states": vectors}
            denoising = SentenceDenoising(self.decoder, model.parameters(), inputs, self.pooling)
        return {
            "anchor": self.anchor,
            "anchor_weight": args.sentence_anchor,
            "contrast": contrast,
            "contrast_weight": args.sentence_contrast,
            "denoising": denoising,
            "denoising_weight": args.sentence_denoising,
        }

    def notes(self, joint: PretrainingModel) -> list[str]:
        """Sentences on what was decided."""
        if not self.is_asked:
            return []
        notes = [f"Sentence vectors: {SPOKEN[self.pooling]} ({self.reason})."]
        if joint.denoising is not None:
            kind = type(self.decoder).__name__
            layers = self.args.denoising_layers
            tied = f"{layers} layer(s) of its own" if layers else "tied to the encoder"
            notes.append(
                f"Denoising: a decoder ({kind}) {tied}, with {joint.denoising.own_parameters:,} weights that are not "
                "the encoder's and are in checkpoints only."
            )
        return notes

    @property
    def described(self) -> dict[str, Any]:
        """Weights and pooling, for config.json and checkpoints; empty where nothing is asked of sentences."""
        names = ("sentence_anchor", "sentence_contrast", "sentence_denoising")
        weights = {name: getattr(self.args, name) for name in names if getattr(self.args, name)}
        return weights | ({"pooling": self.pooling} if self.is_asked else {})

    @property
    def _denoises(self) -> bool:
        return bool(self.args.sentence_denoising)

    def _choose_pooling(self, model: Any, revision: str | None) -> tuple[SentencePooling, str]:
        """How vectors are made, and why."""
        if self.args.sentence_pooling is not None:
            return self.args.sentence_pooling, "as set"  # type: ignore[return-value]
        name = str(getattr(model.config, "name_or_path", "") or "") if self.is_asked else ""
        declared = declared_pooling(name, revision) if name else None
        if declared is not None:
            return declared, "as the checkpoint declares"
        return "mean", "the usual; sentence_pooling says otherwise"
