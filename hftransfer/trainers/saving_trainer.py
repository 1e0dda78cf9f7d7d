"""`SavingTrainer`: checkpoints, saved models and pushes to the Hub.

Each method says what is done around `Trainer`'s own; the work is in the collaborators.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..models.batch_norm_statistics import average_statistics
from ..reporting.model_card_text import CardFacts
from ..stages import stage
from .base_trainer import BaseTrainer
from .hub.push import create_repo
from .hub.push_options import check_card_keys, read_push_options

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo


class SavingTrainer(BaseTrainer):
    """`BaseTrainer` whose checkpoints are whole, whose models are plain, and which pushes them to the Hub."""

    # ---- a run

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """As in `Trainer`, with the mean of each loss since the last log under its own name; one device sync a log.

        Raises:
            FloatingPointError: a loss, or the gradient, is not finite.
        """
        means = self.finite_guard.mean_losses() if "loss" in logs or "train_loss" in logs else {}
        if "loss" in logs:
            logs |= {f"{name}_loss": value for name, value in means.items()}
            logs |= self.optimizer_builder.logged_rates()
        super().log(logs, start_time)
        self.finite_guard.check_losses(means)
        if "grad_norm" in logs:
            self.finite_guard.check_norm(logs["grad_norm"])
        if means:
            if self.finite_guard.proves_checkpoint():
                self.checkpoint_writer.rotate_proven()
            self.loss_log.clear()

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        """As in `Trainer`, which takes one step too many when a run that had ended is resumed."""
        if self.state.global_step >= self.state.max_steps or self.control.should_training_stop:
            self.control.should_training_stop = True
            return
        super()._run_epoch(*args, **kwargs)

    # ---- saving

    def check_output_folder(self, resume: str | os.PathLike[str] | bool | None = None) -> str | None:
        """The checkpoint to go on from; see `RunFolder.check`, whose errors it raises."""
        return self.run_folder.check(resume)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """As in `Trainer`: the plain model, written whole or not at all.

        Raises:
            FloatingPointError: weights are not finite.
            FileExistsError: the folder holds files of somebody else's under names of the model's.
            DiskFullError: there is not enough room.
        """
        save = partial(super().save_model, _internal_call=True)
        if self.checkpoint_writer.staging is not None:  # a part of a checkpoint
            save(output_dir)
            return
        self.checkpoint_writer.write_model(output_dir, save)
        if self.args.push_to_hub and not _internal_call:
            self.push_to_hub(commit_message="Model save")

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        """As in `Trainer`, aside first; a run that broke since the last log stops here instead of saving."""
        self._check_before_checkpoint()
        average_statistics(self.model)
        with stage("saving a checkpoint"):
            self.run_folder.pin()
            run_dir = Path(super()._get_output_dir(trial))
            checkpoint = self.checkpoint_writer.write_checkpoint(
                run_dir, partial(super()._save_checkpoint, model, trial)
            )
            if self.args.push_to_hub:
                self._push_from_checkpoint(str(checkpoint))

    def _check_before_checkpoint(self) -> None:
        """Check that losses and gradient are finite, before a checkpoint is written; raises `FloatingPointError`."""
        self.finite_guard.check_losses()
        self.finite_guard.check_norm()

    def _get_output_dir(self, trial: Any) -> str:
        return self.checkpoint_writer.staging or super()._get_output_dir(trial)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, torch.Tensor] | None = None) -> None:
        folder = Path(str(output_dir or self.args.output_dir))
        self.checkpoint_writer.write_files(folder, state_dict, super()._save)

    def _finalize_training(self, *args: Any, **kwargs: Any) -> Any:
        with self.checkpoint_writer.finishing():
            return super()._finalize_training(*args, **kwargs)

    # ---- loading

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        if self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            self.checkpoint_reader.load(resume_from_checkpoint, super()._load_from_checkpoint)

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        """As in `Trainer`; a name of a tied weight, which is saved under another name alone, is not missing."""
        tied = getattr(self.model, "all_tied_weights_keys", None) or {}
        missing = [name for name in load_result.missing_keys if name not in tied]
        super()._issue_warnings_after_load(load_result._replace(missing_keys=missing))

    def _load_best_model(self) -> None:
        if self.is_fsdp_enabled:
            super()._load_best_model()
        else:
            self.checkpoint_reader.load_best(super()._load_best_model)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        with self.checkpoint_reader.reading_optimizer(checkpoint):
            super()._load_optimizer_and_scheduler(checkpoint)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        with self.checkpoint_reader.reading_random_states(checkpoint):
            super()._load_rng_state(checkpoint)

    def _load_callback_state(self) -> None:
        """As in `Trainer`, which calls it when it has read the state of the run that goes on."""
        self.checkpoint_reader.find_best_again()
        super()._load_callback_state()

    # ---- the Hub

    @property
    def results(self) -> dict[str, dict[str, float]] | None:
        """Results table of the model card: `{row: {column: value}}`."""
        return self.model_card.results

    @results.setter
    def results(self, value: dict[str, dict[str, float]] | None) -> None:
        self.model_card.results = value

    @property
    def dataset_names(self) -> dict[str, str] | None:
        """Data set names of the model card: `{"source": …, "target": …}`."""
        return self.model_card.dataset_names

    @dataset_names.setter
    def dataset_names(self, value: dict[str, str] | None) -> None:
        self.model_card.dataset_names = value

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """As in `Trainer`: with `push_to_hub=True` the repository is made before training.

        A Hub that is out of reach does not stop the run; the push at its end tries again.

        Raises:
            HubError: the Hub refused.
        """
        if self.is_world_process_zero():
            self.hub_model_id = create_repo(self.args, token, private)

    def push_to_hub(  # type: ignore[override]  # nothing is pushed by other processes than the first
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        merge_adapter: bool | None = None,
        **kwargs: Any,
    ) -> CommitInfo | Future[CommitInfo] | None:
        """Push to the Hub: model and card are saved to `output_dir`, then uploaded.

        Files of an older model in the repository (an adapter where a merged model goes now) are removed in the same
        commit.

        Args:
            commit_message: of the commit.
            blocking: wait for the upload; otherwise returns a `Future`.
            token: instead of `args.hub_token` or the logged-in one; never written anywhere.
            revision: branch to push to, made from the main one if need be; `args.hub_revision` when `None`.
            private: make the repository private; `args.hub_private_repo` when `None`.
            merge_adapter: push an adapter merged into a plain model; as `save_model` does when `None`.
            **kwargs: of the Hub: `repo_id`, where to from now on, instead of `args.hub_model_id`; `create_pr`, a pull
                request instead of a commit; `commit_description`; `parent_commit`. All others are for
                `create_model_card`.

        Returns:
            The `CommitInfo`, or a `Future` of it; `None` on all processes but the first.

        Raises:
            HubError: with the reason, where the model is, and how to push again.
            TypeError: an argument that there is not; nothing was saved or pushed.
        """
        options = read_push_options(commit_message, kwargs, token, revision, private, merge_adapter)
        return self.hub_publisher.push(options, blocking)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        self.hub_publisher.push_checkpoint(Path(checkpoint_folder))

    def create_model_card(  # type: ignore[override]  # keys that Trainer names one by one go to the metadata
        self,
        language: str | None = None,
        license: str | None = None,
        tags: str | list[str] | None = None,
        model_name: str | None = None,
        finetuned_from: str | None = None,
        dataset: str | list[str] | None = None,
        metadata: Mapping[str, Any] | None = None,
        **card_keys: Any,
    ) -> None:
        """Model card, written to README.md: base model, data, method, settings, results, how to load.

        Args:
            language, license: for the card's metadata.
            tags: besides ours and the model's.
            model_name: the title; the repository's name when `None`.
            finetuned_from: the base model's Hub id, where the model itself does not know it.
            dataset: Hub ids of data sets, besides those that `dataset_names` holds.
            metadata: more keys of the card's metadata, whatever they are called.
            **card_keys: keys of the metadata that the Hub knows, such as `pipeline_tag` or `widget`.

        Raises:
            TypeError: a key that there is not.
        """
        check_card_keys(card_keys)
        keys = {"language": language, "license": license, **card_keys, **(metadata or {})}
        self.model_card.write(tags, model_name, finetuned_from, dataset, keys)

    def card_facts(self, model_name: str | None = None, finetuned_from: str | None = None) -> CardFacts:
        """Facts of the model card, as plain data."""
        return self.model_card.facts(model_name, finetuned_from)
