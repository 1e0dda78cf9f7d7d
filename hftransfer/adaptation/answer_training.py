"""Training on answers: the chosen model trained further on the answered target rows beside as many source rows."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..data.label_masking import REVEALED, mask_target_labels
from ..data.label_values import read_labels
from ..models.pretrained import head_class, load_quietly
from ..stages import stage
from ..trainers.callbacks import AverageWithStart
from ..trainers.prediction_pass import predict_rows
from ..trainers.saving.process_agreement import decided_by_first
from ..trainers.saving.resume_advice import going_on_by_itself
from ..trainers.saving.written_files import read_json, write_whole
from ..trainers.trainer import AdaptationTrainer
from .answer_reading import Answers
from .candidate_folder import DONE, STARTED
from .candidate_list import CandidateRecipe
from .candidate_run import CandidateOutcome, CandidateRunner, ModelFacts, SoftLabels, source_set
from .corrections import training_weights
from .hand_over import correct_head
from .judging import Entry, Verdicts
from .settings_hash import settings_hash

TRAINED_ON = "trained-on-answers"
EPOCHS = 6  # passes over the answers
RATE = 0.25  # of the run's learning rate
HALF, WHOLE = 0.5, 1.0  # of the weights after training, in their mean with those before it
FEWEST = 10  # answers, below which nothing is trained on them
FOLDS = 5
FOLD_LOGITS = "held_out.npz"
SEED = 7  # of the source rows and of the folds


class AnswerRunner(CandidateRunner):
    """Runs of one candidate: a chosen model, trained further on answers.

    A batch holds as many answered target rows as source rows, drawn anew for each pass. The learning rate is a quarter
    of the run's. What comes of it is averaged with the model that it started from (WiSE-FT), weight by weight, or
    kept whole. The answers reach training by the door for few target labels, a column `revealed_label`.

    Args:
        runner: of the other candidates.
        chosen: the model to start from. Class frequencies that it is corrected for are in its final layer.
        answers: that it is trained on.
        verdicts: say which label shift is believed.
        name: of the candidate and its folder.
    """

    share = HALF  # of the trained weights in what is kept

    def __init__(
        self, runner: CandidateRunner, chosen: Entry, answers: Answers, verdicts: Verdicts, name: str = TRAINED_ON
    ):
        self.inputs, self.folder, self.key, self.predictor = runner.inputs, runner.folder, runner.key, runner.predictor
        self.chosen, self.answers, self.verdicts, self.name = chosen, answers, verdicts, name

    @property
    def recipe(self) -> CandidateRecipe:
        """What it is, with its settings."""
        args = self.inputs.args
        half = max(1, args.per_device_train_batch_size // 2)
        rows_of_step = half * args.gradient_accumulation_steps * args.world_size
        training: dict[str, Any] = {
            "per_device_train_batch_size": half,
            "target_ratio": 1.0,
            "learning_rate": args.learning_rate * RATE,
            "max_steps": math.ceil(EPOCHS * len(self.answers) / rows_of_step),
            "warmup_steps": 0,
            "objectives": None,
        }
        if weights := self.class_weights:
            training["class_weights"] = weights
        about = f"{self.chosen.name}, trained further on {len(self.answers)} labelled target rows beside source rows"
        return CandidateRecipe(self.name, about, training=training)

    @property
    def class_weights(self) -> dict[str, float]:
        """What a source row of each class counts, where a label shift is believed."""
        model = self._facts
        weights = training_weights(self.verdicts.shift, np.array(model.class_counts))
        return {} if weights is None else dict(zip(model.class_names, map(float, weights), strict=True))

    def make(self) -> CandidateOutcome:
        """Outcome of an earlier run with the same answers, or of a new one.

        Raises:
            Exception: whatever stops the training run.
        """
        outcome = self.stored(self.recipe) or self.run(self.recipe)
        return dataclasses.replace(outcome, class_weights=self.class_weights or None, model=self._facts)

    # ---- what its trainer gets

    def _trainer(self, recipe: CandidateRecipe, soft_labels: SoftLabels | None, saved: Path | None) -> Any:
        trainer = self._plain_trainer(recipe, saved)
        trainer.add_callback(AverageWithStart(trainer, self.share))
        return trainer

    def _plain_trainer(self, recipe: CandidateRecipe, saved: Path | None = None) -> Any:
        inputs = self.inputs
        return AdaptationTrainer(
            self._loaded(saved),
            self.config(recipe),
            self._source_rows(),
            self.labelled_target(),
            {source_set(name): rows for name, rows in inputs.validation.items()},
            processing_class=inputs.processing_class or str(saved or self._start),
            peft_config=inputs.peft_config if saved is None else None,
        )

    @property
    def _facts(self) -> ModelFacts:
        facts = self.chosen.outcome.model
        assert facts is not None
        return facts

    @property
    def _start(self) -> Path:
        folder = self.chosen.outcome.folder
        assert folder is not None
        return folder

    def _loaded(self, saved: Path | None) -> Any:
        """Model in memory, which names the classes, whatever classes the few rows hold."""
        facts = self._facts
        cls = head_class(facts.task, facts.modality)
        model = load_quietly(cls, str(saved or self._start), local_files_only=True)
        if saved is None and self.chosen.correction.weights is not None:
            correct_head(model, facts.head, self.chosen.correction)
        return model

    def labelled_target(self) -> Any:
        """Answered target rows, whose answers alone stand beside them."""
        facts = self._facts
        rows = mask_target_labels(self.inputs.target.select(self.answers.rows), self.inputs.args.label_column)
        names = [[facts.class_names[k] for k in label] for label in self.answers.labels]
        tagging = facts.task == "token-classification"
        values: list[Any] = names if tagging else [name for (name,) in names]
        return rows.remove_columns([REVEALED] * (REVEALED in rows.column_names)).add_column(REVEALED, values)

    def _source_rows(self) -> dict[str, Any]:
        """As many source rows as steps read, of each source by its size, and the first row of each of its classes."""
        share = min(1.0, EPOCHS * len(self.answers) / self.inputs.num_source)
        draw, selected = np.random.default_rng(SEED), {}
        for name, rows in self.inputs.train.items():
            drawn = draw.permutation(len(rows))[: math.ceil(share * len(rows))]
            labels = read_labels(rows, self.inputs.args.label_column, name)
            are_lists = self._facts.task == "token-classification" and labels.widths is None  # written as text
            first = [] if are_lists else list(labels.rows)
            selected[name] = rows.select(np.union1d(drawn, np.array(first, dtype=int)))
        return selected

    def _key(self, recipe: CandidateRecipe, soft_labels: SoftLabels | None) -> str:
        correction = self.chosen.correction
        return settings_hash(
            run=self.key,
            recipe={"seed": recipe.seed, "training": recipe.training},
            start=read_json(self._start / DONE).get("key"),
            temperature=None if correction.weights is None else correction.temperature,
            weights=correction.weights,
            answers=self.answers.hash,
            trained_share=self.share,
        )[:16]

    # ---- its predictions of rows that it was not trained on

    def cross_fitted_logits(self) -> dict[float, list[np.ndarray]]:
        """Logits of each answered row from a model that was trained on the other answers.

        The answers are cut into five parts, and for each part a model is trained on the others. In tagging, logits
        are of the words that the tokenizer keeps.

        Returns:
            By the share of the trained weights, `HALF` and `WHOLE`: (1, K) arrays, in tagging (words, K), in the order
            of the answers.

        Raises:
            Exception: whatever stops a training run.
        """
        count = len(self.answers)
        logits: dict[float, list[np.ndarray]] = {share: [np.zeros((0, 0))] * count for share in (HALF, WHOLE)}
        for number, held_out in enumerate(fold_parts(count)):
            others = np.setdiff1d(np.arange(count), held_out)
            part = AnswerRunner(
                self, self.chosen, self.answers.part(others), self.verdicts, f"{self.name}-fold-{number + 1}"
            )
            for share, of_part in part.logits_of(self.answers.part(held_out)).items():
                for position, row_logits in zip(held_out, of_part, strict=True):
                    logits[share][int(position)] = row_logits
        return logits

    def logits_of(self, others: Answers) -> dict[float, list[np.ndarray]]:
        """Logits of other answered rows, of a model that is trained for that and not kept.

        Args:
            others: whose rows are predicted; in the order in which they are given.
        """
        folder, processes = self.folder / self.name, self.inputs.args.world_size
        key = settings_hash(candidate=self._key(self.recipe, None), rows=others.rows)
        stored = decided_by_first(lambda: _read_logits(folder, key), processes)
        if stored is None:
            decided_by_first(lambda: _emptied(folder, {"run": self.key}), processes)
            trainer = self._plain_trainer(self.recipe)
            averaging = AverageWithStart(trainer, HALF)
            with stage(f"training {self.name}"), going_on_by_itself():
                trainer.train()
            rows = mask_target_labels(self.inputs.target.select(others.rows), self.inputs.args.label_column)
            whole = predict_rows(trainer, rows, features=None)
            averaging.average()
            half = predict_rows(trainer, rows, features=None)
            stored = {"whole": whole.logits, "half": half.logits, "rows": half.rows}
            decided_by_first(lambda: _keep_logits(folder, {"run": self.key, "key": key}, stored), processes)
        numbers = range(len(others))
        return {
            share: [stored[name][stored["rows"] == number] for number in numbers]
            for share, name in ((HALF, "half"), (WHOLE, "whole"))
        }

    def config(self, recipe: CandidateRecipe, soft_labels: SoftLabels | None = None) -> Any:
        """Settings of its training run; a fold is short, and is trained anew rather than from a checkpoint."""
        settings = super().config(recipe)
        if self.name != TRAINED_ON:
            settings = dataclasses.replace(settings, save_strategy="no", load_best_model_at_end=False)
        return settings


def fold_parts(count: int) -> list[np.ndarray]:
    """Positions of answers in the parts that are left out in turn."""
    return np.array_split(np.random.default_rng(SEED).permutation(count), min(FOLDS, count))


def _read_logits(folder: Path, key: str) -> Mapping[str, np.ndarray] | None:
    """Logits that were kept under a key; `None` where there are none."""
    if read_json(folder / STARTED).get("key") != key:
        return None
    try:
        with np.load(folder / FOLD_LOGITS, allow_pickle=False) as file:
            return {name: file[name] for name in ("whole", "half", "rows")}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None


def _emptied(folder: Path, record: Mapping[str, str]) -> None:
    """A fold's folder with nothing in it but the record by which it is known as ours."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write_whole(folder / STARTED, json.dumps(dict(record)))


def _keep_logits(folder: Path, record: Mapping[str, str], arrays: Mapping[str, np.ndarray]) -> None:
    """Logits in place of all else that a fold's folder holds; the record that names their key comes last."""
    _emptied(folder, {"run": record["run"]})
    with (folder / FOLD_LOGITS).open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    write_whole(folder / STARTED, json.dumps(dict(record)))
