"""Push options: arguments of the Hub, keys of the model card, and arguments that are refused."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...messages import nearest

CARD = ("language", "license", "tags", "model_name", "finetuned_from", "dataset", "metadata")
# Keys of a card's metadata that transformers, or the Hub's own guide to cards, name; all others need `metadata`.
METADATA = (
    "base_model base_model_relation co2_eq_emissions dataset_args dataset_tags datasets extra_gated_button_content "
    "extra_gated_description extra_gated_fields extra_gated_heading extra_gated_prompt inference library_name "
    "license_link license_name mask_token metrics model-index new_version pipeline_tag task_ids tasks thumbnail "
    "track_downloads widget"
).split()
HUB = ("repo_id", "create_pr", "commit_description", "parent_commit")
# Arguments of the Hub's functions and of transformers' `model.push_to_hub` that a push cannot follow, and why.
ELSEWHERE = {
    "repo_type": "what is pushed is a model",
    "path_in_repo": "the model is loaded from the top of its repository",
    "folder_path": "the folder is args.output_dir",
    "allow_patterns": "a push replaces the whole model",
    "ignore_patterns": "a push replaces the whole model; files whose names start with _ stay here",
    "delete_patterns": "a push replaces the whole model, and deletes the files of an older one",
    "run_as_future": "set blocking=False",
    "max_shard_size": "transformers cuts the weights when it saves them",
    "use_temp_dir": "the folder is args.output_dir",
    "organization": "put it in front, as repo_id='organization/name'",
    "repo_name": "set repo_id",
    "use_auth_token": "set token",
}
REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class PushOptions:
    """Arguments of a push, sorted.

    Args:
        commit_message: of the commit.
        repo_id: where to, instead of `args.hub_model_id`.
        upload: for the Hub's `upload_folder`.
        card: for `create_model_card`.
        token: instead of `args.hub_token`.
        revision: branch, instead of `args.hub_revision`.
        private: instead of `args.hub_private_repo`.
        merge_adapter: instead of `args.merge_adapter`.
    """

    commit_message: str | None
    repo_id: str | None
    upload: dict[str, Any]
    card: dict[str, Any]
    token: str | None = field(default=None, repr=False)
    revision: str | None = None
    private: bool | None = None
    merge_adapter: bool | None = None


def read_push_options(
    commit_message: str | None,
    keywords: Mapping[str, Any],
    token: str | None = None,
    revision: str | None = None,
    private: bool | None = None,
    merge_adapter: bool | None = None,
) -> PushOptions:
    """Push options from the keyword arguments of `push_to_hub`.

    Args:
        commit_message: of the commit.
        keywords: the arguments that `push_to_hub` does not name, by name.
        token, revision, private, merge_adapter: see `PushOptions`.

    Raises:
        TypeError: an argument that is neither the Hub's nor a key of the card.
        ValueError: a message that is a repository's name, or a pull request from a repository that is none.

    Example:
        >>> read_push_options(None, {"create_pr": True, "license": "mit"}).card
        {'license': 'mit'}
    """
    if commit_message is not None and REPOSITORY.fullmatch(commit_message):
        raise ValueError(
            f"commit_message={commit_message!r} looks like a repository, which is another argument: "
            f"push_to_hub(repo_id={commit_message!r})."
        )
    for name in keywords:
        if name in ELSEWHERE:
            raise TypeError(f"push_to_hub does not take {name}: {ELSEWHERE[name]}.")
    check_card_keys(name for name in keywords if name not in HUB)
    repo_id = keywords.get("repo_id")
    if repo_id is not None and not isinstance(repo_id, str):
        raise ValueError(f"repo_id={repo_id!r} must be the name of a repository, such as 'me/my-model'.")
    if not isinstance(keywords.get("create_pr", False), (bool, type(None))):
        raise ValueError(f"create_pr={keywords['create_pr']!r} must be true or false.")
    upload = {name: keywords[name] for name in HUB if name != "repo_id" and keywords.get(name)}
    card = {name: value for name, value in keywords.items() if name not in HUB}
    return PushOptions(commit_message, repo_id, upload, card, token, revision, private, merge_adapter)


def check_card_keys(names: Any) -> None:
    """Check of a model card's keys, so that no typo ends up in it.

    Raises:
        TypeError: it names the nearest argument.
    """
    card_keys = [*CARD, *METADATA]
    push_args = ["commit_message", "blocking", "token", "revision", "private", "merge_adapter", *HUB]
    for name in names:
        if name not in card_keys:
            raise TypeError(
                f"There is no argument {name!r}.{nearest(name, [*push_args, *card_keys])} Nothing was pushed. A key "
                f"of the card's metadata that only you know goes into metadata={{{name!r}: …}}."
            )
