"""Pre-trained start of a candidate: the backbone, trained without labels on the run's own rows, made once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..messages import nearest
from ..reporting.console import print_lines
from ..stages import stage
from ..trainers.saving.process_agreement import decided_by_first
from ..trainers.saving.resume_advice import going_on_by_itself
from ..trainers.saving.written_files import RESULTS, read_json, write_whole
from .candidate_folder import DONE, begin_candidate, file_facts, file_faults, remove_candidate, remove_checkpoints
from .run_inputs import RunInputs
from .settings_hash import settings_hash

if TYPE_CHECKING:
    from ..pretraining.pretraining_config import PretrainingConfig

FOLDER = "_pretrained-{}"  # beside the candidates' folders; no candidate's name begins so
MADE = "pretrained.json"
START = "start"  # name of its folder, in a candidate's record
# By what a start is measured, and what that is called.
MEASURED = {
    "perplexity": "perplexity of held-out texts",
    "reconstruction_loss": "reconstruction loss of held-out images",
    "loss": "loss on held-out texts",
}
# Settings of the run that its pre-training takes over: how it computes, what it shows, where inputs stand.
TAKEN_OVER = (
    *("seed", "data_seed", "full_determinism", "bf16", "fp16", "tf32", "bf16_full_eval", "fp16_full_eval"),
    *("gradient_checkpointing", "gradient_checkpointing_kwargs", "optim", "accelerator_config"),
    *(
        "dataloader_num_workers",
        "dataloader_pin_memory",
        "dataloader_persistent_workers",
        "dataloader_prefetch_factor",
    ),
    *("ddp_backend", "ddp_timeout", "ddp_bucket_cap_mb"),
    *("disable_tqdm", "logging_steps", "logging_strategy", "log_level", "log_level_replica"),
    *("text_column", "text_pair_column", "tokens_column", "image_column", "image_size"),
)
# Settings that the run decides for its pre-training.
NOT_HERE = {
    "output_dir": "it has a folder of its own",
    "overwrite_output_dir": "it belongs to the whole run",
    "resume_from_checkpoint": "a run goes on by itself",
    "push_to_hub": "only what is handed over is pushed",
    "merge_adapter": "the start is the whole backbone, and an adapter of the run is trained on it afterwards",
}


def check_pretraining_settings(title: str, value: Any) -> dict[str, Any]:
    """Settings of a pre-training as a candidate names them, with names that there are.

    Args:
        title: of messages.
        value: a map of settings of `PretrainingConfig` to values.

    Raises:
        ValueError: not a map, or a setting that there is not or that cannot stand here.
    """
    from ..pretraining.pretraining_config import PretrainingConfig

    if not isinstance(value, Mapping):
        raise ValueError(f"{title} must be a map of settings of `hftransfer pretrain` to values, not {value!r}.")
    check_setting_names(title, value, PretrainingConfig, NOT_HERE)
    return dict(value)


def check_setting_names(title: str, settings: Mapping[str, Any], config: type, refused: Mapping[str, str]) -> None:
    """Check that settings which a candidate names are those of a config, and may stand there.

    Args:
        title: of messages.
        settings: names to values.
        config: the dataclass that has them.
        refused: name -> why it cannot stand there.

    Raises:
        ValueError: one that cannot stand there, or that there is not.
    """
    known = {field.name for field in fields(config) if field.init}
    for key in settings:
        if key in refused:
            raise ValueError(f"{title}: {key!r} cannot stand here: {refused[key]}.")
        if key not in known:
            raise ValueError(f"{title}: there is no setting {key!r}.{nearest(str(key), known)}")


class PretrainedStarts:
    """Backbones that candidates start from, pre-trained on the texts or images of the target and the sources.

    Candidates with the same settings share one. It is kept beside the candidates, goes on after a kill, and is never
    made twice. Labels are not read.

    Args:
        inputs: of the run.
        folder: that the candidates' folders are in.
        key: of the run.
    """

    def __init__(self, inputs: RunInputs, folder: Path, key: str):
        self.inputs, self.folder, self.key = inputs, folder, key

    def key_of(self, settings: Mapping[str, Any]) -> str:
        """Key of a start: of the run, and of its settings."""
        return settings_hash(run=self.key, pretrain=dict(settings))[:16]

    def config(self, settings: Mapping[str, Any]) -> PretrainingConfig:
        """Settings of the pre-training.

        Raises:
            ValueError, TypeError: values that cannot be, or a backbone that is no folder or Hub id.
        """
        from ..pretraining.pretraining_config import PretrainingConfig

        if not isinstance(self.inputs.model, str):
            raise ValueError("pretrain: the model of this run is to be trained from scratch. Name a checkpoint.")
        args = self.inputs.args
        default = type(args)(output_dir=args.output_dir, use_cpu=args.use_cpu, report_to="none")
        known = {field.name for field in fields(PretrainingConfig)}
        given = {
            name: value
            for name in TAKEN_OVER
            if name in known and (value := getattr(args, name)) != getattr(default, name)
        }
        given |= {"use_cpu": args.use_cpu, "report_to": args.report_to or "none"}
        given |= {"save_strategy": "epoch", "save_total_limit": 1} | dict(settings)
        return PretrainingConfig(output_dir=str(self.folder_of(settings)), overwrite_output_dir=True, **given)

    def make(self, settings: Mapping[str, Any]) -> str:
        """Folder of the start with these settings, made if there is none.

        Raises:
            Exception: whatever stops the pre-training.
        """
        args, key = self.config(settings), self.key_of(settings)
        folder, processes = Path(str(args.output_dir)), args.world_size
        if decided_by_first(lambda: _is_whole(folder, key), processes):
            return str(folder)
        from ..pretraining.pretrain import pretrain

        checkpoint = decided_by_first(lambda: begin_candidate(folder, key, self.key), processes)
        args.resume_from_checkpoint = checkpoint
        inputs = self.inputs
        print_lines("pre-training the start, without labels")
        with stage("pre-training a candidate's start"), going_on_by_itself():
            pretrain(
                inputs.model,
                inputs.target,
                dict(inputs.train),
                args=args,
                processing_class=inputs.processing_class,
                model_kwargs=inputs.model_kwargs,
                dataset_names=inputs.dataset_names,
            )
        decided_by_first(lambda: _keep(folder, key), processes)
        return str(folder)

    def folder_of(self, settings: Mapping[str, Any]) -> Path:
        """Folder of the start with these settings."""
        return self.folder / FOLDER.format(self.key_of(settings))

    def remove_unused(self, used: Iterable[Mapping[str, Any]]) -> None:
        """Removal of starts that no candidate has any more: its settings were changed, and it was made again.

        Args:
            used: settings of the starts of this call's candidates. What other candidates in the folder started from,
                as their records have it, stays too.
        """
        kept = {self.folder_of(settings).name for settings in used}
        kept |= {str(read_json(record).get(START)) for record in self.folder.glob(f"*/{DONE}")}
        for path in self.folder.glob(FOLDER.format("*")):
            if path.name not in kept:
                remove_candidate(path)

    def findings(self, settings: Mapping[str, Any]) -> list[str]:
        """What was wrong in a start's pre-training, in plain sentences."""
        results = read_json(self.folder_of(settings) / RESULTS)
        if not results.get("got_worse"):
            return []
        name = next((name for name in MEASURED if f"{name}_after" in results), "perplexity")
        before, after = (results.get(f"{name}_{when}") for when in ("before", "after"))
        change = f", from {before:.2f} to {after:.2f}" if before and after else ""
        return [f"Its pre-training made the {MEASURED[name]} worse{change}."]


def _is_whole(folder: Path, key: str) -> bool:
    """Whether a start was made to the end under this key, and its files are those that were written."""
    record = read_json(folder / MADE)
    files = record.get("files")
    return record.get("key") == key and isinstance(files, dict) and not any(file_faults(folder, files))


def _keep(folder: Path, key: str) -> None:
    files = {name: facts for name, facts in file_facts(folder).items() if name != MADE}
    write_whole(folder / MADE, json.dumps({"key": key, "files": files}))
    remove_checkpoints(folder)
