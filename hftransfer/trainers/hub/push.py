"""To the Hub: a plain model, a card that says how it was made, and errors that lose nothing."""

from __future__ import annotations

import functools
import logging
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...messages import keep_secret, redacted
from ...models.adapters import is_peft
from ...network import hub_answers
from ...reporting.model_card import CardFacts, render_card
from ...reporting.tables import policy_table
from ..host import Host
from ..saving.folder_marks import CARD, edited_card, mark, write_whole
from ..setup.plan import policy_rows
from .push_options import PushOptions, check_card_keys, read_push_options

logger = logging.getLogger(__name__)

# `*` matches `/` too. Underscored files are a run's own; a .bin is a pickle, and one of the arguments has the token.
PRIVATE = ["_*", "checkpoint-*", "*.bin"]
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


class HubError(RuntimeError):
    """The Hub refused or was out of reach; nothing on disk was lost.

    Attributes:
        passing: it may work later as it is (an outage), where a refusal (a wrong token) needs something done.
    """

    def __init__(self, message: str, passing: bool = False):
        super().__init__(redacted(message))
        self.passing = passing


class Publishing(Host):
    """`push_to_hub` and the model card of an `AdaptationTrainer`."""

    results: dict[str, dict[str, float]] | None = None  # {row of the card's table: {column: value}}
    dataset_names: dict[str, str] | None = None  # {"source": …, "target": …} for the card
    push_in_progress: Any = None

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """As in `Trainer`: with `push_to_hub=True` the repository is made before training.

        A Hub that is out of reach does not stop the run; the push at its end tries again.

        Raises:
            HubError: the Hub refused.
        """
        if self.is_world_process_zero():
            self.hub_model_id = create_repo(self.args, token, private)

    def push_to_hub(
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        merge_adapter: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """Saves the model and its card to `output_dir`, then uploads them.

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
        options = read_push_options(commit_message, kwargs)
        if options.repo_id is not None:
            self.args.hub_model_id = options.repo_id
        if merge_adapter is not None:
            self.args.merge_adapter = merge_adapter
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        self.save_model(_internal_call=True)
        if not self.is_world_process_zero():
            return None
        self.create_model_card(**options.card)
        facts = self.card_facts()
        if facts.adapter and not facts.hub_base_model:
            logger.warning(
                "The adapter's base model is %r, a folder of this machine: nobody else can load the adapter. "
                "Push it merged, with merge_adapter=True.",
                facts.base_model,
            )
        self._finish_current_push()
        push = functools.partial(self._push, commit_message, token, revision, private, options)
        return push() if blocking else _api().run_as_future(push)

    def _push(
        self,
        commit_message: str | None,
        token: str | None,
        revision: str | None,
        private: bool | None,
        options: PushOptions,
    ) -> Any:
        """The part of `push_to_hub` that needs the Hub; everything is on disk."""
        folder = str(self.args.output_dir)
        revision = revision or self.args.hub_revision
        token = token if token is not None else self.args.hub_token
        keep_secret(token)
        try:
            named = self._repo_name()
            self.hub_model_id = _make_repo(self.args, token, private)
            if self.hub_model_id != named:  # the Hub put the user's name in front
                self.create_model_card(**options.card)
            if revision and revision != "main" and not revision.startswith("refs/"):
                _api().create_branch(self.hub_model_id, branch=revision, token=token, exist_ok=True)
            return _api().upload_folder(
                repo_id=self.hub_model_id,
                folder_path=folder,
                commit_message=commit_message,
                token=token,
                revision=revision,
                ignore_patterns=list(PRIVATE),
                delete_patterns=list(MODEL_FILES),
                **options.upload,
            )
        except Exception as error:
            name, (reason, passing) = self._repo_name(), _reason(error)
            message = f"Pushing to {name!r} failed: {reason}\nThe trained model is safe in {folder}."
            if not isinstance(error, HubError):
                command = upload_command(name, folder, revision, private or self.args.hub_private_repo)
                command += " --create-pr" if options.upload.get("create_pr") else ""
                message += f" Push it again with trainer.push_to_hub(), or from a shell:\n  {command}"
            raise HubError(message, passing) from _shown(error)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Pushes a checkpoint in the background as `args.hub_strategy` says; a failure is a warning."""
        from transformers.trainer_utils import HubStrategy
        from transformers.utils import PushInProgress

        args, strategy = self.args, self.args.hub_strategy
        busy = self.push_in_progress is not None and not self.push_in_progress.is_done()
        if not self.is_world_process_zero() or strategy == HubStrategy.END or self.hub_model_id is None:
            return
        if busy and not args.hub_always_push:
            return
        self.callback_handler.on_push_begin(args, self.state, self.control)
        name = Path(checkpoint_folder).name
        places: dict[str, list[str]] = {"": PRIVATE + RESUME_ONLY}
        if strategy in (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS):
            places["last-checkpoint" if strategy == HubStrategy.CHECKPOINT else name] = ["*.bin"]
        jobs = [
            _api().upload_folder(
                repo_id=self.hub_model_id,
                folder_path=checkpoint_folder,
                path_in_repo=place,
                commit_message=f"Training in progress, step {self.state.global_step}",
                token=args.hub_token,
                revision=args.hub_revision,
                ignore_patterns=list(ignored),
                run_as_future=True,
            )
            for place, ignored in places.items()
        ]
        for job in jobs:
            job.add_done_callback(functools.partial(_warn, name))
        if busy:
            self.push_in_progress.jobs.extend(jobs)
        else:
            self.push_in_progress = PushInProgress(jobs)  # type: ignore[arg-type]  # annotated as one job

    def _repo_name(self) -> str:
        """The full id once the Hub told it, unless another repository is meant by now."""
        wanted, known = _repo_name(self.args), self.hub_model_id or ""
        return known if known.endswith(f"/{wanted}") else wanted

    # ---- the card

    def create_model_card(  # type: ignore[override]  # keys that Trainer names one by one go to the metadata
        self,
        language: str | None = None,
        license: str | None = None,
        tags: str | list[str] | None = None,
        model_name: str | None = None,
        finetuned_from: str | None = None,
        dataset: str | list[str] | None = None,
        metadata: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> None:
        """Writes README.md: base model, data, method, settings, results (oracle marked), how to load.

        Args:
            language, license: for the card's metadata.
            tags: besides ours and the model's.
            model_name: the title; the repository's name when `None`.
            finetuned_from: the base model's Hub id, where the model itself does not know it.
            dataset: Hub ids of data sets, besides those that `dataset_names` holds.
            metadata: more keys of the card's metadata, whatever they are called.
            **more: keys of the metadata that the Hub knows, such as `pipeline_tag` or `widget`.

        Raises:
            TypeError: a key that there is not.
        """
        check_card_keys(more)
        folder = Path(str(self.args.output_dir))
        if not self.is_world_process_zero():
            return
        if edited_card(folder):
            logger.warning("%s is not as hftransfer wrote it and was kept; there is no new model card.", folder / CARD)
            return
        facts = self.card_facts(model_name, finetuned_from)
        more = {"language": language, "license": license, **more, **(metadata or {})}
        text = render_card(
            facts, [*_list(tags), *_list(getattr(self.model, "model_tags", None))], _list(dataset), more
        )
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / CARD, text)
        mark(folder, [CARD])

    def card_facts(self, model_name: str | None = None, finetuned_from: str | None = None) -> CardFacts:
        """What the card says, as plain data."""
        args, model = self.args, self.model.model
        base = model.get_base_model() if is_peft(model) else model
        data = self.dataset_names or {}
        rows = args.per_device_train_batch_size * args.world_size * args.gradient_accumulation_steps
        last: dict[str, float] = {}
        for entry in self.state.log_history:
            last |= {k: v for k, v in entry.items() if k.startswith("eval_")}
        return CardFacts(
            name=model_name or self._repo_name().split("/")[-1],
            repo_id=self._repo_name(),
            base_model=finetuned_from or base.config.name_or_path or "",
            task=self.space.task,
            modality=self.prepared.encoder.modality,
            task_name=self.prepared.encoder.task_name(self.space.task),
            labels=self.space.names if self.space.task != "regression" else (),
            sources=[data.get(name, name) for name in self.source_names],
            target=data.get("target", ""),
            objectives={s.name: str(s) for s in args.objective_specs()},
            papers=[type(o).paper for o in self.model.objectives.values()],
            trained=str(self.trainable),
            settings={
                "learning rate": f"{args.learning_rate:g}",
                "epochs": f"{args.num_train_epochs:g}" if args.max_steps <= 0 else "",
                "steps": str(self.state.max_steps or args.max_steps),
                "batch": f"{rows} source rows ({args.per_device_train_batch_size} a device, {args.world_size} "
                f"process(es), {args.gradient_accumulation_steps} accumulated)",
                "target rows per source row": f"{args.target_ratio:g}",
                "label shift": args.label_shift if args.label_shift != "none" else "",
                "precision": "bf16" if args.bf16 else "fp16" if args.fp16 else "fp32",
                "seed": str(args.seed),
            },
            results=self.results or {"evaluation": {k.removeprefix("eval_"): v for k, v in last.items()}},
            adapter=is_peft(model) and not self.merges_adapter,
            blocks=policy_table(policy_rows(self)),
        )


def create_repo(args: Any, token: str | None = None, private: bool | None = None) -> str | None:
    """Makes the Hub repository that a run will push to, before it trains; of several processes, the first makes it.

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
        return _make_repo(args, token if token is not None else args.hub_token, private)
    except Exception as error:
        reason, passing = _reason(error)
        message = f"The Hub repository {_repo_name(args)!r} could not be made: {reason}"
        if not passing:
            raise HubError(message) from _shown(error)
        logger.warning("%s The run goes on, and tries again when it pushes.", redacted(message))
        return None


def upload_command(repo_id: str, folder: str, revision: str | None = None, private: bool | None = None) -> str:
    """The shell command that uploads what `push_to_hub` does."""
    words = ["hf", "upload", repo_id, folder, "."]
    words += ["--revision", revision] if revision else []
    words += ["--private"] if private else []
    return shlex.join(words) + "".join(f' --exclude "{pattern}"' for pattern in PRIVATE)


def _api() -> Any:
    from huggingface_hub import HfApi

    from ..._version import __version__

    return HfApi(library_name="hftransfer", library_version=__version__)


def _repo_name(args: Any) -> str:
    return args.hub_model_id or Path(str(args.output_dir)).absolute().name


def _make_repo(args: Any, token: str | None, private: bool | None) -> str:
    """Creates the repository unless it is there; returns its full id."""
    from huggingface_hub import constants, get_token
    from huggingface_hub.errors import LocalTokenNotFoundError

    if token is None and get_token() is None:
        raise LocalTokenNotFoundError("not logged in: run `hf auth login`, or set HF_TOKEN")
    if not hub_answers(timeout=10):  # the client would retry for most of a minute
        raise ConnectionError("HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else constants.ENDPOINT)
    private = private if private is not None else args.hub_private_repo
    repo_id = _api().create_repo(_repo_name(args), token=token, private=private, exist_ok=True).repo_id
    if private and not _api().model_info(repo_id, token=token).private:
        raise HubError(
            f"{repo_id} exists and is public, but a private one is asked for. Choose another hub_model_id, or make it "
            "private in its settings."
        )
    return repo_id


def _warn(checkpoint: str, job: Any) -> None:
    if not job.cancelled() and job.exception() is not None:
        logger.warning("%s was not pushed: %s The run goes on.", checkpoint, redacted(_reason(job.exception())[0]))


def _reason(error: BaseException) -> tuple[str, bool]:
    """One line for a person, and whether trying again later may be enough."""
    if isinstance(error, HubError):
        return str(error), error.passing
    causes = list(_causes(error))
    response = next((r for e in causes if (r := getattr(e, "response", None)) is not None), None)
    known = {
        401: "401, not logged in or a wrong token; run `hf auth login`.",
        403: "403, the token may not write there.",
        404: "404, there is no such repository or branch, or the token may not see it.",
        409: "409, the repository is in the way of what was asked (a name that is taken, or a commit in between).",
        429: "429, too many requests; try again in a while.",
    }
    if response is not None:
        status = response.status_code
        fault = f"{status}, the Hub's own fault; try again in a while." if status >= 500 else f"{status}."
        said = next((s for e in causes if (s := getattr(e, "server_message", None))), None)
        detail = f" The Hub says: {' '.join(said.split())}" if said and status < 500 else ""
        return known.get(status, fault) + detail, status >= 500 or status in (408, 429)
    last = causes[-1]
    detail = str(last).splitlines()[0] if str(last) else "no detail"
    if any(isinstance(e, (ConnectionError, TimeoutError)) or type(e).__module__.startswith("http") for e in causes):
        return f"the Hub is out of reach ({type(last).__name__}: {detail}).", True
    return f"{detail.rstrip('.')} ({type(last).__name__}).", False


def _shown(error: BaseException) -> BaseException | None:
    """The error as a cause to be shown, unless it holds a token."""
    texts = [str(cause) for cause in _causes(error)]
    return error if [redacted(text) for text in texts] == texts else None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and what it was raised from, outermost first."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__


def _list(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value or [])
