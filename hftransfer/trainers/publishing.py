"""To the Hub: a plain model, a card that says how it was made, and errors that lose nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..models.adapters import is_peft
from ..reporting.model_card import CardFacts, render_card
from .host import Host


class HubError(RuntimeError):
    """The Hub refused or was out of reach; the trained model is on disk."""


class Publishing(Host):
    """`push_to_hub` and the model card of an `AdaptationTrainer`."""

    results: dict[str, dict[str, float]] | None = None  # {row of the card's table: {column: value}}
    dataset_names: dict[str, str] | None = None  # {"source": …, "target": …} for the card

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """As in `Trainer`, with one clear message: it runs before training, so nothing can be lost."""
        try:
            super().init_hf_repo(token=token, private=private)
        except Exception as error:
            if not _is_hub_error(error):
                raise
            raise HubError(f"The Hub repository {self._repo_name()!r} could not be made: {_reason(error)}") from error

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
        """Saves the model to `output_dir` and uploads it with its card.

        Args:
            commit_message: of the commit.
            blocking: wait for the upload.
            token: instead of the logged-in one; never written anywhere.
            revision: branch to push to.
            merge_adapter: push an adapter merged into a plain model; `args.merge_adapter` when `None`.
            **kwargs: `private=True` and what `Trainer.push_to_hub` takes.

        Raises:
            HubError: with the reason, where the model is, and how to push again.
        """
        if merge_adapter is not None:
            self.args.merge_adapter = merge_adapter
        try:
            return super().push_to_hub(
                commit_message=commit_message,
                blocking=blocking,
                token=token,
                revision=revision,
                private=private,
                **kwargs,
            )
        except Exception as error:
            if not _is_hub_error(error):
                raise
            folder = self.args.output_dir
            raise HubError(
                f"Pushing to {self._repo_name()!r} failed: {_reason(error)}\nThe trained model is safe in {folder}. "
                f"Push it again with trainer.push_to_hub(), or from a shell: "
                f'hf upload {self._repo_name()} {folder} . --exclude "_*" --exclude "checkpoint-*"'
            ) from error

    def _repo_name(self) -> str:
        return self.hub_model_id or self.args.hub_model_id or Path(str(self.args.output_dir)).absolute().name

    def create_model_card(self, *args: Any, model_name: str | None = None, tags: Any = None, **kwargs: Any) -> None:
        """Writes README.md: base model, data, method, settings, results (oracle marked), how to load."""
        if not self.is_world_process_zero():
            return
        facts = self.card_facts(model_name)
        extra = [tags] if isinstance(tags, str) else list(tags or [])
        text = render_card(facts, extra)
        (Path(str(self.args.output_dir)) / "README.md").write_text(text, encoding="utf-8")

    def card_facts(self, model_name: str | None = None) -> CardFacts:
        """What the card says, as plain data."""
        args, model = self.args, self.model.model
        base = model.get_base_model() if is_peft(model) else model
        adapter = is_peft(model) and not args.merge_adapter
        data = self.dataset_names or {}
        last: dict[str, float] = {}
        for entry in self.state.log_history:
            last |= {k: v for k, v in entry.items() if k.startswith("eval_")}
        return CardFacts(
            name=model_name or self._repo_name(),
            repo_id=self._repo_name(),
            base_model=base.config.name_or_path or "",
            task=self.space.task,
            labels=self.space.names if self.space.task != "regression" else (),
            sources=[data.get(name, name) for name in self.source_names],
            target=data.get("target", ""),
            objectives={s.name: str(s) for s in args.objective_specs()},
            papers=[type(o).paper for o in self.model.objectives.values()],
            policy=str(self.policy),
            settings={
                "learning rate": f"{args.learning_rate:g}",
                "epochs": f"{args.num_train_epochs:g}" if args.max_steps <= 0 else "",
                "steps": str(self.state.max_steps or args.max_steps),
                "batch": f"{args.per_device_train_batch_size} source rows x {args.world_size} processes x "
                f"{args.gradient_accumulation_steps} accumulated, {args.target_ratio:g} target rows each",
                "precision": "bf16" if args.bf16 else "fp16" if args.fp16 else "fp32",
                "seed": str(args.seed),
            },
            results=self.results or {"evaluation": {k.removeprefix("eval_"): v for k, v in last.items()}},
            adapter=adapter,
        )


def _is_hub_error(error: BaseException) -> bool:
    """The client's own errors, and whatever its transport raises when a connection breaks."""
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    module = type(error).__module__.split(".")[0]
    return isinstance(error, (HfHubHTTPError, LocalTokenNotFoundError, ConnectionError, TimeoutError)) or module in (
        "httpx",
        "httpx2",
        "httpcore",
        "httpcore2",
        "requests",
        "urllib3",
    )


def _reason(error: BaseException) -> str:
    """One line for a person."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    known = {
        401: "401, not logged in or a wrong token; run `hf auth login`.",
        403: "403, the token may not write there.",
        404: "404, there is no such repository or branch, or the token may not see it.",
        409: "409, the repository is in the way of what was asked (a name that is taken, or a commit in between).",
    }
    if status in known:
        return known[status]
    if status is not None:
        return f"{status}, the Hub's own fault; try again in a while."
    detail = str(error).splitlines()[0] if str(error) else "no detail"
    return f"the Hub is out of reach ({type(error).__name__}: {detail})."
