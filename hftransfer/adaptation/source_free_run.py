"""Run of a source-free adaptation: the start model's predictions, the training on target rows, the adapted ones'."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..data.given_predictions import GivenPredictions
from ..data.label_masking import mask_target_labels
from ..data.label_space import LabelSpace
from ..data.soft_label_column import SoftlyLabelled, add_soft_labels
from ..models.adapter_folders import read_adapter_config
from ..models.layer_hook import HEAD
from ..models.model_structure import layer_stack
from ..models.trained_head import trained_task_and_labels
from ..selection.source_numbers import KEY, SourceNumbers
from ..stages import stage
from ..trainers.label_renewal import AverageRule
from ..trainers.prediction_pass import DomainPredictions, predict_rows
from ..trainers.saving.process_agreement import decided_by_first
from ..trainers.setup.run_model import load_run_model
from ..trainers.source_free_trainer import CLASSIFIER, SHOT, SHOT_IM, SourceFreeTrainer
from ..trainers.trainer_access import findings_of
from .candidate_folder import ModelFacts, begin_candidate, read_record, write_model_record
from .candidate_predictions import JUDGE_SEED
from .candidate_run import going_on_by_itself
from .run_inputs import MOST_JUDGED, RunInputs

if TYPE_CHECKING:
    from ..data.domain_loading import LoadedDomains
    from ..trainers.config import AdaptationConfig

METHODS = {"shot": SHOT, "shot_im": SHOT_IM}
STUDENT = {"soft_labels": 1.0, "im": {"weight": 1.0, "schedule": "warm_start"}, "mixup": 1.0}
ADAPTED = "adapted"  # the folder of what training made
WIDEST = 256  # features that neighbours are found by


@dataclass
class SourceFreeRun:
    """Run of a source-free adaptation.

    Args:
        inputs: model, settings and target.
        given: predictions that a student learns from; `None` for a source model.
        epsilon: of their smoothing.
        method: of a source model.
        layer: whose features neighbours are found by, `SourceFreeRule.layer`.

    Attributes:
        start_seen, adapted_seen: predictions on the target rows that judge; of a student's start, those given. The
            start's come with the features of the layer.
        space: what sentences call these features.
        start_test, adapted_test: on the test split, if there is one.
        model: facts of the model.
        findings: what was wrong in training, in plain sentences.
    """

    inputs: RunInputs
    given: GivenPredictions | None
    epsilon: float
    method: str
    layer: str
    space: str = field(init=False, default="")
    start_seen: DomainPredictions = field(init=False)
    adapted_seen: DomainPredictions = field(init=False)
    start_test: DomainPredictions | None = field(init=False, default=None)
    adapted_test: DomainPredictions | None = field(init=False, default=None)
    model: ModelFacts = field(init=False)
    findings: list[str] = field(init=False, default_factory=list)
    candidates: Path = field(init=False)
    key: str = field(init=False)
    trainer: Any = field(init=False, repr=False)
    config_numbers: Any = field(init=False, default=None)

    @classmethod
    def of(
        cls,
        model: Any,
        args: AdaptationConfig,
        data: LoadedDomains,
        given: GivenPredictions | None,
        epsilon: float,
        method: str,
        layer: str,
        processing_class: Any,
        model_kwargs: Mapping[str, Any] | None,
        dataset_names: Mapping[str, str] | None,
    ) -> SourceFreeRun:
        """Run from the arguments of `adapt_source_free`; the target's labels are left behind."""
        target = mask_target_labels(data.target, args.label_column)
        inputs = RunInputs(model, args, {}, {}, target, data.test, processing_class, None, model_kwargs, dataset_names)
        return cls(inputs, given, epsilon, method, layer)

    @property
    def folder(self) -> Path:
        return self.candidates / ADAPTED

    def start(self, candidates: Path, key: str) -> None:
        """Model loaded, rows encoded, and the start model's predictions made.

        Args:
            candidates: folder that the trained model goes to.
            key: hash of what the run is made from.

        Raises:
            ValueError, FileNotFoundError: a model without a trained classifier, or without the layer that neighbours
                are asked in; rows that cannot be read.
        """
        self.candidates, self.key = candidates, key
        with stage("loading the model and encoding the data"):
            self.trainer = self._trainer(None)
        prepared = self.trainer.prepared
        metadata = getattr(prepared.model.config, "hftransfer", None)
        self.config_numbers = metadata.get(KEY) if isinstance(metadata, Mapping) else None
        names = list(prepared.label_space.names)
        self.model = ModelFacts(
            names, [0] * len(names), prepared.head.name, prepared.label_space.task, prepared.encoder.modality
        )
        layer, self.space = _layer_of(prepared.model, self.layer)
        with stage("predicting with the start model"):
            self.start_seen, self.start_test = self._predict(self.trainer, layer)
        if self.given is not None:
            given = np.maximum(self.given.probabilities[self.start_seen.rows], 1e-6)
            self.start_seen = dataclasses.replace(self.start_seen, logits=np.log(given))
            self.start_test = None

    def source_numbers(self) -> SourceNumbers | None:
        """Numbers of the source that the model's config holds; `None` where there are none.

        Raises:
            ValueError: they are damaged.
        """
        if self.config_numbers is None or self.given is not None:
            return None
        try:
            return SourceNumbers.read(self.config_numbers, self.model.class_names)
        except ValueError as error:
            raise ValueError(
                f"{self.inputs.model}, config.json: {error}. Get the file anew, or leave the numbers unread with "
                "source_numbers=False."
            ) from error

    def train(self) -> None:
        """Training from the last whole checkpoint or from the start, and the adapted model's predictions.

        A model that an earlier call has trained to its end is not trained again.
        """
        processes, folder = self.inputs.args.world_size, self.folder
        record = decided_by_first(lambda: read_record(folder, self.key)[0], processes)
        if record:
            self.trainer = self._trainer(folder)
            self.findings = list(record["findings"])
        else:
            started = time.monotonic()
            checkpoint = decided_by_first(lambda: begin_candidate(folder, self.key, self.key), processes)
            with stage("training on the target"), going_on_by_itself():
                self.trainer.train(resume_from_checkpoint=checkpoint or False)
                self.trainer.dataset_names = dict(self.inputs.dataset_names or {}) or None
                self.trainer.save_model(_internal_call=True)
                base = self.inputs.model if isinstance(self.inputs.model, str) else None
                name = Path(str(self.inputs.args.output_dir)).name
                self.trainer.create_model_card(model_name=name, finetuned_from=base)
            self.findings = findings_of(self.trainer)
            done = {"key": self.key, "run": self.key, "seconds": time.monotonic() - started}
            done |= {"findings": self.findings, "model": dataclasses.asdict(self.model)}
            decided_by_first(lambda: write_model_record(folder, done), processes)
        with stage("predicting with the adapted model"):
            self.adapted_seen, self.adapted_test = self._predict(self.trainer)

    # ---- its trainer

    def check_model(self) -> None:
        """Check that there is a model whose head was trained, for one class a row; raises `ValueError`."""
        model, options = self.inputs.model, self.inputs.model_kwargs
        if self.given is not None:
            return
        if read_adapter_config(model, (options or {}).get("revision")) is not None:
            raise ValueError(
                f"model={model!r} is an adapter, and what is handed over is a plain model: merge it first "
                "(`merge_adapter=True` where it was trained), or use SourceFreeTrainer."
            )
        task, _ = trained_task_and_labels(model, options)
        if task != "sequence-classification":
            raise ValueError(
                f"model={model!r} is for {task}; source-free adaptation is for the classification of whole rows."
            )

    def _trainer(self, saved: Path | None) -> SourceFreeTrainer:
        """Trainer of the start model, or of what was saved."""
        inputs, target = self.inputs, self.inputs.target
        config = self._config()
        options: dict[str, Any] = {"processing_class": inputs.processing_class}
        model: Any = inputs.model if saved is None else str(saved)
        if self.given is not None:
            target = add_soft_labels(target, self.given.smoothed(self.epsilon))
            if saved is None:
                model, options["processing_class"] = self._student(config)
            return SourceFreeTrainer(model, config, target, label_rule=AverageRule(), **options)
        if saved is None:
            options["model_kwargs"] = dict(inputs.model_kwargs or {}) or None
        return SourceFreeTrainer(model, config, target, **options)

    def _student(self, config: AdaptationConfig) -> tuple[Any, Any]:
        """Student with a head for the given classes, the same on every process."""
        assert self.given is not None
        torch.manual_seed(config.seed)
        inputs = self.inputs
        space = LabelSpace("sequence-classification", self.given.class_names)
        return load_run_model(
            inputs.model, config, space, inputs.modality, inputs.processing_class, inputs.model_kwargs
        )

    def _config(self) -> AdaptationConfig:
        args = self.inputs.args
        settings: dict[str, Any] = {
            "output_dir": str(self.folder),
            "objectives": STUDENT if self.given is not None else METHODS[self.method],
            "overwrite_output_dir": True,
            "resume_from_checkpoint": None,
            "push_to_hub": False,
            "hub_model_id": args.hub_model_id or Path(str(args.output_dir)).absolute().name,
            "save_total_limit": 1,
            "report_to": args.report_to or "none",
        }
        if self.given is None:  # whatever else of the model trains, its classifier is what the source says
            others = args.freeze if isinstance(args.freeze, list) else [args.freeze] * (args.freeze is not None)
            settings["freeze"] = [*others, CLASSIFIER]
        if args.save_strategy == "steps" and args.save_steps == 500:  # transformers' default: an epoch may be shorter
            settings["save_strategy"] = "epoch"
        return dataclasses.replace(args, **settings)

    def _predict(
        self, trainer: SourceFreeTrainer, layer: str | None = None
    ) -> tuple[DomainPredictions, DomainPredictions | None]:
        """Predictions on the target rows that judge, with a layer's features, and on the test split, which is only
        ever shown."""
        target: Any = trainer.prepared.train.domain_rows[-1]  # type: ignore[union-attr]
        rows = target.rows if isinstance(target, SoftlyLabelled) else target
        width = None if layer is None else WIDEST
        seen = predict_rows(trainer, rows, MOST_JUDGED, JUDGE_SEED, width, layer or HEAD)
        test = self.inputs.test.get("target")
        if test is None:
            return seen, None
        encoded = trainer.prepared.encode_evaluation(test, "test")
        return seen, predict_rows(trainer, encoded, features=None)


def _layer_of(model: Any, wanted: str) -> tuple[str, str]:
    """Layer whose features neighbours are found by, and what sentences call them.

    Of a model without a stack of layers it is the head's input, which sides with the start: it is refused more easily.
    """
    if wanted == HEAD:
        return HEAD, "what the start model's final layer sees"
    try:
        name, stack = layer_stack(model)
    except ValueError:
        return HEAD, "what the start model's final layer sees, for want of a stack of layers"
    index = int(wanted.split(":")[1])
    if not -len(stack) <= index < len(stack):
        raise ValueError(f"rule: layer={wanted!r} is not there: the model's stack {name!r} has {len(stack)} layers.")
    return wanted, f"the start model's layer {index % len(stack) + 1} of {len(stack)}"
