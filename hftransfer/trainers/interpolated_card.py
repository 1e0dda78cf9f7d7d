"""Model card of averaged weights: ingredients, choice and scores of every mixture."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from ..models.interpolation import PAPERS, Mixture
from ..reporting.model_card_text import render_card
from .trainer import AdaptationTrainer


def interpolation_card(
    mixture: Mixture,
    trainer: AdaptationTrainer,
    output_dir: str | Path,
    results: Mapping[str, Mapping[str, float]],
    start: str | None = None,
) -> str:
    """The text of README.md for a mixture, with its data, scores, papers and how to load it.

    Args:
        mixture: moved to where it is to be saved.
        trainer: scored it; its `metric_for_best_model` chose.
        output_dir: where the model goes.
        results: `{mixture: {metric: value}}`.
        start: the Hub id or folder of what the models were fine-tuned from, if that was in the mixture.

    Example:
        >>> with Mixture(["runs/a", "runs/b"]) as mixture:
        ...     args = AdaptationConfig("out", metric_for_best_model="eval_source_accuracy")
        ...     trainer = AdaptationTrainer(mixture.model, args, news, processing_class=mixture.processor)
        ...     mixture.set({"a": 0.5, "b": 0.5})
        ...     card = interpolation_card(mixture, trainer, "runs/soup", {"soup": {"source_accuracy": 0.5}})
    """
    objectives = (getattr(mixture.model.config, "hftransfer", None) or {}).get("objectives", {})
    chosen_by = str(trainer.args.metric_for_best_model).removeprefix("eval_")
    facts = dataclasses.replace(
        trainer.card_facts(Path(output_dir).name, start),
        objectives={name: f"{spec['weight']:g} x {spec['kind']}" for name, spec in objectives.items()},
        papers=[PAPERS["wise"]] * bool(start) + [PAPERS["soup"]] * (len(mixture.paths) > 1),
        trained="nothing: weights were averaged after training",
        settings={"weights": str(mixture.point), "chosen by": chosen_by},
        results=results,
    )
    return render_card(facts, ["weight-interpolation"])
