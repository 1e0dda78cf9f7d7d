"""`pretrain`: masked words or images without labels, and a plain model for the task that comes next."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..reporting.console import print_lines
from ..reporting.pretraining_card import CardWords, pretraining_card
from ..stages import stage
from ..trainers.hub.push import create_repo, push_folder
from ..trainers.results import write_scores
from ..trainers.saving.output_lock import lock_output_dir
from ..trainers.saving.written_files import CARD, RESULTS, is_edited_card, record_written, write_whole
from ..trainers.setup.constructor_check import check_settings
from .held_out_report import card_rows, described_scores, measure, results_of
from .pretraining_config import PretrainingConfig
from .pretraining_kind import PretrainingKind
from .pretraining_preparation import prepare_pretraining
from .pretraining_run import PreparedPretraining
from .pretraining_trainer import PretrainingTrainer

if TYPE_CHECKING:
    from peft import PeftConfig

    from ..trainers.argument_types import Domains, Processing, Rows

NOT_SAVED = ", so the model was not saved"


@dataclass(frozen=True)
class Pretraining:
    """Result of `pretrain`.

    Attributes:
        model: folder of the model, for `AutoModel`, `pipeline("fill-mask")` and the `model` of any other recipe.
        perplexity_before: at masked words of the held-out texts, before training; `None` where none were held out, and
            of images.
        perplexity_after: the same, after it.
        held_out_rows: how many rows those are.
        steps: updates of the training.
        notes: how it was done: packing, masking, what trained, new words.
        reconstruction_loss_before: mean absolute error at masked patches of the held-out images, before training;
            `None` where none were held out, and of texts.
        reconstruction_loss_after: the same, after it.
        loss_before: weighted sum of the losses of sentences on held-out texts, before training; `None` where none were
            held out or words are masked.
        loss_after: the same, after it.
        scores_before, scores_after: all scores of the held-out rows by name, from `held_out_scores`; empty without.

    Example:
        >>> Pretraining("runs/medical-bert", 31.0, 35.5, held_out_rows=50, steps=900, notes=()).got_worse
        True
    """

    model: str
    perplexity_before: float | None
    perplexity_after: float | None
    held_out_rows: int
    steps: int
    notes: tuple[str, ...]
    reconstruction_loss_before: float | None = None
    reconstruction_loss_after: float | None = None
    loss_before: float | None = None
    loss_after: float | None = None
    scores_before: Mapping[str, float] = field(default_factory=dict)
    scores_after: Mapping[str, float] = field(default_factory=dict)

    @property
    def scores(self) -> tuple[float, float] | None:
        """Perplexity, reconstruction loss or loss of sentences, before and after; `None` without held-out rows."""
        pairs = (
            (self.perplexity_before, self.perplexity_after),
            (self.reconstruction_loss_before, self.reconstruction_loss_after),
            (self.loss_before, self.loss_after),
        )
        return next(((before, after) for before, after in pairs if before is not None and after is not None), None)

    @property
    def got_worse(self) -> bool:
        """Whether that number is higher than before, or no number."""
        return self.scores is not None and not self.scores[1] <= self.scores[0]


def pretrain(
    model: Any,
    target: Rows | None = None,
    source: Domains | None = None,
    *,
    args: PretrainingConfig,
    validation: Rows | None = None,
    processing_class: Processing | None = None,
    peft_config: PeftConfig | None = None,
    model_kwargs: Mapping[str, Any] | None = None,
    dataset_names: Mapping[str, str] | None = None,
) -> Pretraining:
    """Masked language or image modelling on rows without labels (Gururangan et al. 2020; SimMIM, Xie et al. 2022).

    Of texts, whole words are masked, rows are packed where the model's attention keeps them apart, and the vocabulary
    is projected onto at masked positions alone; of images, square units of patches are masked, and their pixels
    painted. Sentences are learnt by contrast (SimCSE) or denoising (TSDAE), beside masked words or with
    `mask_probability=0` alone; the model is then a plain encoder. Perplexity, reconstruction loss or the losses of
    sentences are measured before and after, on rows that are held out. What is saved to `args.output_dir` is a plain
    model with its tokenizer or image processor, which every other recipe takes as its model; a run that was stopped
    goes on with `resume_from_checkpoint`.

    Args:
        model: Hub id or folder of an encoder, or a loaded `AutoModelForMaskedLM` or `AutoModelForMaskedImageModeling`.
            One without a head for what is masked gets a new one: of words, tied to its word embeddings. With
            `mask_probability=0`, a loaded `AutoModel`.
        target: texts or images of the target; labels in it are not read.
        source: those of a source, or a dict of several by name. One of the two is enough.
        args: a `PretrainingConfig`.
        validation: target rows to measure on, instead of held-out ones.
        processing_class: the tokenizer or image processor, or the Hub id or folder of one; the checkpoint's own when
            absent.
        peft_config: an adapter that is trained instead of the model, and merged into it in the end.
        model_kwargs: for `from_pretrained`, when `model` is a name.
        dataset_names: of the rows, as the model card calls them.

    Raises:
        ValueError, TypeError, FileNotFoundError: whatever is wrong with rows, model or settings, before training.
        FileExistsError: the output folder holds another run.
        FloatingPointError: the loss, the gradient or the weights are not finite.
        HubError: the push was refused; the model is saved.

    Example:
        >>> settings = PretrainingConfig("runs/medical-bert", max_steps=2, use_cpu=True, report_to="none")
        >>> result = pretrain("runs/teacher", target=medical, args=settings)  # doctest: +ELLIPSIS
        Batches: packed (sdpa attention with a mask of pairs).
        ...
        >>> result.model, result.steps, result.held_out_rows
        ('runs/medical-bert', 2, 1)
    """
    if not isinstance(args, PretrainingConfig):
        raise TypeError(f"args must be a PretrainingConfig, not {type(args).__name__}.")
    check_settings(args)  # type: ignore[arg-type]
    args = copy.copy(args)
    with lock_output_dir(args):  # type: ignore[arg-type]
        with stage("loading the model and encoding the rows"):
            prepared = prepare_pretraining(
                model, args, target, source, validation, processing_class, peft_config, model_kwargs
            )
        return _run(prepared, args, dict(dataset_names or {}))


def _run(prepared: PreparedPretraining, args: PretrainingConfig, dataset_names: Mapping[str, str]) -> Pretraining:
    """Training, measuring, saving and pushing of a run."""
    folder, pushes = str(args.output_dir), args.push_to_hub
    if pushes:
        args.hub_model_id = create_repo(args) or args.hub_model_id  # type: ignore[arg-type]
    trainer = PretrainingTrainer(prepared, replace(args, push_to_hub=False))
    trainer.check_output_folder(args.resume_from_checkpoint)
    print_lines(*prepared.notes)
    kind, rows = prepared.kind, prepared.held_out_rows
    before = _measured(trainer, prepared, "before training")
    if before:
        print_lines(*described_scores(kind, before, rows))
    trainer.train()
    after = _measured(trainer, prepared, f"after training{NOT_SAVED}")
    if not prepared.held_out:
        _check(trainer, {"loss": trainer.loss_of_a_batch()}, "a batch of rows", f"after training{NOT_SAVED}")
    scores: dict[str, Any] = {"perplexity_before": None, "perplexity_after": None}
    scores |= {f"{kind.score}_before": before.get(kind.score), f"{kind.score}_after": after.get(kind.score)}
    scores |= {"scores_before": before, "scores_after": after}
    result = Pretraining(
        model=folder, held_out_rows=rows, steps=trainer.state.global_step, notes=prepared.notes, **scores
    )
    _save(trainer, prepared, args, result, dataset_names)
    _say(result, kind)
    if pushes:
        with stage("pushing to the Hub"):
            print_lines(f"Pushed to {push_folder(args, folder)}.")  # type: ignore[arg-type]
    trainer.accelerator.end_training()
    return result


def _measured(trainer: PretrainingTrainer, prepared: PreparedPretraining, when: str) -> dict[str, float]:
    """Scores on held-out rows, if there are some; raises a `FloatingPointError` for one that is no number."""
    scores = trainer.held_out_scores() if prepared.held_out else {}
    _check(trainer, scores, f"the {prepared.held_out_rows} held-out rows", when)
    return scores


def _check(trainer: PretrainingTrainer, scores: Mapping[str, float], rows: str, when: str) -> None:
    """Check that scores are numbers; raises a `FloatingPointError`, the same on all processes."""
    broken = next((name for name, value in scores.items() if not math.isfinite(value)), None)
    if broken is not None:
        raise FloatingPointError(
            f"{broken} of {rows} is {scores[broken]:g} {when}. Lower the learning rate, or look at the model that it "
            f"started from. {trainer.finite_guard.last_good()}"
        )


def _say(result: Pretraining, kind: PretrainingKind) -> None:
    """Score before and after, printed; a run that got worse says so."""
    if result.scores is not None:
        print_lines(*described_scores(kind, result.scores_before, result.held_out_rows, result.scores_after))
    if result.got_worse:
        print_lines(f"It got worse: {kind.worse}")
    print_lines(f"The model is in {result.model}.")


@stage("saving the model")
def _save(
    trainer: PretrainingTrainer,
    prepared: PreparedPretraining,
    args: PretrainingConfig,
    result: Pretraining,
    dataset_names: Mapping[str, str],
) -> None:
    """Model, card and scores, written to the output folder."""
    folder = Path(result.model)
    trainer.save_model()
    if not trainer.is_world_process_zero():
        return
    kind = prepared.kind
    datasets = {name: dataset_names.get(name, name) for name in prepared.domain_names}
    unused = "num_train_epochs" if args.max_steps > 0 else "max_steps"
    settings = {name: getattr(args, name) for name in kind.shown if name != unused and getattr(args, name)}
    rows = len(prepared.train) if hasattr(prepared.train, "__len__") else 0
    if not is_edited_card(folder):
        card = pretraining_card(
            (args.hub_model_id or folder.name).rpartition("/")[2],
            prepared.base_model,
            datasets,
            rows,
            settings,
            prepared.notes,
            result.scores,
            getattr(prepared.processing_class, "mask_token", None) or "",
            args.hub_model_id if "/" in (args.hub_model_id or "") else None,
            _card_words(kind, result),
            card_rows(result.scores_before, result.scores_after),
        )
        write_whole(folder / CARD, card)
        record_written(folder, [CARD])
    measured = {
        "held_out_rows": result.held_out_rows,
        f"{kind.score}_before": _finite(getattr(result, f"{kind.score}_before")),
        f"{kind.score}_after": _finite(getattr(result, f"{kind.score}_after")),
        **results_of(result.scores_before, result.scores_after),
        "got_worse": result.got_worse,
        "steps": result.steps,
        "notes": list(result.notes),
    }
    write_scores(folder, RESULTS, measured)


def _card_words(kind: PretrainingKind, result: Pretraining) -> CardWords:
    """Words of the model card, with the name of what was measured."""
    named = kind.card.measured.replace(kind.measures, measure(kind, result.scores_before))
    return replace(kind.card, measured=named)


def _finite(value: float | None) -> float | None:
    return value if value is None or math.isfinite(value) else None
