"""Results of a run: scores on test splits, and the files with model, card and scores."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..reporting.console import print_lines
from ..reporting.model_card_text import load_lines
from ..stages import stage
from .hub.push import upload_command
from .saved_source_numbers import source_numbers_of
from .saving.written_files import COMPARISON, RESULTS, record_written, write_whole
from .trainer import AdaptationTrainer
from .trainer_access import findings_of

METRICS = ("accuracy", "macro_f1", "mse", "pearson")  # ends of those that are worth a column


@stage("scoring the test splits")
def score_test_splits(trainer: AdaptationTrainer, test_splits: Mapping[str, Any]) -> dict[str, float]:
    """Scores of a trained model on its test splits: accuracy and macro F1, or what a regression has instead.

    Args:
        trainer: has trained.
        test_splits: encoded test splits by name, from `Prepared.encode_test_splits`. Metrics that read labels of any
            but a source are called oracle.

    Raises:
        ValueError: scoring failed; says where the model is that was saved before.

    Example:
        >>> trainer.train()
        >>> score_test_splits(trainer, trainer.prepared.encode_test_splits({"source": news}))
    """
    try:
        metrics = trainer.evaluate(test_splits, metric_key_prefix="test") if test_splits else {}
    except Exception as error:
        raise ValueError(
            f"The trained model is saved in {trainer.args.output_dir}, but scoring it on the test splits failed: "
            f"{error}"
        ) from error
    return {name.removeprefix("test_"): value for name, value in metrics.items() if name.endswith(METRICS)}


@stage("saving the model")
def save_model_and_card(trainer: AdaptationTrainer, results: dict[str, dict[str, float]]) -> None:
    """Trained model and card, saved with the results so far, before anything else can fail.

    Unlike `trainer.save_model()` it pushes nothing; `trainer.push_to_hub()` does. With `save_source_numbers`, the
    model's config carries counts on the source's validation rows; see `SourceNumbers`.

    Args:
        trainer: has trained.
        results: scores by the row of the card's table, such as those of `train_source_only` as `"source-only"`.

    Example:
        >>> trainer.train()
        >>> save_model_and_card(trainer, {})
    """
    trainer.results = results
    trainer.source_numbers = source_numbers_of(trainer)
    trainer.save_model(_internal_call=True)
    if trainer.is_world_process_zero() and "source-only" in results:
        write_scores(trainer.args.output_dir, COMPARISON, results["source-only"])
    trainer.create_model_card()


@stage("saving the model")
def save_results(trainer: AdaptationTrainer, results: dict[str, dict[str, float]]) -> None:
    """Final scores, written to the model card and, with notes on the run, to `results.json` in the output folder.

    Args:
        trainer: its model is saved already.
        results: scores by the row of the table: `"source-only"`, `"adapted"`.

    Example:
        >>> trainer.train()
        >>> save_model_and_card(trainer, {})
        >>> save_results(trainer, {"adapted": {"source_accuracy": 0.5}})
        >>> (Path(trainer.args.output_dir) / "results.json").is_file()
        True
    """
    trainer.results = results
    trainer.create_model_card()
    if trainer.is_world_process_zero():
        write_scores(trainer.args.output_dir, RESULTS, {**results, **_notes(trainer)})


def _notes(trainer: AdaptationTrainer) -> dict[str, list[str]]:
    """What went wrong in training, and whether class weights are to be trusted; nothing if there is nothing to say."""
    verdict = trainer.label_shift_verdict
    notes = [*findings_of(trainer), *([verdict.text] if verdict else [])]
    return {"notes": notes} if notes else {}


def print_saved_model(trainer: AdaptationTrainer) -> None:
    """Place of a saved model, printed, with how to load it without hftransfer and how to push it.

    Args:
        trainer: its model is saved.

    Example:
        >>> print_saved_model(trainer)
    """
    args = trainer.args
    folder = str(args.output_dir)
    lines = load_lines(trainer.card_facts(), folder)
    print_lines("", f"The model is in {folder}. Load it anywhere, without hftransfer:", "")
    print_lines(*(f"  {line}".rstrip() for line in lines), "")
    if not args.push_to_hub:
        repo = args.hub_model_id or f"your-name/{Path(folder).name}"
        print_lines("Push it:", "", f"  {upload_command(repo, folder)}", "")


def write_scores(folder: str | Path | None, name: str, scores: Mapping[str, Any]) -> None:
    """Scores file in the output folder, written whole or not at all and recorded as ours.

    Args:
        folder: the output folder.
        name: of the file, inside it.
        scores: anything that JSON holds. A file that holds them already is left as it is.
    """
    path, text = Path(str(folder)) / name, json.dumps(scores, indent=2)
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return
    path.parent.mkdir(exist_ok=True)
    write_whole(path, text)
    record_written(Path(str(folder)), [name])
