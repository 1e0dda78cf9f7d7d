"""Run of one candidate: trained in a folder of its own, its predictions stored, never done twice."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from accelerate.state import PartialState

from ..data.soft_label_column import add_soft_labels
from ..stages import stage
from ..trainers.saving.process_agreement import decided_by_first
from ..trainers.saving.resume_advice import going_on_by_itself
from ..trainers.saving.written_files import read_json
from ..trainers.trainer import AdaptationTrainer
from ..trainers.trainer_access import findings_of, joint_model_of
from .candidate_folder import (
    DONE,
    ModelFacts,
    begin_candidate,
    read_predictions,
    read_record,
    remove_candidate,
    remove_checkpoints,
    write_record,
)
from .candidate_list import CandidateRecipe
from .candidate_predictions import CandidatePredictor
from .pretrained_start import START, PretrainedStarts
from .run_inputs import RunInputs
from .settings_hash import settings_hash
from .stored_predictions import StoredPredictions

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SoftLabels:
    """Soft labels of target rows for a student, with the class weights of its source rows.

    Args:
        rows: (m,) numbers in the target data set.
        probabilities: (m, K); in tagging a list of (words, K).
        class_weights: class name -> what a source row of it counts; empty where all count 1.
    """

    rows: np.ndarray
    probabilities: Any
    class_weights: Mapping[str, float]

    @property
    def hash(self) -> str:
        arrays = np.concatenate([np.ravel(row) for row in self.probabilities]).astype(np.float32)
        return settings_hash(rows=self.rows, probabilities=arrays, weights=dict(self.class_weights))


@dataclass(frozen=True)
class CandidateOutcome:
    """What came of a candidate.

    Args:
        recipe: what it was made from.
        folder: of its plain model; `None` of a mean, of which there is none, and of one that failed.
        predictions: `None` of one that failed.
        seconds: what it took, at the time it was made.
        failure: why there is no model, in one sentence.
        set_aside: why it does not compete, in one sentence: a round of self-training that was not kept, or not made.
        round_reason: why a round of self-training was kept; empty of other candidates.
        findings: what was wrong in training, in plain sentences.
        class_weights: class name -> what its source rows counted, where a label shift was believed.
        model: facts of the model that was saved; `None` of one that failed.
        proxy_a_distance: of the domains on the pretrained backbone's features; of the first source-only run.
    """

    recipe: CandidateRecipe
    folder: Path | None = None
    predictions: StoredPredictions | None = None
    seconds: float = 0.0
    failure: str = ""
    set_aside: str = ""
    round_reason: str = ""
    findings: tuple[str, ...] = ()
    class_weights: Mapping[str, float] | None = None
    model: ModelFacts | None = None
    proxy_a_distance: float | None = None

    @property
    def name(self) -> str:
        return self.recipe.name


class CandidateRunner:
    """Runs of candidates that share domains, backbone and settings.

    Args:
        inputs: what they share.
        folder: that each gets a folder in.
        target_rows: how many target rows are predicted; the judged ones are among them.
    """

    def __init__(self, inputs: RunInputs, folder: Path, target_rows: int):
        self.inputs, self.folder = inputs, folder
        self.predictor = CandidatePredictor(inputs, target_rows)

    @cached_property
    def key(self) -> str:
        """Hash of what all candidates are made from."""
        return self.inputs.key()

    @cached_property
    def starts(self) -> PretrainedStarts:
        """Pre-trained backbones, for candidates that ask for one."""
        return PretrainedStarts(self.inputs, self.folder, self.key)

    def stored(self, recipe: CandidateRecipe, soft_labels: SoftLabels | None = None) -> CandidateOutcome | None:
        """Outcome of an earlier run with the same settings and data; `None` if a process finds none."""
        outcome = self._stored(recipe, soft_labels)
        is_stored = [outcome is not None]
        if self.inputs.args.world_size > 1:
            from accelerate.utils import gather_object

            is_stored = gather_object(is_stored)
        if not all(is_stored):
            return None
        if self.inputs.args.process_index == 0:  # a run that was killed may have left them
            remove_checkpoints(self.folder / recipe.name)
        return outcome

    def _stored(self, recipe: CandidateRecipe, soft_labels: SoftLabels | None) -> CandidateOutcome | None:
        folder = self.folder / recipe.name
        record, fault = read_record(folder, self._key(recipe, soft_labels), self.inputs.args.process_index == 0)
        if not record:
            if fault:
                logger.warning("The candidate %s is made again: %s", recipe.name, fault)
            return None
        try:
            predictions = read_predictions(folder, record)
        except ValueError as error:
            logger.warning("The predictions of the candidate %s are made again: %s", recipe.name, error)
            return None
        if record.get("tests", self.inputs.tests_key) != self.inputs.tests_key:
            return None  # what is only shown is of other test rows
        rows, judged = self.predictor.rows_to_predict, self.predictor.judged_rows
        if record.get("target_rows", len(np.unique(predictions.target_rows))) < len(rows):
            return None  # a smaller effort predicted fewer
        predictions = predictions.of_rows(rows)
        if set(predictions.target_rows[predictions.judged]) != set(judged) & set(predictions.target_rows):
            return None
        return self._outcome(recipe, predictions, record)

    def run(self, recipe: CandidateRecipe, soft_labels: SoftLabels | None = None) -> CandidateOutcome:
        """Candidate, trained from its last whole checkpoint or from the start, predicted and saved.

        Args:
            recipe: one that trains.
            soft_labels: of a student.

        Raises:
            Exception: whatever stops the training run.
        """
        started, folder = time.monotonic(), self.folder / recipe.name
        processes = self.inputs.args.world_size
        key = self._key(recipe, soft_labels)
        record = decided_by_first(lambda: read_record(folder, key)[0], processes)
        trained = bool(record)  # and only predictions are missing
        record = record or {"seconds": 0.0, "findings": []}
        trainer = self._trainer(recipe, soft_labels, folder if trained else None)
        self.predictor.check_rows(trainer)
        if not trained:
            checkpoint = decided_by_first(lambda: begin_candidate(folder, key, self.key), processes)
            checkpoint = self._usable(trainer, checkpoint)
            if recipe.base and recipe.seed == 0:  # before it trains, its features are the pretrained ones
                record["proxy_a_distance"] = self.predictor.domain_distance(trainer)
            with stage(f"training the candidate {recipe.name}"), going_on_by_itself():
                trainer.train(resume_from_checkpoint=checkpoint or False)
                trainer.dataset_names = dict(self.inputs.dataset_names or {}) or None
                trainer.save_model(_internal_call=True)
                backbone = self.inputs.model if isinstance(self.inputs.model, str) else None
                trainer.create_model_card(
                    model_name=Path(str(self.inputs.args.output_dir)).name, finetuned_from=backbone
                )
            record["model"] = dataclasses.asdict(model_facts(trainer))
            pretraining = [] if recipe.pretrain is None else self.starts.findings(recipe.pretrain)
            record["findings"] = [*pretraining, *findings_of(trainer)]
            if recipe.pretrain is not None:
                record[START] = self.starts.folder_of(recipe.pretrain).name
            record["class_weights"] = _class_weights(trainer, soft_labels)
        with stage(f"predicting with the candidate {recipe.name}"):
            predictions = self.predictor.predict(trainer)
        record |= {"key": key, "seconds": record["seconds"] + time.monotonic() - started}
        self._keep(folder, predictions, record)
        return self._outcome(recipe, predictions, record)

    def run_untrained(
        self, recipe: CandidateRecipe, model: ModelFacts, save: Callable[[Path], None]
    ) -> CandidateOutcome:
        """Candidate that takes no training run: saved, then predicted from its folder.

        Args:
            recipe: an average of weights, one with the target's batch norm statistics, or a linear probe.
            model: facts of it.
            save: writes its model to a folder that does not exist. All processes call it where rows are read.
        """
        started, folder = time.monotonic(), self.folder / recipe.name
        state, processes = PartialState(), self.inputs.args.world_size
        decided_by_first(lambda: remove_candidate(folder), processes)
        if recipe.adabn_of or recipe.probe:
            save(folder)
        else:
            decided_by_first(lambda: save(folder), processes)
        state.wait_for_everyone()
        predictions = self.predictor.predict(self.trainer_of(recipe, folder))
        record = {
            "key": self._key(recipe, None),
            "seconds": time.monotonic() - started,
            "findings": [],
            "model": dataclasses.asdict(model),
        }
        self._keep(folder, predictions, record)
        return self._outcome(recipe, predictions, record)

    def trainer_of(self, recipe: CandidateRecipe, folder: Path | None) -> Any:
        """Trainer of a saved model; of the backbone itself, with a new head, when `None`."""
        return self._trainer(recipe, None, folder)

    # ---- a run

    def _trainer(self, recipe: CandidateRecipe, soft_labels: SoftLabels | None, saved: Path | None) -> Any:
        inputs, target = self.inputs, self.inputs.target
        if soft_labels is not None:
            target = add_soft_labels(target.select(soft_labels.rows), soft_labels.probabilities)
        if saved is None and recipe.start:
            saved = self.folder / recipe.start
        start = inputs.model if recipe.pretrain is None or saved is not None else self.starts.make(recipe.pretrain)
        return AdaptationTrainer(
            str(saved) if saved is not None else start,
            self.config(recipe, soft_labels),
            dict(inputs.train),
            target if recipe.reads_target else None,
            {source_set(name): rows for name, rows in inputs.validation.items()},
            processing_class=inputs.processing_class,
            peft_config=inputs.peft_config if _gets_adapter(recipe, saved) else None,
            model_kwargs=dict(inputs.model_kwargs or {}) or None,
        )

    def config(self, recipe: CandidateRecipe, soft_labels: SoftLabels | None = None) -> Any:
        """Settings of a candidate's training run."""
        args = self.inputs.args
        settings: dict[str, Any] = dict(recipe.training)
        if recipe.learns_soft_labels:
            # Half of a batch's rows are the target's, so that it has as many in all as a source-only run's.
            half = max(1, args.per_device_train_batch_size // 2)
            settings = {"per_device_train_batch_size": half, "objectives": {"soft_labels": 1.0}} | settings
            if soft_labels is not None and soft_labels.class_weights:
                settings["class_weights"] = dict(soft_labels.class_weights)
        if recipe.start:
            settings = {
                "learning_rate": args.learning_rate / 2,
                "num_train_epochs": args.num_train_epochs / 2,
                "max_steps": max(1, args.max_steps // 2) if args.max_steps > 0 else args.max_steps,
            } | settings
        if not recipe.reads_target:
            settings |= {"objectives": None, "label_shift": "none", "adabn": False, "reveal_target_labels": 0}
        settings |= {
            "output_dir": str(self.folder / recipe.name),
            "seed": args.seed + recipe.seed,
            "overwrite_output_dir": True,
            "resume_from_checkpoint": None,
            "push_to_hub": False,
            "hub_model_id": args.hub_model_id or Path(str(args.output_dir)).absolute().name,  # as the card has it
            "save_total_limit": 1,
            "stop_when_refused": not recipe.base,
            "report_to": args.report_to or "none",
        }
        if args.save_strategy == "steps" and args.save_steps == 500:  # transformers' default: an epoch may be shorter
            settings["save_strategy"] = "epoch"
        return dataclasses.replace(args, **settings)

    # ---- its folder

    def _keep(self, folder: Path, predictions: StoredPredictions, record: Mapping[str, Any]) -> None:
        """Predictions and record of a candidate whose model is saved."""
        PartialState().wait_for_everyone()
        done = dict(record) | {
            "run": self.key,
            "target_rows": len(self.predictor.rows_to_predict),
            "tests": self.inputs.tests_key,
        }
        decided_by_first(lambda: write_record(folder, predictions, done), self.inputs.args.world_size)

    def _usable(self, trainer: Any, checkpoint: str | None) -> str | None:
        """Checkpoint, if the trainer can go on from it; one of an older version is left."""
        if checkpoint is None:
            return None
        try:
            trainer.check_output_folder(checkpoint)
        except ValueError as error:
            logger.warning("%s It is trained from the start.", error)
            return None
        return checkpoint

    def _key(self, recipe: CandidateRecipe, soft_labels: SoftLabels | None) -> str:
        settings: dict[str, Any] = {"seed": recipe.seed, "training": recipe.training}
        settings["student"] = recipe.learns_soft_labels
        if recipe.probe:
            settings["probe"] = recipe.answers or True
        soft = soft_labels.hash if soft_labels is not None else ""
        parts: dict[str, Any] = {}
        if recipe.average_of or recipe.adabn_of:  # what a student learned from is in its soft labels
            parts["parts"] = [read_json(self.folder / name / DONE).get("key") for name in recipe.parts]
        if recipe.start:  # its key says what that candidate was made from
            settings["start"] = read_json(self.folder / recipe.start / DONE).get("key")
        if recipe.pretrain is not None:
            settings["start"] = self.starts.key_of(recipe.pretrain)
        return settings_hash(
            run=self.key, recipe=settings, soft_labels=soft, reads_target=recipe.reads_target, **parts
        )[:16]

    def _outcome(
        self, recipe: CandidateRecipe, predictions: StoredPredictions, record: Mapping[str, Any]
    ) -> CandidateOutcome:
        return CandidateOutcome(
            recipe,
            self.folder / recipe.name,
            predictions,
            float(record.get("seconds", 0.0)),
            findings=tuple(record.get("findings", ())),
            class_weights=record.get("class_weights"),
            model=ModelFacts(**record["model"]),
            proxy_a_distance=record.get("proxy_a_distance"),
        )


def _gets_adapter(recipe: CandidateRecipe, saved: Path | None) -> bool:
    """Whether an adapter of the run is put around the model: where it is trained."""
    return recipe.trains and (saved is None or saved.name == recipe.start)


def model_facts(trainer: Any) -> ModelFacts:
    """What is said of a candidate's model wherever it is handed on."""
    prepared = trainer.prepared
    names, train = list(prepared.label_space.names), prepared.train
    labels = [label for rows in train.domain_rows[: len(train.source_sizes)] for label in rows["labels"]]
    flat = np.concatenate([np.ravel(label) for label in labels]) if labels else np.zeros(0, int)
    counts = np.bincount(flat[flat >= 0].astype(int), minlength=len(names))
    head = prepared.head.name.removeprefix("base_model.model.").removesuffix(".modules_to_save.default")
    return ModelFacts(
        names, [int(count) for count in counts], head, prepared.label_space.task, prepared.encoder.modality
    )


def _class_weights(trainer: Any, soft_labels: SoftLabels | None) -> dict[str, float] | None:
    """Class name -> what its source rows counted: a student's, or those of `label_shift` where they are trusted."""
    if soft_labels is not None:
        return dict(soft_labels.class_weights)
    label_shift, verdict = joint_model_of(trainer).task_loss.label_shift, trainer.label_shift_verdict
    if label_shift is None or verdict is None or not verdict.trusted:
        return None
    return dict(zip(trainer.prepared.label_space.names, label_shift.weights.tolist(), strict=True))


def source_set(name: str) -> str:
    """Name of a source's evaluation set, by which its metrics are known as the source's."""
    return name if name.startswith("source") else f"source_{name}"
