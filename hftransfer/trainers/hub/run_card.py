"""Model card of a run: facts read off the trainer, and README.md."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...models.adapters import is_peft, plain_model
from ...reporting.model_card_text import CardFacts, render_card
from ...reporting.tables import policy_table
from ..saving.adapter_merge import merges_adapter
from ..saving.written_files import CARD, is_edited_card, record_written, write_whole
from ..setup.plan import policy_rows
from ..trainer_access import config_of, findings_of, joint_model_of, label_shift_of

if TYPE_CHECKING:
    from transformers import Trainer

    from ..config import AdaptationConfig
    from ..setup.preparation import Prepared

logger = logging.getLogger(__name__)


class ModelCard:
    """The model card of a trainer.

    Args:
        trainer: an `AdaptationTrainer`.
        prepared: from `prepare`.

    Attributes:
        results: `{row of the table: {column: value}}`; the last evaluation when `None`.
        dataset_names: `{"source": …, "target": …}`, as the card calls them.
    """

    def __init__(self, trainer: Trainer, prepared: Prepared):
        self.trainer, self.prepared = trainer, prepared
        self.results: dict[str, dict[str, float]] | None = None
        self.dataset_names: dict[str, str] | None = None

    def write(
        self,
        tags: str | list[str] | None,
        model_name: str | None,
        finetuned_from: str | None,
        dataset: str | list[str] | None,
        metadata: Mapping[str, Any],
    ) -> None:
        """README.md, written unless there is one that somebody has edited.

        Args:
            tags: besides ours and the model's.
            model_name: the title; the repository's name when `None`.
            finetuned_from: the base model's Hub id, where the model itself does not know it.
            dataset: Hub ids of data sets, besides those that `dataset_names` holds.
            metadata: further keys of the card's metadata.
        """
        folder = Path(str(self.trainer.args.output_dir))
        if not self.trainer.is_world_process_zero():
            return
        if is_edited_card(folder):
            logger.warning("%s is not as hftransfer wrote it and was kept; there is no new model card.", folder / CARD)
            return
        all_tags = [*_list(tags), *_list(getattr(self.trainer.model, "model_tags", None))]
        text = render_card(self.facts(model_name, finetuned_from), all_tags, _list(dataset), metadata)
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / CARD, text)
        record_written(folder, [CARD])

    def facts(self, model_name: str | None = None, finetuned_from: str | None = None) -> CardFacts:
        """Facts of the card, as plain data."""
        trainer, prepared, args = self.trainer, self.prepared, config_of(self.trainer)
        joint = joint_model_of(trainer)
        model: Any = joint.model
        base = plain_model(model)
        names = self.dataset_names or {}
        repo_id = repository_name(trainer)
        return CardFacts(
            name=model_name or repo_id.split("/")[-1],
            repo_id=repo_id,
            base_model=finetuned_from or base.config.name_or_path or "",
            task=prepared.label_space.task,
            modality=prepared.encoder.modality,
            task_name=prepared.encoder.task_name(prepared.label_space.task),
            labels=prepared.label_space.names if prepared.label_space.task != "regression" else (),
            sources=[names.get(name, name) for name in prepared.source_names],
            target=names.get("target", ""),
            objectives={s.name: str(s) for s in args.objective_specs()},
            papers=[type(o).paper for o in joint.objectives.values()],  # type: ignore[attr-defined]
            trained=str(prepared.trainable),
            settings=_settings(args, trainer.state.max_steps, label_shift_of(trainer), bool(prepared.source_names)),
            results=self.results or {"evaluation": _last_evaluation(trainer.state.log_history)},
            adapter=is_peft(model) and not merges_adapter(trainer, prepared),
            blocks=policy_table(policy_rows(trainer)),
            findings=findings_of(trainer),
            source_numbers=0 if trainer.source_numbers is None else trainer.source_numbers.rows,  # type: ignore[attr-defined]
            oracle_selection=args.allow_oracle_selection and args.load_best_model_at_end,
        )


def repository_name(trainer: Trainer) -> str:
    """Full id of the repository, as the Hub returned it; the configured name if that has changed since."""
    configured, full_id = configured_name(config_of(trainer)), trainer.hub_model_id or ""
    return full_id if full_id.endswith(f"/{configured}") else configured


def configured_name(args: AdaptationConfig) -> str:
    """Repository of the settings: `hub_model_id`, or the name of the output folder."""
    return args.hub_model_id or Path(str(args.output_dir)).absolute().name


def _settings(args: AdaptationConfig, max_steps: int, label_shift: str, has_source: bool) -> dict[str, str]:
    rows = args.per_device_train_batch_size * args.world_size * args.gradient_accumulation_steps
    kind = "source" if has_source else "target"
    return {
        "learning rate": f"{args.learning_rate:g}",
        "epochs": f"{args.num_train_epochs:g}" if args.max_steps <= 0 else "",
        "steps": str(max_steps or args.max_steps),
        "batch": f"{rows} {kind} rows ({args.per_device_train_batch_size} a device, {args.world_size} "
        f"process(es), {args.gradient_accumulation_steps} accumulated)",
        "target rows per source row": f"{args.target_ratio:g}" if has_source else "",
        "label shift": label_shift,
        "precision": "bf16" if args.bf16 else "fp16" if args.fp16 else "fp32",
        "seed": str(args.seed),
    }


def _last_evaluation(log_history: list[dict[str, Any]]) -> dict[str, float]:
    last: dict[str, float] = {}
    for entry in log_history:
        last |= {k.removeprefix("eval_"): v for k, v in entry.items() if k.startswith("eval_")}
    return last


def _list(value: str | list[str] | None) -> list[str]:
    return [value] if isinstance(value, str) else list(value or [])
