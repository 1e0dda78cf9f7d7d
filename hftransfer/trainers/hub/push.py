"""Push to the Hub: a plain model with its card, at the end of a run and from its checkpoints."""

from __future__ import annotations

import functools
import logging
import shlex
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...hub_connection import hub_answers
from ...messages import keep_secret, redacted
from ..saving.written_files import CARD, is_edited_card, record_written, write_whole
from ..trainer_access import config_of
from .errors import HubError, explain, without_token
from .push_options import PushOptions
from .run_card import ModelCard, configured_name, repository_name

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo, HfApi
    from transformers import Trainer

    from ..config import AdaptationConfig

logger = logging.getLogger(__name__)

# `*` matches `/` too. Underscored files are a run's own; a .bin is a pickle, and one of the arguments has the token.
PRIVATE = ["_*", "checkpoint-*", "*.bin", "ask*.csv"]  # the last: target rows that a person is asked to label
# In a checkpoint and of no use to others; its README is PEFT's, which names paths of this machine.
RESUME_ONLY = ["optimizer*", "trainer_state.json", "*_fsdp_*", "*.pt", "*.pth", "README.md"]
# What a push replaces as a whole: an adapter beside a merged model, or old shards, would be loaded together with it.
MODEL_FILES = [
    "config.json",
    "model*.safetensors*",
    "adapter_config.json",
    "adapter_model*.safetensors",
    "labels.json",
]


class HubPublisher:
    """Publisher of a trainer's model and card on the Hub.

    Args:
        trainer: an `AdaptationTrainer`.
        card: of its model.
    """

    def __init__(self, trainer: Trainer, card: ModelCard):
        self.trainer, self.card = trainer, card

    def push(self, options: PushOptions, blocking: bool) -> CommitInfo | Future[CommitInfo] | None:
        """Push of model and card, which are saved to `output_dir` first.

        Args:
            options: of the push.
            blocking: wait for the upload; otherwise returns a `Future`.

        Returns:
            The `CommitInfo`, or a `Future` of it; `None` on all processes but the first.

        Raises:
            HubError: with the reason, where the model is, and how to push again.
        """
        trainer, args = self.trainer, config_of(self.trainer)
        if options.repo_id is not None:
            args.hub_model_id = options.repo_id
        if options.merge_adapter is not None:
            args.merge_adapter = options.merge_adapter
        trainer.callback_handler.on_push_begin(args, trainer.state, trainer.control)
        trainer.save_model(_internal_call=True)
        if not trainer.is_world_process_zero():
            return None
        trainer.create_model_card(**options.card)
        facts = self.card.facts()
        if facts.adapter and not facts.hub_base_model:
            logger.warning(
                "The adapter's base model is %r, a folder of this machine: nobody else can load the adapter. "
                "Push it merged, with merge_adapter=True.",
                facts.base_model,
            )
        trainer._finish_current_push()
        upload = functools.partial(self._upload, options)
        return upload() if blocking else _api().run_as_future(upload)

    def _upload(self, options: PushOptions) -> CommitInfo:
        """Upload of what is on disk."""
        trainer, args = self.trainer, config_of(self.trainer)
        name_before = repository_name(trainer)

        def name_card(repo_id: str) -> None:
            trainer.hub_model_id = repo_id  # type: ignore[assignment]  # annotated as None
            if repo_id != name_before:  # the Hub put the user's name in front
                trainer.create_model_card(**options.card)

        return _upload_folder(args, str(args.output_dir), options, name_before, name_card, "trainer.push_to_hub()")

    def push_checkpoint(self, checkpoint: Path) -> None:
        """Background push of a checkpoint as `args.hub_strategy` says; a failure is a warning.

        Args:
            checkpoint: its folder.
        """
        from transformers.trainer_utils import HubStrategy
        from transformers.utils import PushInProgress

        trainer, args = self.trainer, self.trainer.args
        pushing: PushInProgress | None = getattr(trainer, "push_in_progress", None)
        busy = pushing is not None and not pushing.is_done()
        if not trainer.is_world_process_zero() or args.hub_strategy == HubStrategy.END or trainer.hub_model_id is None:
            return
        if busy and not args.hub_always_push:
            return
        trainer.callback_handler.on_push_begin(args, trainer.state, trainer.control)
        ignored_in: dict[str, list[str]] = {"": PRIVATE + RESUME_ONLY}  # by folder of the repository
        if args.hub_strategy == HubStrategy.CHECKPOINT:
            ignored_in["last-checkpoint"] = ["*.bin"]
        elif args.hub_strategy == HubStrategy.ALL_CHECKPOINTS:
            ignored_in[checkpoint.name] = ["*.bin"]
        jobs: list[Any] = [
            _api().upload_folder(
                repo_id=trainer.hub_model_id,
                folder_path=str(checkpoint),
                path_in_repo=folder,
                commit_message=f"Training in progress, step {trainer.state.global_step}",
                token=args.hub_token,
                revision=args.hub_revision,
                ignore_patterns=list(ignored),
                run_as_future=True,
            )
            for folder, ignored in ignored_in.items()
        ]
        for job in jobs:
            job.add_done_callback(functools.partial(_warn, checkpoint.name))
        if busy and pushing is not None:
            pushing.jobs.extend(jobs)
        else:
            trainer.push_in_progress = PushInProgress(jobs)


def create_repo(args: AdaptationConfig, token: str | None = None, private: bool | None = None) -> str | None:
    """Hub repository that a run will push to, made before training; of several processes, by the first.

    Args:
        args: an `AdaptationConfig`.
        token: instead of `args.hub_token`.
        private: instead of `args.hub_private_repo`.

    Returns:
        Its full id; `None`, with a warning, when the Hub is out of reach at that time.

    Raises:
        HubError: the Hub refused, or the repository is public and should be private.

    Example:
        >>> create_repo(AdaptationConfig("news-to-medical", push_to_hub=True))  # doctest: +SKIP
    """
    if args.process_index:
        return None
    keep_secret(token or args.hub_token)
    try:
        return _make_repository(args, token if token is not None else args.hub_token, private)
    except Exception as error:
        reason, passing = explain(error)
        message = f"The Hub repository {configured_name(args)!r} could not be made: {reason}"
        if not passing:
            raise HubError(message) from without_token(error)
        logger.warning("%s The run goes on, and tries again when it pushes.", redacted(message))
        return None


def push_folder(args: AdaptationConfig, folder: str | Path, commit_message: str | None = None) -> str | None:
    """Push of a folder that holds a plain model with its card, such as `adapt` hands over.

    What begins with an underscore stays here, and so do checkpoints and pickles; of what is there, a model is replaced
    as a whole. A card that names no owner yet gets the repository's full id. Of several processes, the first pushes.

    Args:
        args: an `AdaptationConfig`, whose `hub_` settings say where to.
        folder: the model's.
        commit_message: of the commit.

    Returns:
        The repository's full id; `None` on all processes but the first.

    Raises:
        HubError: with the reason, where the model is, and how to push again.

    Example:
        >>> push_folder(AdaptationConfig("news-to-medical"), "news-to-medical")  # doctest: +SKIP
    """
    if args.process_index:
        return None
    full_ids: list[str] = []

    def name_card(repo_id: str) -> None:
        full_ids.append(repo_id)
        card = Path(folder) / CARD
        if card.is_file() and not is_edited_card(Path(folder)):
            text = card.read_text(encoding="utf-8")
            write_whole(card, text.replace(f'"your-name/{repo_id.rpartition("/")[2]}"', f'"{repo_id}"'))
            record_written(Path(folder), [CARD])

    _upload_folder(args, str(folder), PushOptions(commit_message, None, {}, {}), configured_name(args), name_card)
    return full_ids[0]


def _upload_folder(
    args: AdaptationConfig,
    folder: str,
    options: PushOptions,
    name: str,
    on_repository: Callable[[str], None] | None = None,
    remedy: str = "",
) -> CommitInfo:
    """Upload of a folder, into a repository that is made unless it exists.

    Args:
        args: say where to and with which token.
        folder: that is uploaded.
        options: of the push.
        name: of the repository, before the Hub says its full id.
        on_repository: called with the full id, before the upload.
        remedy: what pushes again from Python.
    """
    revision = options.revision or args.hub_revision
    token = options.token if options.token is not None else args.hub_token
    keep_secret(token)
    try:
        name = _make_repository(args, token, options.private)
        if on_repository is not None:
            on_repository(name)
        if revision and revision != "main" and not revision.startswith("refs/"):
            _api().create_branch(name, branch=revision, token=token, exist_ok=True)
        return _api().upload_folder(
            repo_id=name,
            folder_path=folder,
            commit_message=options.commit_message,
            token=token,
            revision=revision,
            ignore_patterns=list(PRIVATE),
            delete_patterns=list(MODEL_FILES),
            **options.upload,
        )
    except Exception as error:
        reason, passing = explain(error)
        message = f"Pushing to {name!r} failed: {reason}\nThe trained model is safe in {folder}."
        if not isinstance(error, HubError):
            command = upload_command(name, folder, revision, options.private or args.hub_private_repo)
            command += " --create-pr" if options.upload.get("create_pr") else ""
            again = f"with {remedy}, or from a shell" if remedy else "from a shell"
            message += f" Push it again {again}:\n  {command}"
        raise HubError(message, passing) from without_token(error)


def upload_command(repo_id: str, folder: str, revision: str | None = None, private: bool | None = None) -> str:
    """Shell command that uploads what `push_to_hub` does."""
    arguments = ["hf", "upload", repo_id, folder, "."]
    arguments += ["--revision", revision] if revision else []
    arguments += ["--private"] if private else []
    return shlex.join(arguments) + "".join(f' --exclude "{pattern}"' for pattern in PRIVATE)


def _api() -> HfApi:
    from huggingface_hub import HfApi

    from ..._version import __version__

    return HfApi(library_name="hftransfer", library_version=__version__)


def _make_repository(args: AdaptationConfig, token: str | None, private: bool | None) -> str:
    """Full id of the repository, which is created unless it exists."""
    from huggingface_hub import constants, get_token
    from huggingface_hub.errors import LocalTokenNotFoundError

    if token is None and get_token() is None:
        raise LocalTokenNotFoundError("not logged in: run `hf auth login`, or set HF_TOKEN")
    if not hub_answers(timeout=10):  # the client would retry for most of a minute
        raise ConnectionError("HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else constants.ENDPOINT)
    private = private if private is not None else args.hub_private_repo
    repo_id = _api().create_repo(configured_name(args), token=token, private=private, exist_ok=True).repo_id
    if private and not _api().model_info(repo_id, token=token).private:
        raise HubError(
            f"{repo_id} exists and is public, but a private one is asked for. Choose another hub_model_id, or make it "
            "private in its settings."
        )
    return repo_id


def _warn(checkpoint: str, job: Future) -> None:
    if not job.cancelled() and (error := job.exception()) is not None:
        logger.warning("%s was not pushed: %s The run goes on.", checkpoint, redacted(explain(error)[0]))
