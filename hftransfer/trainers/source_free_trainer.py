"""`SourceFreeTrainer`: training on unlabelled target rows alone, from a model that was fine-tuned on the source."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.domain_arguments import as_domain, by_name, is_source_name
from ..data.label_space import column_names
from ..data.soft_label_column import SOFT_LABELS, add_soft_labels
from ..models.adapter_folders import read_adapter_config
from ..models.adapters import is_peft
from ..models.parameter_sets import is_default_choice
from ..models.trained_head import trained_task_and_labels
from .config import AdaptationConfig
from .label_renewal import AverageRule, CentroidRule, LabelRule, RenewedLabels, RenewLabels
from .setup.run_domains import input_columns
from .trainer import AdaptationTrainer
from .trainer_access import joint_model_of

if TYPE_CHECKING:
    from .argument_types import Domains, Model, Rows

SHOT_IM = {"im": {"weight": 1.0, "schedule": "constant"}}
SHOT = {**SHOT_IM, "soft_labels": 0.3}
CLASSIFIER = "classifier"  # of `freeze`


class SourceFreeTrainer(AdaptationTrainer):
    r"""Source-free adaptation (SHOT): a source model's backbone trains on target rows, its classifier stays frozen.

    \[\frac1m\sum_i H(p_i) - H\Big(\frac1m\sum_i p_i\Big) - \beta\,\frac1m\sum_i \log p_{i, y_i}\]

    with \(y_i\) the label of the nearest class centroid (`centroid_labels`), made anew at the start of each epoch, and
    β = 0.3. The frozen classifier is what the source still says: features must come to lie where it expects them.
    There is no argument for source rows, and none are read.

    Args:
        model: Hub id or folder of a fine-tuned model, or a loaded one. Its labels are the run's.
        args: an `AdaptationConfig`. Without `objectives` they are those of the formula; `{"im": 1.0}` alone is
            SHOT-IM. Without `freeze` and `trainable` the classifier is frozen; an adapter decides for itself, and
            all of a student with an `AverageRule` trains.
        target_dataset: unlabelled rows. Labels, if any, are never read. A column `soft_labels` is what the first epoch
            of an `AverageRule` learns from.
        eval_dataset: target sets by name; metrics that read their labels are called `oracle_…`.
        label_rule: makes the soft labels of each epoch; `CentroidRule()` when absent. `AverageRule` starts from the
            column `soft_labels`.
        **kwargs: as in `AdaptationTrainer`.

    Raises:
        ValueError: a model without a trained classifier, a source's set to evaluate on, or whatever else
            `AdaptationTrainer` refuses.

    Paper: Liang, Hu and Feng, Do We Really Need to Access the Source Data? Source Hypothesis Transfer for Unsupervised
    Domain Adaptation, ICML 2020.

    Example:
        >>> trainer = SourceFreeTrainer("runs/teacher", AdaptationConfig("out", max_steps=2), medical)
        >>> trainer.train()
        >>> trainer.save_model()
    """

    def __init__(
        self,
        model: Model,
        args: AdaptationConfig,
        target_dataset: Rows,
        eval_dataset: Domains | None = None,
        label_rule: LabelRule | None = None,
        **kwargs: Any,
    ):
        if not isinstance(args, AdaptationConfig):
            raise TypeError(f"args must be an AdaptationConfig, not {type(args).__name__}.")
        if "train_dataset" in kwargs:
            raise TypeError(
                "SourceFreeTrainer has no argument train_dataset: it reads no source rows. Leave it out, or use "
                "AdaptationTrainer."
            )
        if target_dataset is None:
            raise ValueError("target_dataset is missing: source-free adaptation learns from unlabelled target rows.")
        _refuse_source_sets(eval_dataset)
        changes: dict[str, Any] = {} if args.objective_specs() else {"objectives": SHOT}
        is_student = isinstance(label_rule, AverageRule)  # whose head has to learn what it is taught
        if is_default_choice(args.trainable, args.freeze) and not (is_student or _has_adapter(model, kwargs)):
            changes["freeze"] = CLASSIFIER
        args = dataclasses.replace(args, **changes)
        renews = any(spec.weight and "target_soft_labels" in spec.reads().values() for spec in args.objective_specs())
        if label_rule is not None and not renews:
            raise ValueError("label_rule has no effect: `objectives` names none that reads soft labels. Leave it out.")
        given_target = target_dataset
        if renews:
            _check_renewal(args)
            target_dataset = _with_soft_labels(target_dataset, model, args, label_rule, kwargs.get("model_kwargs"))
        super().__init__(model, args, None, target_dataset, eval_dataset, **kwargs)
        own = {k: v for k, v in self.constructor_arguments.items() if k != "train_dataset"}
        self.constructor_arguments = own | {"target_dataset": given_target, "label_rule": label_rule}
        if renews:
            target: Any = self.prepared.train.domain_rows[-1]  # type: ignore[union-attr]
            joint_model_of(self).renewed_labels = RenewedLabels(np.stack(target.soft_labels))
            self.add_callback(RenewLabels(self, target, label_rule or CentroidRule()))


def _has_adapter(model: Any, kwargs: dict[str, Any]) -> bool:
    if kwargs.get("peft_config") is not None:
        return True
    if isinstance(model, str):
        return read_adapter_config(model, (kwargs.get("model_kwargs") or {}).get("revision")) is not None
    return is_peft(model)


def _refuse_source_sets(eval_dataset: Any) -> None:
    """Check for a source's rows among the sets to evaluate on; raises `ValueError`."""
    if eval_dataset is None:
        return
    for name in by_name(eval_dataset, what="eval_dataset"):
        if is_source_name(name, ()):
            raise ValueError(
                "eval_dataset holds a source's rows, which a source-free run does not read: pass target sets by name, "
                'such as {"target": rows}.'
            )


def _check_renewal(args: AdaptationConfig) -> None:
    """Check of settings against labels that are made anew; raises `ValueError`."""
    if args.dataloader_persistent_workers:
        raise ValueError(
            "dataloader_persistent_workers would keep the soft labels of the first epoch, and they are made anew for "
            "each. Leave it out."
        )
    if args.fsdp:
        raise ValueError(
            "fsdp shards the soft labels of the whole target away from the rows that they belong to. Run on one "
            "process or under DDP, or with objectives={'im': 1.0}."
        )


def _with_soft_labels(target: Any, model: Any, args: AdaptationConfig, rule: Any, options: Any) -> Any:
    """Target with a column of soft labels: even ones where there are none, which the first epoch does not read."""
    task, names = trained_task_and_labels(model, options)
    if task != "sequence-classification":
        raise ValueError(f"soft labels are made anew for rows of one class each; the model is for {task}.")
    target = as_domain(target, "target_dataset", args.label_column, input_columns(args).names | {SOFT_LABELS})
    if not hasattr(target, "__len__"):
        raise ValueError("target_dataset is a stream, whose rows have no number. Load it map-style, not streaming.")
    if isinstance(rule, AverageRule):
        return target  # `read_soft_labels` says what is missing
    if SOFT_LABELS in column_names(target):
        raise ValueError(
            f"target_dataset has a column {SOFT_LABELS!r}, which label_rule would replace before it is read. Drop it, "
            "or pass label_rule=AverageRule() to start from it."
        )
    return add_soft_labels(target, np.full((len(target), len(names)), 1 / len(names)))
