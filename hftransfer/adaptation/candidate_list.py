"""Candidates of `adapt`: named recipes in YAML, one list for each effort and kind of input."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from ..messages import nearest, shown
from ..objectives.drawn_settings import draw_settings
from ..settings import read_choice
from ..yaml_files import read_yaml
from .pretrained_start import check_pretraining_settings, check_setting_names

Effort = Literal["quick", "standard", "thorough"]
LISTS = Path(__file__).parent / "candidates"
STUDENTS = ("student_of", "round_of")
RUN = "run.json"  # stands beside the candidates' folders, so that none may be called so
NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9 _.-]{0,98}[A-Za-z0-9_-])?")
MADE_OF = ("mean_of", "average_of", "student_of", "round_of", "adabn_of")  # other candidates that one is made of
KEYS = {
    "about": "what it is, in one line for the report",
    "seed": "what is added to the run's seed",
    "training": "settings of AdaptationConfig beside the run's own",
    "draw": "true: settings of its objectives that are not given are drawn from their search ranges, by the seed",
    "mean_of": "the mean of these candidates' predictions; shown and learnt from, never handed over",
    "average_of": "these candidates' weights, averaged into one model",
    "student_of": "a model trained on the source, and on the soft labels that this candidate gives the target",
    "round_of": "a round of self-training: the last of these, a student, trained further on what all of them say of "
    "the target, within quotas of the classes",
    "start": "the trained candidate whose weights it starts from; the backbone itself when absent",
    "pretrain": "settings of PretrainingConfig: it starts from the backbone, pre-trained without labels on the rows "
    "of the target and the sources",
    "adabn_of": "this candidate with batch norm's statistics of the target",
    "probe": "true: the backbone as it is, with a final layer that is fitted on the source's features",
}
OF_ALL_ROWS = "all candidates read the same rows and classes, so it belongs to the whole run"
NOT_HERE = {
    **dict.fromkeys(("text_column", "text_pair_column", "tokens_column", "image_column", "label_column"), OF_ALL_ROWS),
    **dict.fromkeys(("label_separator", "merge_label_case", "task"), OF_ALL_ROWS),
    "seed": "write it beside `training`; it is added to the run's seed",
    "output_dir": "every candidate has a folder of its own",
    "overwrite_output_dir": "it belongs to the whole run",
    "resume_from_checkpoint": "a run goes on by itself",
    "push_to_hub": "only what is handed over is pushed",
    "merge_adapter": "what is handed over is a plain model, into which an adapter is merged",
    "reveal_target_labels": "no target label is read here: use finetune",
    "allow_oracle_selection": "nothing is chosen by target labels here",
    "trust_config_code": "it stands on the command line alone",
}


@dataclass(frozen=True)
class CandidateRecipe:
    """One candidate: what it is made of, and how it is trained.

    Args:
        name: of the candidate and of its folder.
        about: what it is, in one line.
        seed: added to the run's seed.
        training: settings of `AdaptationConfig` beside the run's own.
        mean_of, average_of: names of other candidates.
        student_of, adabn_of: name of another candidate.
        start: the candidate whose weights its run starts from. It then goes on for half as long at half the rate.
        round_of: names of other candidates; the last is the student that it starts from.
        pretrain: settings of the pre-training that its start comes from; `None` where it is the backbone itself.
        probe: a final layer fitted on the features of the frozen backbone.
        answers: hash of the answered target rows that it is fitted on, too; empty without.
    """

    name: str
    about: str = ""
    seed: int = 0
    training: dict[str, Any] = field(default_factory=dict)
    mean_of: tuple[str, ...] = ()
    average_of: tuple[str, ...] = ()
    student_of: str = ""
    adabn_of: str = ""
    start: str = ""
    round_of: tuple[str, ...] = ()
    pretrain: dict[str, Any] | None = None
    probe: bool = False
    answers: str = ""

    @property
    def trains(self) -> bool:
        """Whether it takes a training run of its own."""
        return not (self.mean_of or self.average_of or self.adabn_of or self.probe)

    @property
    def base(self) -> bool:
        """Whether it is a plain source-only run."""
        return self.trains and self.pretrain is None and not (self.student_of or self.start or self.training)

    @property
    def learns_soft_labels(self) -> bool:
        """Whether it is trained on soft labels of the target: a student, or a round of self-training."""
        return bool(self.student_of or self.round_of)

    @property
    def reads_target(self) -> bool:
        """Whether its training run reads rows of the target; a pre-training before it does not count."""
        return self.trains and bool(self.learns_soft_labels or self.start or self.training)

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the candidates that it is made of."""
        return (
            *self.mean_of,
            *self.average_of,
            *self.round_of,
            *(name for name in (self.student_of, self.adabn_of, self.start) if name and name not in self.round_of),
        )

    @property
    def cost(self) -> float:
        """Cost of the run beside a source-only one, roughly: rows of a step."""
        rows = (2.0 if self.reads_target and not self.learns_soft_labels else 1.0) if self.trains else 0.0
        return rows * (2.0 if self.learns_soft_labels and not self.start else 1.0) + 3.0 * (self.pretrain is not None)


def candidate_list(
    effort: str = "standard", modality: str = "text", from_scratch: bool = False
) -> list[CandidateRecipe]:
    """Candidates that an effort asks for.

    Args:
        effort: `"quick"`, `"standard"` or `"thorough"`.
        modality: `"text"` or `"image"`.
        from_scratch: the model has no weights yet, and so no features to fit a probe on.

    Raises:
        ValueError: no such effort.

    Example:
        >>> [candidate.name for candidate in candidate_list("quick")]
        ['source-only']
    """
    read_choice("effort", effort, Effort)
    recipes = read_candidates(LISTS / f"{effort}_{modality}.yaml")
    if not from_scratch:
        return recipes
    probes = {recipe.name for recipe in recipes if recipe.probe}
    kept = [recipe for recipe in recipes if recipe.name not in probes]
    return [replace(r, mean_of=tuple(name for name in r.mean_of if name not in probes)) for r in kept]


def read_candidates(source: str | Path | Mapping[str, Any]) -> list[CandidateRecipe]:
    """Candidates from a YAML file, or from the map that such a file holds, checked.

    Args:
        source: a path; or names to recipes, in the order in which they are made. Their keys are those of `KEYS`.

    Raises:
        ValueError: something in it that cannot be, with one message.

    Example:
        >>> candidates = read_candidates({"source-only": {}, "im": {"training": {"objectives": {"im": 0.1}}}})
        >>> [candidate.cost for candidate in candidates]
        [1.0, 2.0]
    """
    if isinstance(source, Mapping):
        title, entries = "candidates", source
    elif not isinstance(source, (str, Path)):
        raise TypeError(f"candidates={source!r} must be the path of a YAML file, or a map of recipes by name.")
    else:
        title, entries = str(source), read_yaml(Path(source), "names of candidates", "recipes")
    candidates: dict[str, CandidateRecipe] = {}
    for name, value in entries.items():
        check_name(f"{title}: {shown(name)}", str(name), candidates)
        candidates[str(name)] = _read(f"{title}: {name}", str(name), value, candidates)
    if not any(candidate.base and candidate.seed == 0 for candidate in candidates.values()):
        raise ValueError(
            f"{title}: there is no plain source-only run, which always competes: add `source-only: {{}}`."
        )
    return list(candidates.values())


def check_name(title: str, name: str, before: Collection[str]) -> None:
    """Check of a candidate's name, which names its folder, too.

    Args:
        title: of messages.
        name: in question.
        before: names that are taken.

    Raises:
        ValueError: it can be no folder's on every system, or is another's but for capitals.
    """
    if not NAME.fullmatch(name) or name.casefold().startswith(RUN):
        raise ValueError(
            f"{title}: a name is up to 100 letters, digits, '-', '_', '.' and spaces, begins with a letter or digit, "
            f"does not end in '.' or a space, and is not {RUN}; it names a folder, too."
        )
    alike = next((other for other in before if other.casefold() == name.casefold()), None)
    if alike is not None:
        raise ValueError(
            f"{title}: {alike!r} has that name already, but for capitals, and both name a folder. Choose another."
        )


def _read(title: str, name: str, value: Any, before: Mapping[str, CandidateRecipe]) -> CandidateRecipe:
    from ..trainers.config import AdaptationConfig

    value = {} if value is None else value
    if not isinstance(value, Mapping):
        raise ValueError(f"{title} must be a map of {', '.join(KEYS)}, not {value!r}.")
    for key in value:
        if key not in KEYS:
            raise ValueError(f"{title}: unknown key {key!r}; there is {', '.join(KEYS)}.{nearest(str(key), KEYS)}")
    training = {} if value.get("training") is None else value["training"]
    if not isinstance(training, Mapping):
        raise ValueError(f"{title}: training must be a map of settings to values, not {training!r}.")
    settings = dict(training)
    if not isinstance(value.get("draw", False), bool):
        raise ValueError(f"{title}: draw={value['draw']!r} must be true or false.")
    check_setting_names(f"{title}: training", settings, AdaptationConfig, NOT_HERE)
    for key in ("start", *MADE_OF):
        if key in value and not value[key] and value[key] != 0:
            raise ValueError(f"{title}: {key} is empty: name a candidate, or leave it out.")
    _check_probe(title, value)
    made_of = [key for key in MADE_OF if key in value]
    if len(made_of) > 1 or (made_of and made_of[0] not in STUDENTS and (settings or value.get("seed"))):
        raise ValueError(f"{title}: {made_of[0]} stands alone; other candidates are listed under names of their own.")
    parts = {key: value[key] for key in made_of} | ({"probe": True} if value.get("probe") else {})
    for key in made_of:
        names = parts[key]
        parts[key] = _part_names(f"{title}: {key}", names, before, key in ("mean_of", "average_of", "round_of"))
    if "round_of" in parts:
        if "start" in value:
            raise ValueError(f"{title}: a round starts from the last candidate of round_of: leave start out.")
        parts["start"] = parts["round_of"][-1]
        if not before[parts["start"]].learns_soft_labels:
            raise ValueError(f"{title}: round_of ends with the student that it goes on from, not {parts['start']!r}.")
    if "start" in value:
        if any(key != "student_of" for key in made_of):
            raise ValueError(f"{title}: only a candidate that trains has a start.")
        parts["start"] = _part_names(f"{title}: start", value["start"], before, False)
    if "pretrain" in value:
        if "start" in parts or any(key != "student_of" for key in made_of):
            raise ValueError(f"{title}: pretrain is for a candidate that trains from the backbone.")
        pretrain = {} if value["pretrain"] is None else value["pretrain"]
        parts["pretrain"] = check_pretraining_settings(f"{title}: pretrain", pretrain)
    seed = 0 if value.get("seed") is None else value["seed"]
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ValueError(f"{title}: seed={seed!r} must be a whole number of at least 0.")
    about = "" if value.get("about") is None else value["about"]
    if isinstance(about, (Mapping, list, tuple)):
        raise ValueError(f"{title}: about must be one line of text, not {about!r}.")
    if value.get("draw"):
        if not settings.get("objectives"):
            raise ValueError(f"{title}: draw is for settings of objectives: name some in training.")
        try:
            settings["objectives"] = draw_settings(settings["objectives"], seed)
        except ValueError as error:
            raise ValueError(f"{title}: training: {error}") from error
    return CandidateRecipe(name, " ".join(str(about).split()), seed, settings, **parts)


def _check_probe(title: str, value: Mapping[str, Any]) -> None:
    probe = value.get("probe", False)
    if not isinstance(probe, bool):
        raise ValueError(f"{title}: probe={probe!r} must be true or false.")
    others = [key for key in value if key not in ("about", "probe")]
    if probe and others:
        raise ValueError(f"{title}: probe stands alone, for nothing of it is drawn or trained: leave out {others[0]}.")


def _part_names(title: str, names: Any, before: Mapping[str, CandidateRecipe], several: bool) -> Any:
    listed = names if isinstance(names, (list, tuple)) else [names]
    if any(isinstance(name, (Mapping, list, tuple, bool)) or name is None for name in listed):
        raise ValueError(f"{title} takes names of candidates, not {names!r}.")
    listed = [str(name) for name in listed]  # YAML reads a name such as 2 as a number
    if several and len(listed) < 2:
        raise ValueError(f"{title} needs the names of at least two candidates.")
    if not several and len(listed) != 1:
        raise ValueError(f"{title} takes the name of one candidate.")
    for name in listed:
        if name not in before:
            raise ValueError(f"{title}: there is no candidate {name!r} before it.{nearest(str(name), before)}")
        if listed.count(name) > 1:
            raise ValueError(f"{title} names {name!r} twice. Name each candidate once.")
        if before[name].mean_of and title.endswith(("average_of", "adabn_of", "start")):
            raise ValueError(f"{title}: {name} is a mean of predictions, of which there is no model.")
    return tuple(listed) if several else listed[0]
